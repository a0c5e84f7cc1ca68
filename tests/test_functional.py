"""The equations of one step against SpikingJelly's neuron and plain Python, rounding against what it is."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from spikingjelly.activation_based.neuron import IFNode
from torch import Tensor

from sj_lowlat import functional

seeds = st.integers(0, 2**31)


def draw(seed: int, *shape: int) -> Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(seed=seeds, threshold=st.floats(0.3, 2))
def test_soft_reset_is_spikingjellys(seed: int, threshold: float) -> None:
    currents, node = draw(seed, 8, 5), IFNode(threshold, None)
    v = torch.zeros(5, dtype=torch.float64)
    for current in currents:
        spike, v = functional.soft_reset_step(v, current, threshold)
        assert torch.equal(spike, node(current))
        torch.testing.assert_close(v, node.v, rtol=0, atol=1e-12)


@given(seed=seeds, threshold=st.floats(0.3, 2), burst=st.integers(1, 5))
def test_bursts(seed: int, threshold: float, burst: int) -> None:
    v, current = draw(seed, 2, 6)
    spike, after = functional.soft_reset_step(v, current, threshold, burst)
    for i in range(6):
        charge = float(v[i]) + float(current[i])
        want = min(max(math.floor(charge / threshold), 0), burst)
        assert float(spike[i]) == want
        assert float(after[i]) == pytest.approx(charge - want * threshold, abs=1e-12)


@given(seed=seeds, threshold=st.floats(0.3, 2), burst=st.integers(1, 5), most=st.integers(1, 4))
def test_signed(seed: int, threshold: float, burst: int, most: int) -> None:
    v, current = draw(seed, 2, 6)
    count = torch.randint(0, most + 1, (6,), generator=torch.Generator().manual_seed(seed)).double()
    spike, after, counted = functional.signed_step(v, count, current, threshold, most, burst)
    for i in range(6):
        charge, n = float(v[i]) + float(current[i]), int(count[i])
        want = min(max(math.floor(charge / threshold), -burst), burst)
        want = min(max(n + want, 0), most) - n
        assert (float(spike[i]), float(counted[i])) == (want, n + want)
        assert float(after[i]) == pytest.approx(charge - want * threshold, abs=1e-12)


@given(seed=seeds, threshold=st.floats(0.3, 2), slope=st.floats(0.05, 1))
def test_imbalanced(seed: int, threshold: float, slope: float) -> None:
    v, current = draw(seed, 2, 6) * torch.tensor([1.0, 4.0]).view(2, 1)
    spike, after = functional.imbalanced_step(v, current, threshold, slope)
    for i in range(6):
        charge, low = float(v[i]) + float(current[i]), threshold / slope
        want = 1 if charge >= threshold else -1 if charge <= -low else 0
        assert float(spike[i]) == want
        assert float(after[i]) == pytest.approx(charge - (threshold if want > 0 else low) * want, abs=1e-12)


@given(seed=seeds, axis=st.integers(0, 3))
def test_rounding_to_8_bits(seed: int, axis: int) -> None:
    weight = draw(seed, 3, 2, 2, 4).float()
    weight.select(axis, 0).zero_()  # a dead channel
    q, scale = functional.to_int8(weight, axis)
    assert q.dtype == torch.int8 and [*scale.shape] == [
        n if i == axis else 1 for i, n in enumerate(weight.shape)
    ]
    error = (weight.double() - scale.double() * q.double()).abs()
    assert bool((error <= scale.double() / 2 * (1 + 1e-6)).all())
    rows = q.movedim(axis, 0).flatten(1).short().abs().amax(1)
    assert rows.tolist() == [0] + [127] * (len(rows) - 1)  # the whole range is used
