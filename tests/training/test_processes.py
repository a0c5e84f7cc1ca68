"""Two processes train as one does: in float64, where only the order of sums differs."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sj_lowlat import distributed
from sj_lowlat.errors import InputError
from sj_lowlat.layers import QuantReLU
from sj_lowlat.training import FinetuneConfig, Validation, finetune
from tests.processes import two_processes
from tests.training.conftest import Squares, TinyDetector

CONFIG = FinetuneConfig(
    iterations=4, batch_size=5, size=(32, 64), mix=0.5, precision="fp32", ema=0.9, weight_decay=0.1,
    checkpoint_every=2, log_every=1,
)  # fmt: skip


class Plain(nn.Module):
    """Batch norms that average over all steps and over none; dropped channels, levels, an idle parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 6, 3, 2, bias=False), nn.BatchNorm2d(6, affine=False, momentum=None), nn.ReLU(),
            nn.Dropout2d(0.3), nn.Conv2d(6, 4, 3, 2, bias=False),
            nn.BatchNorm2d(4, track_running_stats=False), QuantReLU(4), nn.Conv2d(4, 2, 1),
        )  # fmt: skip
        self.idle = nn.Parameter(torch.ones(2, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@dataclass(frozen=True)
class Case:
    """A training."""

    network: type[nn.Module] = TinyDetector
    names: tuple[str, ...] = ("red", "green", "blue")
    teacher: bool = True
    config: FinetuneConfig = CONFIG
    scored: bool = False

    def run(self, folder: Path | None, reads: int = 0) -> nn.Module:
        """:param reads: pictures that are read before the power fails"""
        torch.manual_seed(0)
        model, teacher = self.network().double(), self.network().double()
        data = Squares(7, self.names, broken=(reads, cut) if reads else None)
        validation = Validation(size_of_weights, 2) if self.scored else None
        guide = teacher if self.teacher else None
        return finetune(model, data, guide, self.config, folder, validation=validation)


def size_of_weights(network: nn.Module) -> float:
    return sum(float(weights.detach().abs().mean()) for weights in network.parameters())


class PowerCut(Exception):
    pass


def cut(image: Tensor) -> Tensor:
    raise PowerCut


CASES = {
    "labels and a teacher": Case(scored=True),
    "inner maps": Case(config=replace(CONFIG, feature_weight=0.5)),
    "labels": Case(
        teacher=False, config=replace(CONFIG, batch_size=2, mix=1.0, grad_clip=0.5, augment_on_device=True)
    ),
    "any network": Case(Plain, ()),
}


def all_jobs(folder: Path) -> dict[str, Any]:
    """What every process does; ``begun`` holds a run that one process began."""
    own = distributed.rank()
    done: dict[str, Any] = {name: case.run(folder / name).state_dict() for name, case in CASES.items()}
    done["begun by one"] = Case().run(folder / "begun by one").state_dict()
    with pytest.raises(PowerCut):  # the fourth batch, of which process 0 has two pictures and process 1 three
        Case(config=replace(CONFIG, mix=0.0)).run(folder / "begun by two", reads=3 * (2 + own) + 1)
    for name, config in {
        "a small batch": replace(CONFIG, batch_size=1),
        "another seed": replace(CONFIG, seed=own),
    }.items():
        with pytest.raises(InputError) as error:
            Case(config=config).run(None)
        done[name] = str(error.value)
    return done


def work(rank: int, folder: Path) -> None:
    with pytest.raises(InputError, match=r"2 processes were started and torch.distributed is not init"):
        distributed.processes()
    distributed.TIMEOUT = timedelta(seconds=60)
    with distributed.joined():
        done = all_jobs(folder)
    distributed.TIMEOUT = timedelta(seconds=3)
    os.environ["MASTER_PORT"] = str(int(os.environ["MASTER_PORT"]) + 1)
    with pytest.raises(OSError, match="another process of this run ended or") as error, distributed.joined():
        time.sleep(4 * rank)
        distributed.gathered(None)
    done["no answer"] = str(error.value)
    torch.save(done, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("processes")
    with pytest.raises(PowerCut):
        Case().run(root / "begun by one", reads=4 * 5)
    two_processes(work, root)
    return root


@pytest.fixture(scope="module")
def both(folder: Path) -> list[dict[str, Any]]:
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


def near(have: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    torch.testing.assert_close(have, want, rtol=0, atol=1e-10)


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", CASES)
def test_weights_and_losses_are_those_of_one_process(
    name: str, folder: Path, both: list[dict[str, Any]], tmp_path: Path
) -> None:
    one = CASES[name].run(tmp_path).state_dict()
    near(both[0][name], one)
    near(both[1][name], both[0][name])
    alone, together = log(tmp_path), log(folder / name)
    assert [line["iteration"] for line in together] == [1, 2, 3, 4]
    for a, b in zip(alone, together, strict=True):
        assert b["losses"] == pytest.approx(a["losses"], rel=1e-5, abs=1e-7)
    one_by_one, shared = ({line["iteration"]: line["map50"] for line in lines if "map50" in line}
                          for lines in (alone, together))  # fmt: skip
    assert one_by_one == pytest.approx(shared) and list(shared) == ([2, 4] if CASES[name].scored else [])


def test_a_run_goes_on_in_another_number_of_processes(
    folder: Path, both: list[dict[str, Any]], tmp_path: Path
) -> None:
    near(both[0]["begun by one"], Case().run(tmp_path / "whole").state_dict())
    assert [line["iteration"] for line in log(folder / "begun by one")] == [1, 2, 3, 4]
    plain = Case(config=replace(CONFIG, mix=0.0))
    checkpoint = torch.load(folder / "begun by two" / "checkpoint.pt", weights_only=True)
    assert checkpoint["iteration"] == 2 and len(log(folder / "begun by two")) == 3
    near(plain.run(folder / "begun by two").state_dict(), plain.run(tmp_path / "plain").state_dict())


def test_what_cannot_be_shared_is_refused(both: list[dict[str, Any]]) -> None:
    for done in both:
        assert done["a small batch"].startswith("a batch of 1 cannot be shared by 2 processes")
        assert done["another seed"].startswith("seed is 0 in process 0 and 1 in process 1: start all with")


def test_a_process_that_does_not_answer_ends_the_run(both: list[dict[str, Any]]) -> None:
    assert "(Timed out waiting" in both[0]["no answer"] and "[" not in both[0]["no answer"]
    assert "(Connection closed by peer" in both[1]["no answer"] and "the same command" in both[1]["no answer"]
