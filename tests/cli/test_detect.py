"""What ``sj-lowlat detect`` reads, prints and leaves behind."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sj_lowlat.cli.words import find_inputs
from sj_lowlat.conversion import set_precision
from sj_lowlat.detector import Detector, load

Run = Callable[..., Any]


def record(folder: Path) -> Any:
    return json.loads((folder / "detections.json").read_text(encoding="utf-8"))


@pytest.fixture
def detect(places: Any, run: Run, tmp_path: Path) -> Run:
    return lambda *words: run(
        "detect", "--model", places.snn, "--output", tmp_path / "o", "--min-score", 0.05, *words
    )


def test_is_the_call_of_python(detect: Run, places: Any, tmp_path: Path) -> None:
    done = detect(places.pictures)
    found = load(places.snn).detect(places.pictures, min_score=0.05)
    for answer, expected in zip(record(tmp_path / "o")["images"], found, strict=True):
        assert {name: answer[name] for name in expected.to_dict()} == expected.to_dict()
        assert (answer["path"], answer["steps"]) == (expected.path, expected.steps) == (expected.path, 4)
    lines = done.out.splitlines()
    assert len(lines) == 6 and lines[2].startswith(f"[3/6] {places.pictures / '000002.png'}: ")
    assert " and " in lines[2] and "(4 steps, " in lines[2] and lines[2].endswith(" ms)")
    assert "6 drawn pictures and detections.json are in" in done.err and "ms a picture" in done.err


def test_json_lines(detect: Run, places: Any, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    done = detect(tmp_path / "broken.png", places.pictures, "--json", "--spikes")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert "error" in lines[0] and done.code == 1
    assert all(line.pop("milliseconds") > 0 and line["spikes"] > 0 for line in lines[1:])
    assert lines[1:] == record(tmp_path / "o")["images"]
    assert "[2/7]" in done.err and "broken.png" in done.err
    quiet = detect(tmp_path / "broken.png", places.pictures, "--json", "--spikes", "--quiet")
    assert len(quiet.out.splitlines()) == 7 and "[2/7]" not in quiet.err and "broken.png" in quiet.err


def test_quiet(detect: Run, places: Any) -> None:
    assert detect(places.pictures, "-q")[1:] == ("", "")


def test_patterns_folders_and_files(detect: Run, places: Any, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        os.link(places.pictures / "000000.png", tmp_path / folder / "x.png")
    os.link(places.pictures / "000001.png", tmp_path / "[1]*.png")  # a name, and no pattern
    words = (tmp_path / "a", tmp_path / "b", f"{places.pictures}/**/00000[45].png", tmp_path / "[1]*.png")
    assert detect(*words).code == 0
    drawn = [answer["drawn"] for answer in record(tmp_path / "o")["images"]]
    assert drawn == ["x.png", "x-2.png", "000004.png", "000005.png", "[1]*.png"]
    assert detect(f"{places.pictures}/*.gif").err.startswith("sj-lowlat: error: nothing is named like ")


def test_standard_input(detect: Run, places: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = places.pictures / "000000.png"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(picture.read_bytes())))
    assert detect("-", picture).code == 0
    piped, read = record(tmp_path / "o")["images"]
    assert (piped["path"], piped["drawn"]) == ("-", "stdin.png") and piped["scores"] == read["scores"]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"")))
    done = detect("-", picture)
    assert done.code == 1 and record(tmp_path / "o")["failed"][0]["path"] == "-"


def test_addresses(detect: Run) -> None:
    done = detect("https://example.org/a.jpg")
    assert done.code == 2 and "https://example.org/a.jpg is an address: download it" in done.err


def test_what_counts_as_found(detect: Run, places: Any, tmp_path: Path) -> None:
    picture = places.pictures / "000000.png"

    def found(*words: object) -> Any:
        assert detect(picture, *words).code == 0
        return record(tmp_path / "o")["images"][0]

    every = found("--max-detections", 10_000)
    names = sorted(set(every["names"]))
    assert len(names) > 1
    assert {*found("--classes", ",".join(names[:2]))["names"]} == {*names[:2]}
    assert found("--max-detections", 3)["scores"] == every["scores"][:3]
    assert len(found("--iou", 0.1)["names"]) < len(every["names"])
    assert found("--min_score", 0.9999)["names"] == []
    done = detect(picture, "--classes", "persn")
    assert done.code == 2 and "no class 'persn'" in done.err and "person" in done.err


def test_batches_keep_the_order(detect: Run, places: Any, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    files = (places.pictures / "000000.png", tmp_path / "broken.png", places.pictures)
    assert detect(*files).code == 1
    plain = record(tmp_path / "o")
    assert detect(*files, "--batch-size", 4).code == 1
    other = record(tmp_path / "o")
    assert other["failed"] == plain["failed"] and len(plain["images"]) == 7
    for one, two in zip(plain["images"], other["images"], strict=True):
        assert two["path"] == one["path"] and two["scores"] == pytest.approx(one["scores"], abs=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_precision(detect: Run, places: Any, tmp_path: Path, precision: str) -> None:
    picture = places.pictures / "000000.png"
    expected = Detector(set_precision(load(places.snn), precision)).detect(picture, min_score=0.05)
    assert detect(picture, "--precision", precision).code == 0
    (answer,) = record(tmp_path / "o")["images"]
    assert answer["scores"] == expected.scores.tolist()
    assert answer["scores"] != load(places.snn).detect(picture, min_score=0.05).scores.tolist()


def test_stops_when_nothing_changes(detect: Run, places: Any, tmp_path: Path) -> None:
    picture = places.pictures / "000000.png"
    assert detect(picture, "--schedule", "4+40", "--stop", "stable").code == 0
    (answer,) = record(tmp_path / "o")["images"]
    expected = load(places.snn).detect(picture, min_score=0.05, schedule="4+40", stop="stable")
    assert answer["steps"] == expected.steps < 44 and answer["scores"] == expected.scores.tolist()


def test_tells_of_pictures_of_an_earlier_run(detect: Run, places: Any) -> None:
    assert "earlier" not in detect(places.pictures).err
    assert "earlier" not in detect(places.pictures).err
    done = detect(places.pictures / "000000.png")
    assert "also holds 5 drawn pictures of an earlier run" in done.err


def test_a_reader_that_goes_away_is_no_error(places: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sj_lowlat", "detect", places.pictures, "--model", places.snn, "--json"]
    command += ["--output", tmp_path / "o", "--min-score", "0.0001", "--max-detections", "1000"]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()  # type: ignore[union-attr]
    _, err = process.communicate(timeout=300)
    assert process.returncode == 141 and b"rror" not in err and b"Traceback" not in err


def test_find_inputs_removes_what_it_spooled(monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import ExitStack

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"x")))
    with ExitStack() as stack:
        ((file, name),), shown = find_inputs(["-"], stack)
        assert file.read_bytes() == b"x" and shown == {file: "-"} and str(name) == "stdin.png"
    assert not file.exists()
