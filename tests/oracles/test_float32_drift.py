"""Long runs in float32 stay beside those in float64, also where a count stands for a large charge."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sj_lowlat.functional import leaky_charge
from sj_lowlat.kernels import FireRule, multi_step

SLOPE, LEVELS, WINDOW = 0.1, 16, 32


def run(parts: list[Tensor], dtype: torch.dtype, rule: FireRule, kernel: str) -> tuple[Tensor, Tensor]:
    """Counts and whole charges in thresholds after all steps."""
    v = torch.full(parts[0].shape[1:], 0.5, dtype=dtype)
    count = torch.zeros_like(v)
    for part in parts:
        multi_step(part.to(dtype), v, torch.ones((), dtype=dtype), rule, count, kernel)
    count = count.double()
    return count, v.double() + leaky_charge(count, 1.0, SLOPE)


@pytest.mark.parametrize("kernel", ["reference", "auto"])
def test_sliding_window(kernel: str) -> None:
    """Spikes enter a window and leave it again: 20,000 steps, of which the charge keeps the last 32."""
    neurons = 1_000
    rate, weight = torch.rand(neurons), torch.randn(neurons) * 2.5 * LEVELS / WINDOW
    spikes = (torch.rand(20_000, neurons) < rate).float()
    left = torch.cat([torch.zeros(WINDOW, neurons), spikes[:-WINDOW]])
    parts = list(((spikes - left) * weight).unsqueeze(1).split(2_000))
    rule = FireRule.signed(LEVELS, SLOPE, burst=4)
    (_, want), (_, have) = (run(parts, dtype, rule, kernel) for dtype in (torch.float64, torch.float32))
    error = (have - want).abs()
    # with the charge added to V in every step: 1.3e-5 and 2.2e-3
    assert float(error.mean()) < 4e-6 and float(error.max()) < 3e-4


@pytest.mark.parametrize("kernel", ["reference", "auto"])
def test_constant_current(kernel: str) -> None:
    """Counts of up to 2,000, and charges of up to 6,000 thresholds below zero."""
    current = (torch.rand(1, 20_000) - 0.3).expand(2_000, -1, -1)
    parts = list(current.split(500))
    rule = FireRule.signed(slope=SLOPE)
    (want, _), (have, _) = (run(parts, dtype, rule, kernel) for dtype in (torch.float64, torch.float32))
    assert int((have != want).sum()) <= 5  # with the charge added to V in every step: 127
