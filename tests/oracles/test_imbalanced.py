"""The imbalanced neuron stands for leaky ReLU."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from sj_lowlat.layers import ImbalancedIFNode

UNIT = 64


@given(
    time_steps=st.integers(1, 40),
    slope=st.sampled_from([0.125, 0.25, 0.5, 1.0]),
    ratio=st.integers(0, UNIT - 1).map(lambda k: k / UNIT),
    threshold=st.sampled_from([0.5, 1.0, 3.0]),
)
def test_counts_of_constant_input(time_steps: int, slope: float, ratio: float, threshold: float) -> None:
    z = (torch.arange(int(-UNIT / slope), UNIT + 1) / UNIT)[
        :, None
    ]  # the range in which a spike a step is enough
    node = ImbalancedIFNode(threshold, ratio, slope=slope, step_mode="m")
    counts = node((z * threshold).expand(time_steps, -1, -1)).sum(0)
    for value, count in zip(z.flatten().tolist(), counts.flatten().tolist(), strict=True):
        total = ratio + value * time_steps
        assert count == (math.floor(total) if total >= 0 else math.ceil(slope * total))
    error = (counts / time_steps - F.leaky_relu(z, slope)).abs()
    assert float(error.max()) <= (1 + slope) / time_steps


@given(seed=st.integers(0, 2**31), time_steps=st.integers(1, 30), slope=st.sampled_from([0.125, 0.25, 0.5]))
def test_spikes_account_for_the_input(seed: int, time_steps: int, slope: float) -> None:
    """v0 + S(T) - V(T) is the sum of what the spikes carried, whatever the input."""
    generator = torch.Generator().manual_seed(seed)
    currents = (torch.randn(time_steps, 20, 3, generator=generator) * 2 * UNIT).round() / UNIT
    node = ImbalancedIFNode(slope=slope, step_mode="m")
    spikes = node(currents)
    carried = (spikes > 0).sum(0) - (spikes < 0).sum(0) / slope
    assert torch.equal(0.5 + currents.sum(0) - node.v, carried)
    assert set(spikes.unique().tolist()) <= {-1.0, 0.0, 1.0}
