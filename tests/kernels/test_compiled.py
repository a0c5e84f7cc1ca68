"""The compiled kernel gives the reference's spikes and states, bit by bit."""

from __future__ import annotations

import shutil

import pytest
import torch

from sj_lowlat.kernels import FireRule, multi_step

pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++", "c++"))),
    reason="torch.compile needs a C++ compiler on the CPU",
)


@pytest.mark.parametrize(
    "rule",
    [
        FireRule("if"),
        FireRule("if", burst=2),
        FireRule("signed"),
        FireRule("signed", max_count=3),
        FireRule("signed", max_count=3, burst=2),
        FireRule("signed", slope=0.1),
        FireRule("signed", max_count=3, slope=0.25, burst=2),
    ],
)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "expanded"])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_the_reference(rule: FireRule, layout: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    steps, shape = 4, (2, 3 + seed, 5, 4)
    currents = torch.randn(steps, *shape, generator=generator)
    if layout == "channels_last":
        currents = currents.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    elif layout == "expanded":
        currents = currents[:1].expand(steps, *shape)
    threshold = torch.tensor(0.7)
    states = []
    for kernel in ("reference", "compiled"):
        v = torch.full_like(currents[0], 0.35)
        count = torch.zeros_like(v) if rule.kind == "signed" else None
        first = multi_step(currents, v, threshold, rule, count, kernel)
        second = multi_step(currents, v, threshold, rule, count, kernel)  # the state goes on
        states.append((first, second, v, count if count is not None else v))
    for reference, compiled in zip(*states, strict=True):
        assert torch.equal(reference, compiled)


def test_what_is_not_compiled_goes_to_the_reference() -> None:
    currents = torch.randn(3, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    cases = ((FireRule("imbalanced", slope=0.1), torch.tensor(1.0)), (FireRule("if"), torch.rand(4, 1) + 0.5))
    for rule, threshold in cases:
        results = [
            multi_step(currents, torch.full_like(currents[0], 0.5), threshold, rule, None, kernel)
            for kernel in ("reference", "compiled")
        ]
        assert torch.equal(*results)
