from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sj_lowlat.errors import InputError
from sj_lowlat.training import FinetuneConfig, finetune

CONFIG = FinetuneConfig(
    iterations=7, batch_size=3, size=(32, 64), precision="fp32", checkpoint_every=2, log_every=1, ema=0.9
)


class PowerCut(Exception):
    pass


def cut(image: Tensor) -> Tensor:
    raise PowerCut


def same_state(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, b.state_dict()[name]) for name, x in a.state_dict().items())


def run(make_detector: Callable[..., nn.Module], data: Any, folder: Path, **kwargs: Any) -> nn.Module:
    """Detection and distillation at once: the tiny detector has BN and dropout."""
    return finetune(
        make_detector(), data, make_detector(seed=1), output=folder, **{"config": CONFIG, **kwargs}
    )


@pytest.mark.parametrize("reads", [3 * 2 + 1, 3 * 5 + 2])  # the third batch, the sixth batch
def test_a_resumed_run_equals_an_uninterrupted_one(
    reads: int, make_detector: Any, make_data: Any, tmp_path: Path
) -> None:
    whole = run(make_detector, make_data(), tmp_path / "whole")
    with pytest.raises(PowerCut):
        run(make_detector, make_data(broken=(reads, cut)), tmp_path / "cut")
    torch.manual_seed(99)  # another process has another state
    resumed = run(make_detector, make_data(), tmp_path / "cut")
    assert same_state(whole, resumed)
    assert not same_state(whole, make_detector())
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("whole", "cut")]
    first, second = ([{**json.loads(line), "seconds": 0} for line in log] for log in logs)
    assert first == second
    assert [line["iteration"] for line in first] == list(range(1, 8))


def test_a_finished_run_is_loaded(make_detector: Any, make_data: Any, tmp_path: Path) -> None:
    whole = run(make_detector, make_data(), tmp_path)
    before = json.loads((tmp_path / "finetune.json").read_text())
    again = run(make_detector, make_data(broken=(1, cut)), tmp_path)  # no picture is read
    assert same_state(whole, again)
    assert json.loads((tmp_path / "finetune.json").read_text())["seconds"] == before["seconds"]


def test_start_over(make_detector: Any, make_data: Any, tmp_path: Path) -> None:
    run(make_detector, make_data(), tmp_path)
    with pytest.raises(PowerCut):
        run(make_detector, make_data(broken=(1, cut)), tmp_path, resume=False)
    assert (tmp_path / "log.jsonl").read_text() == ""


@pytest.mark.parametrize(
    ("change", "name"),
    [({"lr": 0.5}, "lr"), ({"size": 64}, "size"), ({"seed": 3}, "seed"), ({"iterations": 6}, "iterations")],
)
def test_another_config_is_named(
    change: dict[str, Any], name: str, make_detector: Any, make_data: Any, tmp_path: Path
) -> None:
    run(make_detector, make_data(), tmp_path)
    with pytest.raises(InputError, match=f"its {name} is"):
        run(make_detector, make_data(), tmp_path, config=FinetuneConfig(**{**CONFIG.to_json(), **change}))


def test_settings_of_the_run_alone_may_change(make_detector: Any, make_data: Any, tmp_path: Path) -> None:
    whole = run(make_detector, make_data(), tmp_path)
    other = FinetuneConfig(**{**CONFIG.to_json(), "workers": 1, "checkpoint_every": 5, "log_every": 3})
    assert same_state(whole, run(make_detector, make_data(), tmp_path, config=other))


def test_a_checkpoint_of_a_version_with_fewer_settings_goes_on(
    make_detector: Any, make_data: Any, tmp_path: Path
) -> None:
    whole = run(make_detector, make_data(), tmp_path)
    record = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    del record["config"]["frozen_norms"]
    torch.save(record, tmp_path / "checkpoint.pt")
    assert same_state(whole, run(make_detector, make_data(broken=(1, cut)), tmp_path))
    with pytest.raises(InputError, match="its frozen_norms is False, this run's True"):
        run(make_detector, make_data(), tmp_path, config=replace(CONFIG, frozen_norms=True))


def test_another_run_is_named(make_detector: Any, make_data: Any, tmp_path: Path) -> None:
    run(make_detector, make_data(), tmp_path)
    with pytest.raises(InputError, match="its images is 4, this run's 5"):
        run(make_detector, make_data(5), tmp_path)
    with pytest.raises(InputError, match="its distillation is True"):
        finetune(make_detector(), make_data(), config=CONFIG, output=tmp_path)
    wider = make_detector(channels=24)
    before = {name: value.clone() for name, value in wider.state_dict().items()}
    with pytest.raises(InputError, match=r"its clip_raw is \[1, 16, 1, 1\], this run's \[1, 24, 1, 1\]"):
        finetune(wider, make_data(), make_detector(seed=1), CONFIG, tmp_path)
    assert all(torch.equal(value, before[name]) for name, value in wider.state_dict().items())


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_a_broken_checkpoint(content: bytes, make_detector: Any, make_data: Any, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(InputError, match="no checkpoint of finetune"):
        run(make_detector, make_data(), tmp_path)
    torch.save({"model": {}}, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match="no checkpoint of finetune"):
        run(make_detector, make_data(), tmp_path)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("iteration", "x"),
        ("optimiser", {}),
        ("scheduler", 3),
        ("ema", {}),
        ("losses", 1),
        ("rng", torch.zeros(3)),
    ],
)
def test_a_checkpoint_with_a_broken_part(
    part: str, value: Any, make_detector: Any, make_data: Any, tmp_path: Path
) -> None:
    config = FinetuneConfig(**{**CONFIG.to_json(), "iterations": 1})
    finetune(make_detector(), make_data(), config=config, output=tmp_path)
    record = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    torch.save({**record, part: value}, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match=r"checkpoint\.pt is damaged"):
        finetune(make_detector(), make_data(), config=config, output=tmp_path)


def test_a_compressed_checkpoint_is_refused(make_detector: Any, make_data: Any, tmp_path: Path) -> None:
    torch.save({"model": torch.zeros(10**6)}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain:
        entries = {name: plain.read(name) for name in plain.namelist()}
    with zipfile.ZipFile(tmp_path / "checkpoint.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in entries.items():
            packed.writestr(name, data)
    with pytest.raises(InputError, match="it is compressed"):
        run(make_detector, make_data(), tmp_path)


def test_nothing_is_unpickled(make_detector: Any, make_data: Any, tmp_path: Path) -> None:
    torch.save({"config": {}, "run": {}, "model": nn.Linear(1, 1)}, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match="no checkpoint of finetune"):
        run(make_detector, make_data(), tmp_path)


def test_nan_stops_and_keeps_the_last_good_checkpoint(
    make_detector: Any, make_data: Any, tmp_path: Path
) -> None:
    whole = run(make_detector, make_data(), tmp_path / "whole")
    model, calls = make_detector(), []

    def spoil(module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        calls.append(1)
        return inputs[0] * (float("nan") if len(calls) == 6 else 1)

    model.heads[1].register_forward_pre_hook(spoil)
    with pytest.raises(FloatingPointError, match="iteration 6: box is nan"):
        finetune(model, make_data(), make_detector(seed=1), CONFIG, tmp_path / "spoilt")
    assert all(value.isfinite().all() for value in model.state_dict().values())
    record = torch.load(tmp_path / "spoilt" / "checkpoint.pt", weights_only=True)
    assert record["iteration"] == 4
    assert same_state(whole, run(make_detector, make_data(), tmp_path / "spoilt"))
