"""A second of fuzzing for every reader; ``run.py`` does more, guided by coverage."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from tests.fuzz.mutate import mutated
from tests.fuzz.targets import TARGETS, run


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_own_errors(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, chance = TARGETS[name], random.Random(0)
    monkeypatch.chdir(tmp_path)
    seeds = target.seeds()
    target.read(seeds[0], tmp_path)  # is right as it is
    for _ in range(int(300 / target.milliseconds)):
        with torch.random.fork_rng(devices=()):
            run(target, mutated(seeds, chance), tmp_path)
