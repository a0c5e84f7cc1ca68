"""Commands that are interrupted, at a full disk, or two in one place."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from sj_lowlat import checkpoint, pretrained
from sj_lowlat.data import read_image
from sj_lowlat.errors import InputError
from sj_lowlat.progress import one_run
from sj_lowlat.spike_camera import Camera, encode_traffic

Run = Callable[..., Any]
resource: Any = pytest.importorskip("resource")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Files cannot grow beyond ``size`` bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def after(
    calls: int, module: Any, name: str, monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]
) -> None:
    """Let a function act when it is called for the n-th time."""
    real, count = getattr(module, name), [0]

    def counted(*args: Any, **options: Any) -> Any:
        count[0] += 1
        if count[0] == calls:
            act()
        return real(*args, **options)

    monkeypatch.setattr(module, name, counted)


def interrupt() -> None:
    raise KeyboardInterrupt


def without_command(path: Path) -> Any:
    record = json.loads(path.read_text())
    del record["settings"]
    return record


def test_evaluate_goes_on_after_ctrl_c(
    places: Any, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("evaluate", "--model", places.snn, "--data", places.data, "--monitored", 2)
    assert run(*command, "--output", tmp_path / "whole.json").code == 0
    curve = import_module("sj_lowlat.evaluation.curve")
    with monkeypatch.context() as patch:
        after(5, curve, "predict", patch, interrupt)
        done = run(*command, "--output", tmp_path / "e.json")
    assert done.code == 130 and "e.unfinished.jsonl; the same command goes on" in done.err
    assert names(tmp_path) == ["e.unfinished.jsonl", "whole.json"]
    other = run(*command, "--flush", 2, "--output", tmp_path / "e.json")
    assert other.code == 2 and "schedule was '4+0c4', now it is '4+2c4'" in other.err
    with monkeypatch.context() as patch:
        after(3, curve, "predict", patch, interrupt)  # two pictures are left
        done = run(*command, "--output", tmp_path / "e.json")
    assert done.code == 0, done.err
    assert names(tmp_path) == ["e.json", "whole.json"]
    assert without_command(tmp_path / "e.json") == without_command(tmp_path / "whole.json")
    with monkeypatch.context() as patch:
        after(5, curve, "predict", patch, interrupt)
        assert "nothing is kept without --output" in run(*command).err


def test_evaluate_goes_on_after_a_full_disk(places: Any, run: Run, tmp_path: Path) -> None:
    command = ("evaluate", "--model", places.snn, "--data", places.data, "--monitored", 0)
    assert run(*command, "--output", tmp_path / "whole.json").code == 0
    with largest_file(15_000):
        done = run(*command, "--output", tmp_path / "e.json")
    place = tmp_path / "e.unfinished.jsonl"
    assert done.code == 2 and f"'{place}'" in done.err
    assert (
        place.stat().st_size == 15_000 and len(place.read_bytes().splitlines()) > 2
    )  # the last one is cut off
    assert run(*command, "--output", tmp_path / "e.json").code == 0
    assert without_command(tmp_path / "e.json") == without_command(tmp_path / "whole.json")


@pytest.mark.parametrize("verb", ["evaluate", "detect"])
def test_a_folder_that_is_removed_meanwhile_is_a_sentence(
    verb: str, places: Any, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "o"
    words = {
        "evaluate": ("--model", places.snn, "--data", places.data, "--output", output / "e.json"),
        "detect": (places.pictures, "--model", places.snn, "--output", output),
    }[verb]
    module = import_module(f"sj_lowlat.evaluation.{'curve' if verb == 'evaluate' else 'predict'}")
    after(3, module, "predict", monkeypatch, lambda: shutil.rmtree(output))
    done = run(verb, *words)
    assert done.code == 2 and "unfinished.jsonl: its folder is gone" in done.err and "Errno" not in done.err


def test_a_finished_training_is_extended(places: Any, run: Run, tmp_path: Path) -> None:
    command = ("finetune", "--model", places.ann, "--data", places.data, "--size", 64, "--output", tmp_path)
    assert run(*command, "--iterations", 2).code == 0
    first = (tmp_path / "model.safetensors").read_bytes()
    done = run(*command, "--iterations", 4)
    assert done.code == 0, done.err
    assert (tmp_path / "model.safetensors").read_bytes() != first
    assert json.loads((tmp_path / "setup.json").read_text())["settings"]["iterations"] == 4
    assert json.loads((tmp_path / "finetune.json").read_text())["config"]["iterations"] == 4
    done = run(*command, "--iterations", 3)
    assert done.code == 2 and "its iterations is 4, this run's 3" in done.err


def test_an_output_that_cannot_be_is_told_before_the_run(
    places: Any, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the run has begun")

    monkeypatch.setattr("sj_lowlat.evaluation.curve.predict", never)
    monkeypatch.setattr("sj_lowlat.simulation.simulate", never)
    monkeypatch.setattr("sj_lowlat.evaluation.predict.predict", never)
    (tmp_path / "file").write_text("")
    below, evaluated = tmp_path / "file" / "x", ("--model", places.snn, "--data", places.data)
    commands = [
        ("evaluate", *evaluated, "--output", below / "e.json"),
        ("evaluate", *evaluated, "--output", tmp_path),
        ("monitor", *evaluated, "--output", below),
        ("detect", "--model", places.snn, places.pictures, "--output", below),
        ("encode", "--data", places.data, "--output", below),
        ("convert", "--model", places.quant, "--output", below),
    ]
    for command in commands:
        done = run(*command)
        assert done.code == 2 and str(tmp_path) in done.err and "Traceback" not in done.err, command
    assert names(tmp_path) == ["file"]


def test_results_are_printed_and_kept_where_they_cannot_be_written(
    places: Any, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    command = ("evaluate", "--model", places.snn, "--data", places.data, "--output", tmp_path / "e.json")
    with monkeypatch.context() as patch:
        patch.setattr("sj_lowlat.files.write_json", full)
        done = run(*command)
    assert done.code == 2 and "SNN, 4 steps" in done.out
    assert f"No space left on device: '{tmp_path / 'e.json'}'" in done.err
    monkeypatch.setattr("sj_lowlat.evaluation.curve.predict", full)  # nothing is left to do
    assert run(*command).code == 0 and names(tmp_path) == ["e.json"]


def test_pictures_that_evaluate_cannot_read(places: Any, run: Run, tmp_path: Path) -> None:
    shutil.copytree(places.pictures.parent, tmp_path / "coco")
    (tmp_path / "coco" / "images" / "000002.png").write_bytes(b"broken")
    (annotations,) = (tmp_path / "coco").rglob("*.json")
    data = f"coco:{annotations}:{tmp_path / 'coco' / 'images'}"
    done = run("evaluate", "--model", places.snn, "--data", data, "--output", tmp_path / "e.json")
    assert done.code == 1 and "000002.png" in done.err and "1 of 6 pictures cannot be read" in done.err
    record = json.loads((tmp_path / "e.json").read_text())
    assert [row["image"] for row in record["failed"]] == [2] and record["points"][0]["images"] == 6
    assert names(tmp_path) == ["coco", "e.json"]


def test_detect_keeps_what_it_has_and_goes_on(
    places: Any, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("detect", "--model", places.snn, places.pictures, "--min-score", 0.05)
    assert run(*command, "--output", tmp_path / "whole").code == 0
    prediction = import_module("sj_lowlat.evaluation.predict")
    with monkeypatch.context() as patch:
        after(4, prediction, "predict", patch, interrupt)
        done = run(*command, "--output", tmp_path / "cut")
    assert done.code == 130 and "the same command goes on" in done.err
    part = json.loads((tmp_path / "cut" / "detections.json").read_text())
    whole = json.loads((tmp_path / "whole" / "detections.json").read_text())
    assert part["images"] == whole["images"][:3] and (part["left"], whole["left"]) == (3, 0)
    with monkeypatch.context() as patch:
        after(4, prediction, "predict", patch, interrupt)
        done = run(*command, "--output", tmp_path / "cut")
    assert done.code == 0 and "3 of 6 files were done before" in done.err
    assert names(tmp_path / "cut") == names(tmp_path / "whole")
    again = json.loads((tmp_path / "cut" / "detections.json").read_text())
    assert again["images"] == whole["images"] and again["left"] == 0
    for picture in (tmp_path / "whole").glob("*.png"):
        assert picture.read_bytes() == (tmp_path / "cut" / picture.name).read_bytes()


def test_another_detect_does_not_go_on(
    places: Any, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = tmp_path / "pictures"
    shutil.copytree(places.pictures, pictures)
    command = ("detect", pictures, "--output", tmp_path / "found")
    with monkeypatch.context() as patch:
        after(3, import_module("sj_lowlat.evaluation.predict"), "predict", patch, interrupt)
        assert run(*command, "--model", places.snn).code == 130
    for words in (("--model", places.ann), ("--model", places.snn, "--min-score", 0.1)):
        done = run(*command, *words)
        assert done.code == 2 and "unfinished run" in done.err
    shutil.copy(pictures / "000000.png", pictures / "000001.png")
    done = run(*command, "--model", places.snn)
    assert done.code == 2 and "whose pictures was" in done.err


@pytest.mark.parametrize("verb", ["evaluate", "detect", "encode", "finetune", "monitor", "convert", "demo"])
def test_two_commands_in_one_place(verb: str, places: Any, run: Run, tmp_path: Path) -> None:
    words = {
        "evaluate": ("--model", places.snn, "--data", places.data),
        "detect": ("--model", places.snn, places.pictures),
        "encode": ("--data", places.data, "--frames", 8, "--size", 32),
        "finetune": ("--model", places.ann, "--data", places.data),
        "monitor": ("--model", places.snn, "--data", places.data),
        "convert": ("--model", places.quant),
        "demo": ("--train-images", 2),
    }[verb]
    name = "e.json" if verb == "evaluate" else ""
    held = one_run(tmp_path, "e.unfinished.jsonl" if name else "")
    with ThreadPoolExecutor(1) as other:
        other.submit(held.__enter__).result()
        before = names(tmp_path)
        done = run(verb, *words, "--output", tmp_path / name)
        assert done.code == 2 and "another run writes to" in done.err and str(tmp_path) in done.err
        assert names(tmp_path) == before
        other.submit(held.__exit__, None, None, None).result()


@pytest.mark.parametrize("verb", ["finetune", "convert", "encode", "detect", "monitor"])
def test_a_full_disk_is_a_sentence_and_nothing_half_is_left(
    verb: str, places: Any, run: Run, tmp_path: Path
) -> None:
    words = {
        "finetune": ("--model", places.ann, "--data", places.data, "--iterations", 1, "--size", 64),
        "convert": ("--model", places.quant),
        "encode": ("--data", places.data, "--frames", 256, "--size", 64),
        "detect": ("--model", places.snn, places.pictures),
        "monitor": ("--model", places.snn, "--data", places.data, "--limit", 1),
    }[verb]
    with largest_file(5_000):
        done = run(verb, *words, "--output", tmp_path / "o")
    assert done.code == 2 and str(tmp_path / "o") in done.err and "Traceback" not in done.err, done.err
    for path in (tmp_path / "o").rglob("*.*"):
        assert not path.name.startswith(".") and path.suffix not in (".pt", ".safetensors", ".dat")
        if path.suffix == ".png":
            read_image(path)
    done = run(verb, *words, "--output", tmp_path / "o")
    assert done.code == 0, done.err


def test_saves_at_a_full_disk_name_their_file(places: Any, tmp_path: Path) -> None:
    net = checkpoint.load(places.quant)
    checkpoint.save(net, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with torch.no_grad():
        next(net.parameters()).mul_(2)
    with largest_file(5_000), pytest.raises(OSError, match=r"model\.safetensors"):
        checkpoint.save(net, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    with largest_file(5_000), pytest.raises(OSError, match=r"net\.safetensors"):
        pretrained.pack(net, tmp_path / "net.safetensors")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_streams_that_are_removed_meanwhile_are_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate = import_module("sj_lowlat.spike_camera.generate")
    camera = Camera(frames=8, size=32)
    with monkeypatch.context() as patch:
        after(2, generate, "write_stream", patch, lambda: shutil.rmtree(tmp_path / "o" / "streams"))
        with pytest.raises(OSError, match="streams in .* were removed meanwhile"):
            encode_traffic(3, tmp_path / "o", camera)
    assert encode_traffic(3, tmp_path / "o", camera).exists()
    assert len(list((tmp_path / "o" / "streams").iterdir())) == 3
    with pytest.raises(InputError, match="was begun with another"):
        encode_traffic(2, tmp_path / "o", camera)


def test_errors_that_were_not_expected_have_a_code_of_their_own(
    places: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(*_: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr("sj_lowlat.cli.sources.open_data", fault)
    done = run("evaluate", "--model", places.ann, "--data", "traffic:2")
    assert done.code == 3 and "RuntimeError: a fault" in done.err and "please report it" in done.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("hidden", [False, True])  # by a library that makes another error of it
def test_a_signal_ends_a_command(
    hidden: bool,
    number: signal.Signals,
    code: int,
    places: Any,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def strike() -> None:
        try:
            os.kill(os.getpid(), number)
        except BaseException as error:
            if hidden:
                raise RuntimeError("something else") from error
            raise

    before = signal.getsignal(number)
    after(3, import_module("sj_lowlat.evaluation.curve"), "predict", monkeypatch, strike)
    done = run("evaluate", "--model", places.ann, "--data", places.data, "--output", tmp_path / "e.json")
    assert done.code == code and "interrupted" in done.err and "Traceback" not in done.err
    assert hidden or "the same command goes on" in done.err
    assert signal.getsignal(number) is before and names(tmp_path) == ["e.unfinished.jsonl"]
