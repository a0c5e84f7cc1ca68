"""Neurons that correct their start, against hand-made cases and what a count should have been."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sj_lowlat.layers import COSIFNode, Pass, PreStepsIFNode, SRPIFNode

seeds = st.integers(0, 2**31)


def run(node: PreStepsIFNode, currents: Tensor, pre: bool = False, chunk: int | None = None) -> Tensor:
    """Counts ``[N, *]`` of a run in a simulation."""
    count = torch.zeros_like(currents[0])
    for part in currents.split(chunk or len(currents)):
        with torch.no_grad(), node.clock.during(Pass(len(part), part.shape[1], pre=pre)):
            count += node(part.flatten(0, 1)).unflatten(0, (len(part), part.shape[1])).sum(0)
    return count


def corrected(node: PreStepsIFNode, currents: Tensor, chunk: int | None = None) -> tuple[Tensor, Tensor]:
    """Counts of the pre-steps and of the run that follows, both of the same input."""
    before = run(node, currents, True, chunk)
    start = node.corrected_start()
    node.reset()
    node.start_at(start, len(currents))
    return before, run(node, currents, chunk=chunk)


def test_srp_by_hand() -> None:
    currents = torch.tensor(
        [
            [1.0, -1.0],  # V = 1/2, 3/2 -> 1/2, -1/2: fired once, nothing was due
            [0.5, -0.5],  # 1 -> 0, -1/2
            [1.0, 0.5],  # 3/2 -> 1/2, 1 -> 0
            [1.0, -0.5],  # 3/2 -> 1/2, 0: exactly none left
            [-0.25, 0.0],  # 1/4: never fired, still above 0
        ]
    ).T.reshape(2, 1, 5)
    node = SRPIFNode()
    before, after = corrected(node, currents)
    assert before.flatten().tolist() == [1, 1, 2, 1, 0]
    assert after.flatten().tolist() == [0, 0, 2, 1, 0]  # the first two are silenced, the others as before
    assert node.v.isinf().flatten().tolist() == [True, True, False, False, False]
    later = torch.full((8, 1, 5), 100.0)
    assert (run(node, later) == 0).flatten().tolist() == [True, True, False, False, False]


@given(seed=seeds, steps=st.integers(1, 9), channels=st.booleans())
def test_srp_silences_exactly_those_below_zero(seed: int, steps: int, channels: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    threshold = torch.rand(4, generator=generator) + 0.3 if channels else torch.ones(())
    currents = torch.randn(steps, 2, 4, 3, generator=generator) + 0.2
    node, plain = SRPIFNode(threshold), SRPIFNode(threshold)
    before, after = corrected(node, currents)
    assert torch.equal(run(plain, currents), before)
    assert torch.equal(after, torch.where(plain.v < 0, torch.zeros(()), before))


def test_cos_by_hand() -> None:
    currents = torch.tensor(
        [
            [1.0, -1.0, 0.0],  # V: 1/2, -1/2, -1/2 after a spike; one too many
            [0.0, 0.0, 2.0],  # 1/2, 1/2, 3/2; one too few
            [2.0, 2.0, -3.0],  # 3/2, 5/2, -1/2: one too many, and never below a threshold when it fired
            [-2.0, -2.0, 5.0],  # -3/2, -7/2, 1/2
            [0.25, 0.25, 0.25],  # 3/4, 0, 1/4: right
            [-1.0, 0.0, 0.0],  # right: there are no spikes to take back
            [9.0, 9.0, 9.0],  # right: one in every step
        ]
    ).T.reshape(3, 1, 7)
    node = COSIFNode()
    assert run(node, currents, pre=True).flatten().tolist() == [1, 1, 2, 1, 1, 0, 3]
    start = node.corrected_start().flatten()
    assert start.tolist() == pytest.approx([-0.5, 1.5, 0.5 - 1.501, 0.5, 0.5, 0.5, 0.5])
    node.reset()
    node.start_at(start.view(1, 7), 3)
    assert run(node, currents).flatten().tolist() == [0, 2, 1, 1, 1, 0, 3]


@given(
    ratio=st.integers(-64, 192),
    steps=st.sampled_from([4, 8, 16]),
    chunk=st.integers(1, 16),
    channels=st.booleans(),
)
def test_cos_repairs_a_wrong_start(ratio: int, steps: int, chunk: int, channels: bool) -> None:
    """A constant input of z thresholds a step should fire floor(z T + 1/2) times."""
    z = (torch.arange(64, dtype=torch.float64) / 64).view(1, 1, 64)
    threshold = torch.tensor([0.5]) if channels else 2.0  # powers of two, so that nothing is rounded
    node = COSIFNode(threshold, ratio=ratio / 64)
    currents = (z * node.threshold.double()).expand(steps, 1, 1, 64).contiguous()
    before, after = corrected(node, currents, chunk)
    wanted = (z * steps + 0.5).floor()
    free = before == (z * steps + ratio / 64).floor()  # else its count met a limit: none, or one a step
    assert bool(free.any()) and torch.equal(after[free], wanted[free])
    assert ratio != 32 or bool(free.all())


@given(steps=st.integers(1, 12), scale=st.sampled_from([0.5, 1.0, 3.0]), burst=st.integers(1, 3), seed=seeds)
def test_cos_takes_back_or_adds_what_was_wrong(steps: int, scale: float, burst: int, seed: int) -> None:
    """The theorem of the paper: one spike too many or too few is repaired exactly. More are never overdone;
    where no count met a limit, they are repaired as well."""
    generator = torch.Generator().manual_seed(seed)
    currents = (torch.randn(steps, 2, 100, generator=generator, dtype=torch.float64) + 0.4) * scale
    node = COSIFNode(burst=burst)
    before, after = corrected(node, currents)
    wanted = (currents.sum(0) + 0.5).floor().clamp(0, steps * burst)
    wrong = before - wanted
    assert torch.equal(after[wrong.abs() <= 1], wanted[wrong.abs() <= 1])
    assert bool(((after - wanted) * wrong >= 0).all()) and bool(((after - wanted).abs() <= wrong.abs()).all())
    sums = (currents.cumsum(0) + 0.5).floor()
    free = torch.cat([torch.zeros(1, 2, 100), sums]).clamp(min=0).cummax(0).values.diff(dim=0).amax(0) <= 1
    if burst == 1:
        assert torch.equal(after[free & (wrong > 0)], wanted[free & (wrong > 0)])


@pytest.mark.parametrize("kind", [SRPIFNode, COSIFNode])
def test_chunks_change_nothing_and_a_reset_forgets(kind: type[PreStepsIFNode]) -> None:
    currents = torch.randn(9, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0)) + 0.3
    node = kind(torch.tensor([0.5, 1.0, 2.0]))
    want = corrected(node, currents)
    assert node.steps == 18 and not torch.equal(*want)
    for chunk in (1, 2, 4):
        node.reset()
        found = corrected(node, currents, chunk)
        assert all(map(torch.equal, found, want))
    node.reset()
    assert node.steps == 0 and torch.equal(run(node, currents), want[0])
    back = pickle.loads(pickle.dumps(copy.deepcopy(node)))
    back.reset()
    assert all(map(torch.equal, corrected(back, currents), want))


@pytest.mark.parametrize("kind", [SRPIFNode, COSIFNode])
def test_store_v_seq(kind: type[PreStepsIFNode]) -> None:
    currents = torch.randn(9, 2, 50, generator=torch.Generator().manual_seed(0)) * 2
    want = corrected(kind(), currents)
    assert all(map(torch.equal, corrected(kind(store_v_seq=True, step_mode="m"), currents), want))
