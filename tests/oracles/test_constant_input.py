"""Constant input: oracles 1 to 3 and the errors of Figure 3."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sj_lowlat import functional, kernels
from sj_lowlat.kernels import FireRule
from sj_lowlat.layers import QuantReLU, ResidualFixIFNode

UNIT = 64  # inputs are multiples of 1/64, so that float32 adds them without rounding

steps = st.integers(1, 40)
ratios = st.integers(0, UNIT - 1).map(lambda k: k / UNIT)


def grid(low: float = -0.5, high: float = 1.5) -> torch.Tensor:
    """Every multiple of 1/64 in [low, high], as a batch of one channel."""
    return (torch.arange(int(low * UNIT), int(high * UNIT) + 1) / UNIT)[:, None]


@given(ratio=ratios, time_steps=steps, threshold=st.sampled_from([0.25, 0.75, 1.0, 3.5]))
def test_oracle_1_count_at_every_step(ratio: float, time_steps: int, threshold: float) -> None:
    z = grid()
    node = ResidualFixIFNode(v_threshold=threshold, ratio=ratio, step_mode="m")
    counts = node((z * threshold).expand(time_steps, *z.shape)).cumsum(0)
    for step, count in enumerate(counts, 1):
        want = [min(max(math.floor(k * step + ratio), 0), step) for k in z.flatten().tolist()]
        assert count.flatten().tolist() == want
        assert torch.equal(functional.constant_input_count(z, step, ratio), count)


@given(time_steps=steps, clip=st.sampled_from([0.5, 1.0, 4.0]))
def test_oracle_1_residual_fix_is_the_quantised_relu(time_steps: int, clip: float) -> None:
    z = grid()
    node = ResidualFixIFNode(step_mode="m")
    rate = node(z.expand(time_steps, *z.shape)).sum(0) / time_steps
    torch.testing.assert_close(rate, functional.quant_relu(z * clip, clip, time_steps) / clip)
    torch.testing.assert_close(rate * clip, QuantReLU(time_steps, clip)(z * clip).detach())


@pytest.mark.parametrize("time_steps", [1, 4, 7, 16])
@pytest.mark.parametrize(
    ("ratio", "bias", "mean_absolute", "mean_square"),
    [(0.0, -1 / 2, 1 / 2, 1 / 3), (0.5, 0.0, 1 / 4, 1 / 12)],
)
def test_oracle_2_figure_3(
    time_steps: int, ratio: float, bias: float, mean_absolute: float, mean_square: float
) -> None:
    samples = 200_000
    z = (torch.arange(samples, dtype=torch.float64) + 0.5) / samples  # midpoint rule over [0, 1]
    v = torch.full_like(z, ratio)
    spikes = kernels.multi_step(z.expand(time_steps, -1), v, torch.ones((), dtype=z.dtype), FireRule.plain())
    error = spikes.sum(0) / time_steps - z
    want = {
        "bias": bias / time_steps,
        "mean_absolute": mean_absolute / time_steps,
        "mean_square": mean_square / time_steps**2,
    }
    assert error.mean().item() == pytest.approx(want["bias"], abs=1e-5)
    assert error.abs().mean().item() == pytest.approx(want["mean_absolute"], abs=1e-5)
    assert error.square().mean().item() == pytest.approx(want["mean_square"], abs=1e-5)
    assert functional.rate_error(time_steps, ratio) == pytest.approx(want)


@given(time_steps=st.integers(1, 12), ratio=st.floats(0, 1))
def test_rate_error_of_any_start(time_steps: int, ratio: float) -> None:
    samples = 20_000
    z = (torch.arange(samples, dtype=torch.float64) + 0.5) / samples
    error = functional.constant_input_count(z, time_steps, ratio) / time_steps - z
    want = functional.rate_error(time_steps, ratio)
    assert error.mean().item() == pytest.approx(want["bias"], abs=1e-3)
    assert error.abs().mean().item() == pytest.approx(want["mean_absolute"], abs=1e-3)
    assert error.square().mean().item() == pytest.approx(want["mean_square"], abs=1e-3)


def test_the_fix_halves_the_mean_error_and_quarters_the_square() -> None:
    plain, fixed = functional.rate_error(8, 0.0), functional.rate_error(8, 0.5)
    assert plain["mean_absolute"] / fixed["mean_absolute"] == pytest.approx(2)
    assert plain["mean_square"] / fixed["mean_square"] == pytest.approx(4)


def integrated_mismatch(levels: int, time_steps: int) -> Fraction:
    """Integral of (rate - quantised)^2 over [0, 1], piece by piece between the jumps of either."""
    jumps = {Fraction(2 * k + 1, 2 * n) for n in (levels, time_steps) for k in range(n)}
    borders = sorted({Fraction(0), Fraction(1), *jumps})
    total = Fraction(0)
    for low, high in zip(borders, borders[1:], strict=False):
        z = (low + high) / 2
        rate, quantised = (
            Fraction(min(math.floor(z * n + Fraction(1, 2)), n), n) for n in (time_steps, levels)
        )
        total += (high - low) * (rate - quantised) ** 2
    return total


@given(levels=st.integers(1, 40), time_steps=st.integers(1, 40))
def test_oracle_3_level_mismatch(levels: int, time_steps: int) -> None:
    want = float(integrated_mismatch(levels, time_steps))
    assert functional.level_mismatch_mse(levels, time_steps) == pytest.approx(want, rel=1e-9, abs=1e-15)


def test_oracle_3_measured_on_neurons() -> None:
    samples, levels = 100_000, 16
    z = ((torch.arange(samples, dtype=torch.float64) + 0.5) / samples)[:, None]
    quantised = functional.quant_relu(z, 1.0, levels)
    for time_steps in (8, 12, 16, 32):
        rate = ResidualFixIFNode(step_mode="m")(z.expand(time_steps, -1, -1)).mean(0)
        mse = (rate - quantised).square().mean().item()
        assert mse == pytest.approx(functional.level_mismatch_mse(levels, time_steps), abs=2e-7)
