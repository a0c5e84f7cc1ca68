"""Spikes that are powers of two, against whole numbers of Python."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sj_lowlat import kernels
from sj_lowlat.kernels import FireRule
from sj_lowlat.kernels.reference import power_of_two
from sj_lowlat.layers import PointwiseIFNode, ResidualFixIFNode, SignedIFNode

seeds = st.integers(0, 2**31)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_power_of_two(dtype: torch.dtype) -> None:
    most = {torch.float16: 2048, torch.bfloat16: 256}.get(dtype, 70000)  # whole numbers that it has
    values = [*range(most + 1)]
    want = [0, *(1 << value.bit_length() - 1 for value in values[1:])]
    for sign in (1, -1):
        found = power_of_two(sign * torch.tensor(values, dtype=dtype))
        assert found.dtype == dtype and found.double().tolist() == [sign * value for value in want]
    assert power_of_two(torch.tensor([float("nan")], dtype=dtype)).isnan().all()


@given(signed=st.booleans(), burst=st.integers(1, 20), limit=st.none() | st.integers(1, 30), seed=seeds)
def test_against_whole_numbers(signed: bool, burst: int, limit: int | None, seed: int) -> None:
    rule = FireRule.signed(limit, burst=burst) if signed else FireRule.plain(burst)
    generator = np.random.default_rng(seed)
    currents = generator.normal(1, 6, (9, 1, 5))
    v, count = torch.full((1, 5), 0.5, dtype=torch.float64), torch.zeros(1, 5, dtype=torch.float64)
    one, powers = torch.ones((), dtype=v.dtype), replace(rule, powers=True)
    spikes = kernels.multi_step(torch.from_numpy(currents), v, one, powers, count)
    for place in range(5):
        potential, n = 0.5, 0
        for step, current in enumerate(currents[:, 0, place]):
            potential += current
            wanted = int(np.floor(potential))
            if signed:
                wanted = max(n + wanted, 0) - n if limit is None else min(max(n + wanted, 0), limit) - n
            wanted = min(max(wanted, -burst if signed else 0), burst)
            spike = int(np.sign(wanted)) << abs(wanted).bit_length() - 1 if wanted > 0 else 0
            if wanted < 0:
                spike = -(1 << (-wanted).bit_length() - 1)
            assert spikes[step, 0, place].item() == spike
            potential, n = potential - spike, n + spike
        assert v[0, place].item() == potential
        assert not signed or count[0, place].item() == n


@given(slope=st.sampled_from([0.0, 0.1, 1.0]), limit=st.integers(1, 40), steps=st.integers(1, 8), seed=seeds)
def test_counts_settle_as_without(slope: float, limit: int, steps: int, seed: int) -> None:
    """A count of up to 2 L wanted is left after at most its bits' number of steps."""
    generator = torch.Generator().manual_seed(seed)
    currents = torch.randn(steps, 1, 40, generator=generator, dtype=torch.float64) * 12
    with_flush = torch.cat([currents, torch.zeros(limit.bit_length() + 1, 1, 40, dtype=torch.float64)])
    counts = []
    for powers in (False, True):
        node = SignedIFNode(burst=2 * limit, max_count=limit, slope=slope, powers=powers, step_mode="m")
        spikes = node(with_flush)
        assert torch.equal(spikes.sum(0), node.count)
        counts.append(node.count)
        sizes = spikes.abs()[spikes != 0].log2()
        assert not powers or torch.equal(sizes, sizes.round())
    assert torch.equal(*counts)


def test_any_function_settles_as_without() -> None:
    currents = torch.randn(6, 2, 50, generator=torch.Generator().manual_seed(0)) * 8
    with_flush = torch.cat([currents, torch.zeros(6, 2, 50)])
    counts, spikes = [], []
    for powers in (False, True):
        node = PointwiseIFNode(nn.SiLU(), scale=4.0, levels=16, burst=32, powers=powers, step_mode="m")
        spikes.append(node(with_flush))
        counts.append(node.count)
    assert torch.equal(*counts) and set(spikes[1].abs().unique().tolist()) <= {0, 1, 2, 4, 8, 16, 32}
    assert 3 in spikes[0].abs().unique().tolist()


@pytest.mark.parametrize(
    "make",
    [
        lambda powers: ResidualFixIFNode(burst=7, powers=powers),
        lambda powers: SignedIFNode(burst=7, powers=powers),
        lambda powers: PointwiseIFNode(nn.SiLU(), scale=4.0, burst=7, powers=powers),
    ],
)
def test_the_gradient_is_that_of_the_spikes_that_are_asked_for(make) -> None:
    currents = torch.randn(1, 200, generator=torch.Generator().manual_seed(0)) * 5
    results = []
    for powers in (False, True):
        x = currents.clone().requires_grad_()
        spikes = make(powers)(x)
        results.append((spikes.detach(), *torch.autograd.grad(spikes.sum(), x)))
    (plain, gradient), (rounded, other) = results
    assert torch.equal(gradient, other) and float(gradient.abs().sum()) > 1
    assert torch.equal(rounded, power_of_two(plain)) and not torch.equal(rounded, plain)


def test_one_call_steps_and_gradients_are_the_same() -> None:
    currents = torch.randn(7, 2, 30, generator=torch.Generator().manual_seed(0)) * 4
    for kind in (ResidualFixIFNode, SignedIFNode):
        node = kind(burst=6, powers=True, step_mode="m")
        want = node(currents)
        node.reset()
        node.step_mode = "s"
        assert torch.equal(torch.stack([node(x.clone().requires_grad_()) for x in currents]).detach(), want)
