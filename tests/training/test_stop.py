"""A training that is stopped, extended, or that meets another one in its folder."""

from __future__ import annotations

import json
import shutil
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sj_lowlat.errors import InputError
from sj_lowlat.progress import one_run
from sj_lowlat.training import FinetuneConfig, finetune
from sj_lowlat.training.stop import StopAfterStep

CONFIG = FinetuneConfig(
    iterations=6, batch_size=2, size=32, precision="fp32", checkpoint_every=100, log_every=4, ema=0.9
)


class Stopped(Exception):
    pass


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, b.state_dict()[name]) for name, x in a.state_dict().items())


def log(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [{**json.loads(line), "seconds": 0} for line in lines]


def more(iterations: int) -> FinetuneConfig:
    return FinetuneConfig(**{**CONFIG.to_json(), "iterations": iterations})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_step_and_its_checkpoint(
    number: signal.Signals, make_detector: Any, make_data: Any, tmp_path: Path
) -> None:
    def handler(*_: object) -> None:
        raise Stopped

    def press(image: Tensor) -> Tensor:
        signal.raise_signal(number)
        return image

    whole = finetune(make_detector(), make_data(), config=CONFIG, output=tmp_path / "whole")
    before = signal.signal(number, handler)
    try:
        with pytest.raises(Stopped):  # in the third step
            finetune(make_detector(), make_data(broken=(5, press)), config=CONFIG, output=tmp_path / "cut")
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)
    record = torch.load(tmp_path / "cut" / "checkpoint.pt", weights_only=True)
    assert record["iteration"] == 3
    resumed = finetune(make_detector(), make_data(), config=CONFIG, output=tmp_path / "cut")
    assert same(whole, resumed)
    assert log(tmp_path / "whole") == log(tmp_path / "cut")


def test_a_second_signal_does_not_wait() -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt), StopAfterStep() as stop:
        signal.raise_signal(signal.SIGINT)
        reached.append(stop.came)
        signal.raise_signal(signal.SIGINT)
        reached.append(None)
    assert reached == [signal.SIGINT]


def test_signals_that_are_ignored_stay_so_and_threads_have_none() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopAfterStep() as stop:
            signal.raise_signal(signal.SIGINT)
        assert stop.came is None
    finally:
        signal.signal(signal.SIGINT, before)

    def enter() -> None:
        with StopAfterStep():
            assert signal.getsignal(signal.SIGINT) is before

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()


def test_a_finished_run_is_extended_by_a_cycle_of_its_own(
    make_detector: Any, make_data: Any, tmp_path: Path
) -> None:
    first = finetune(make_detector(), make_data(), config=more(3), output=tmp_path)
    every_step = FinetuneConfig(**{**CONFIG.to_json(), "iterations": 9, "log_every": 1})
    longer = finetune(make_detector(), make_data(), config=every_step, output=tmp_path)
    assert not same(first, longer)
    rows = log(tmp_path)[1:]
    assert [row["iteration"] for row in rows] == [4, 5, 6, 7, 8, 9]
    rates = [row["lr"] for row in rows]
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, CONFIG.lr, 6, pct_start=1.5 / 6, cycle_momentum=False
    )
    for rate in rates:  # it rises from lr / 25 and falls, as in a run of 6 steps
        assert rate == pytest.approx(optimiser.param_groups[0]["lr"])
        optimiser.step()
        cycle.step()
    with pytest.raises(InputError, match="its iterations is 9, this run's 3"):
        finetune(make_detector(), make_data(), config=more(3), output=tmp_path)


def test_an_extension_goes_on_as_if_it_had_not_been_interrupted(
    make_detector: Any, make_data: Any, tmp_path: Path
) -> None:
    def press(image: Tensor) -> Tensor:
        signal.raise_signal(signal.SIGINT)
        return image

    for name in ("whole", "cut"):
        finetune(make_detector(), make_data(), config=more(3), output=tmp_path / name)
    whole = finetune(make_detector(), make_data(), config=more(8), output=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        finetune(make_detector(), make_data(broken=(3, press)), config=more(8), output=tmp_path / "cut")
    with pytest.raises(InputError, match="iterations is 8, .* only a finished run can be extended"):
        finetune(make_detector(), make_data(), config=more(9), output=tmp_path / "cut")
    assert same(whole, finetune(make_detector(), make_data(), config=more(8), output=tmp_path / "cut"))


def test_two_runs_do_not_meet_in_one_folder(make_detector: Any, make_data: Any, tmp_path: Path) -> None:
    def enter() -> None:
        with one_run(tmp_path):
            pass

    with ThreadPoolExecutor(1) as other:

        def meet(image: Tensor) -> Tensor:
            with pytest.raises(InputError, match=f"another run writes to {tmp_path}"):
                other.submit(enter).result()
            return image

        finetune(make_detector(), make_data(broken=(3, meet)), config=CONFIG, output=tmp_path)
        files = {path: path.read_bytes() for path in tmp_path.iterdir() if "tfevents" not in path.name}
        held = one_run(tmp_path)
        other.submit(held.__enter__).result()
        with pytest.raises(InputError, match=f"another run writes to {tmp_path}"):
            finetune(make_detector(), make_data(), config=more(9), output=tmp_path)
        assert {path: path.read_bytes() for path in files} == files
        other.submit(held.__exit__, None, None, None).result()
    finetune(make_detector(), make_data(), config=more(9), output=tmp_path)


def test_a_folder_that_is_removed_is_told(make_detector: Any, make_data: Any, tmp_path: Path) -> None:
    def remove(image: Tensor) -> Tensor:
        shutil.rmtree(tmp_path / "run")
        return image

    with pytest.raises(OSError, match=r"cannot write .*log\.jsonl: its folder is gone"):
        finetune(make_detector(), make_data(broken=(3, remove)), config=CONFIG, output=tmp_path / "run")
