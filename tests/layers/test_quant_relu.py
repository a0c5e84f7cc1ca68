"""QuantReLU: values, straight-through gradients, training, bad arguments."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sj_lowlat import functional
from sj_lowlat.errors import InputError
from sj_lowlat.layers import QuantReLU

sizes = st.sampled_from([(3, 4), (2, 4, 5), (2, 4, 3, 2)])


def expected(z: float, clip: float, levels: int) -> float:
    return clip * min(max(math.floor(z * levels / clip + 0.5), 0), levels) / levels


def expected_gradients(z: Tensor, clip: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """dq/dz and dq/dlambda of maths.md, elementwise in float64."""
    q = torch.floor(z * levels / clip + 0.5).clamp(0, levels) * clip / levels
    inside = (z >= 0) & (z <= clip)
    return inside.double(), torch.where(inside, (q - z) / clip, (z > clip).double())


def spread(clip: Tensor, size: tuple[int, ...]) -> Tensor:
    return clip.view(-1, *[1] * (len(size) - 2)).expand(size) if clip.dim() else clip.expand(size)


@given(levels=st.integers(1, 64), size=sizes, channels=st.booleans(), seed=st.integers(0, 2**31))
def test_values(levels: int, size: tuple[int, ...], channels: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    clip = torch.rand((4,) if channels else (), generator=generator) * 3 + 0.1
    layer = QuantReLU(levels, clip, 4 if channels else None).double()
    clips = spread(layer.clip, size)
    z = torch.randn(size, generator=generator, dtype=torch.float64) * clips.detach() * 2
    out = layer(z)
    for got, value, lam in zip(out.flatten(), z.flatten(), clips.flatten(), strict=True):
        assert got.item() == pytest.approx(expected(value.item(), lam.item(), levels), abs=1e-12)
    torch.testing.assert_close(layer.clip, clip.double(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("levels", [1, 2, 3, 5, 8, 16])
def test_half_way_points_go_up(levels: int) -> None:
    clip = float(levels)  # a level is 1.0, and x.5 is exact
    z = torch.arange(-4, 2 * levels + 4) / 2
    want = torch.tensor([expected(value, clip, levels) for value in z.tolist()])
    assert torch.equal(functional.quant_relu(z, clip, levels), want)
    layer = QuantReLU(levels)
    layer.double().set_clip(clip)
    nudged = z.double() * (1 + 1e-12)  # softplus gives the clip to the last bits only
    torch.testing.assert_close(layer(nudged).detach(), want.double())
    even = torch.tensor([0.5, 2.5])
    assert functional.quant_relu(even, 4.0, 4).tolist() == [1.0, 3.0]  # round-half-even gives 0 and 2


@given(levels=st.integers(1, 32), size=sizes, channels=st.booleans(), seed=st.integers(0, 2**31))
def test_gradients(levels: int, size: tuple[int, ...], channels: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    clip = torch.rand((4,) if channels else (), generator=generator) * 3 + 0.1
    layer = QuantReLU(levels, clip, 4 if channels else None).double()
    clips = spread(layer.clip.detach(), size)
    z = torch.randn(size, generator=generator, dtype=torch.float64) * clips * 2
    z.view(-1)[0], z.view(-1)[-1] = 0.0, clips.flatten()[-1]  # both borders count as inside
    z.requires_grad_()
    weight = torch.randn(size, generator=generator, dtype=torch.float64)
    layer(z).backward(weight)

    dz, dclip = expected_gradients(z.detach(), clips, levels)
    torch.testing.assert_close(z.grad, weight * dz)
    over = [d for d in range(len(size)) if d != 1 or not channels]
    # the clip is the softplus of clip_raw, whose derivative is a sigmoid
    want = (weight * dclip).sum(over) * torch.sigmoid(layer.clip_raw.detach())
    torch.testing.assert_close(layer.clip_raw.grad, want)


@given(
    levels=st.integers(1, 64),
    slope=st.sampled_from([0.01, 0.1, 0.3, 0.49]),
    channels=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_leaky_values_and_gradients(levels: int, slope: float, channels: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    clip = torch.rand((4,) if channels else (), generator=generator) * 3 + 0.1
    layer = QuantReLU(levels, clip, 4 if channels else None, slope).double()
    clips = spread(layer.clip.detach(), (3, 4))
    z = torch.randn(3, 4, generator=generator, dtype=torch.float64) * clips * 2
    z[0] *= 20  # beyond the lowest level too
    z.requires_grad_()
    out = layer(z)
    for got, value, lam in zip(out.flatten(), z.flatten().tolist(), clips.flatten().tolist(), strict=True):
        u = value * levels / lam + 0.5
        count = math.floor(u) if u >= 0 else math.floor(slope * u + 0.5)
        assert got.item() == pytest.approx(min(max(count, -levels), levels) * lam / levels, abs=1e-12)
        if abs(value) < 2 * lam:  # near the leaky ReLU: half a level, and the shift of its knee
            leaky = value if value > 0 else slope * value
            error = abs(got.item() - min(max(leaky, -lam), lam))
            assert error <= (0.5 + 0.5 * slope) * lam / levels + 1e-12
    weight = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    out.backward(weight)
    inner = torch.where(z < 0, slope, (z <= clips).double()).detach()
    torch.testing.assert_close(z.grad, weight * inner)
    rounding = (out - torch.nn.functional.leaky_relu(z, slope)).detach() / clips
    want = (weight * torch.where(z > clips, 1.0, rounding)).sum(0 if channels else (0, 1))
    torch.testing.assert_close(layer.clip_raw.grad, want * torch.sigmoid(layer.clip_raw.detach()))


@pytest.mark.parametrize("slope", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("clip", [0.9, torch.tensor([0.5, 0.9, 1.4])])
def test_large_maps_are_taken_block_by_block(
    slope: float, layout: torch.memory_format, clip: float | torch.Tensor
) -> None:
    layer = QuantReLU(8, clip, None if isinstance(clip, float) else 3, slope)
    z = torch.randn(2, 3, 300, 311).contiguous(memory_format=layout)  # more than two blocks
    whole, parts = z.clone().requires_grad_(), z.clone().requires_grad_()
    weight = torch.randn(z.shape)  # of another layout than channels_last
    layer(parts).backward(weight)
    by_blocks = layer.clip_raw.grad.clone()
    layer.zero_grad()
    halves = whole.split(1, 3)  # columns, each smaller than a block
    out = torch.cat([layer(half) for half in halves], 3)
    out.backward(weight)
    assert torch.equal(layer(parts), out) and torch.equal(parts.grad, whole.grad)
    torch.testing.assert_close(by_blocks, layer.clip_raw.grad, rtol=1e-4, atol=1e-2)
    assert layer(parts).is_contiguous(memory_format=layout)


@pytest.mark.parametrize("slope", [-0.1, 0.5, float("nan")])
def test_bad_slope(slope: float) -> None:
    with pytest.raises(InputError, match="slope is .* must lie in"):
        QuantReLU(4, slope=slope)
    assert "slope=0.1" in repr(QuantReLU(4, slope=0.1)) and "slope" not in repr(QuantReLU(4))


@pytest.mark.parametrize("channels", [None, 2])
@pytest.mark.parametrize(("value", "gradient"), [(-1e-6, 0.0), (0.0, 1.0), (1.0, 1.0), (1.0 + 1e-6, 0.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_borders(channels: int | None, value: float, gradient: float, dtype: torch.dtype) -> None:
    layer = QuantReLU(4, 1.0, channels).to(dtype)
    clip = layer.clip.detach().expand(2)
    z = (torch.full((1, 2), value, dtype=dtype) * clip).requires_grad_()
    layer(z).sum().backward()
    assert z.grad.tolist() == [[gradient, gradient]]


def test_gradients_of_a_smooth_stand_in() -> None:
    """The straight-through gradient is that of clamp(z, 0, clip), plus (q - z) / clip inside for the clip."""
    layer = QuantReLU(3, 0.7).double()
    z = torch.linspace(-1, 2, 50, dtype=torch.float64).requires_grad_()
    layer(z).sum().backward()
    clip = layer.clip.detach().requires_grad_()
    clamped = z.detach().requires_grad_()
    torch.minimum(clamped.clamp_min(0), clip).sum().backward()
    assert torch.equal(z.grad, clamped.grad)
    inside = (z > 0) & (z < clip)
    rounding = ((layer(z) - z) / clip)[inside].sum()
    torch.testing.assert_close(layer.clip_raw.grad, (clip.grad + rounding) * torch.sigmoid(layer.clip_raw))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("channels", [None, 8])
@pytest.mark.parametrize("levels", [16, 64])
def test_16_bit_input(dtype: torch.dtype, channels: int | None, levels: int) -> None:
    layer = QuantReLU(levels, 0.73, channels)
    z = (torch.rand(500, 8) * 1.4 - 0.3).to(dtype).requires_grad_()
    out = layer(z)
    assert out.dtype == dtype
    wide = z.detach().float().requires_grad_()
    assert torch.equal(out, layer(wide).to(dtype))  # no border of a level moves
    layer.zero_grad()
    out.sum().backward()
    gradient = layer.clip_raw.grad.clone()
    layer.zero_grad()
    layer(wide).sum().backward()
    assert z.grad.dtype == dtype and torch.equal(z.grad.float(), wide.grad)
    torch.testing.assert_close(gradient, layer.clip_raw.grad, rtol=0.02, atol=0.5)


def test_bf16_autocast_trains() -> None:
    conv, layer = torch.nn.Conv2d(3, 4, 3), QuantReLU(8, 2.0)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(conv(torch.randn(2, 3, 8, 8)))
    out.float().square().mean().backward()
    assert out.dtype == torch.bfloat16
    assert layer.clip_raw.grad.dtype == torch.float32 and conv.weight.grad.isfinite().all()


@pytest.mark.parametrize("channels", [None, 3])
def test_clip_stays_positive_in_training(channels: int | None) -> None:
    layer = QuantReLU(4, 0.05, channels)
    optimiser = torch.optim.Adam(layer.parameters(), lr=5.0)
    for _ in range(60):  # every step asks for smaller output
        optimiser.zero_grad()
        out = layer(torch.rand(16, 3) + 0.5)
        out.sum().backward()
        optimiser.step()
        assert bool((layer.clip > 0).all()) and bool(out.isfinite().all())
    with torch.no_grad():
        layer.clip_raw.fill_(-200.0)  # where softplus alone is 0
    assert bool((layer.clip > 0).all()) and bool(layer(torch.rand(4, 3)).isfinite().all())


def test_clip_is_learned() -> None:
    """Minimising the square error to ReLU of inputs in [0, 1] brings the clip near 1."""
    layer = QuantReLU(8, 0.3)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.02)
    z = torch.rand(4000)
    for _ in range(300):
        optimiser.zero_grad()
        (layer(z) - z).square().mean().backward()
        optimiser.step()
    assert layer.clip.item() == pytest.approx(1.0, abs=0.07)


@pytest.mark.parametrize("clip", [1e-6, 0.01, 1.0, 30.0, 1e4])
def test_clip_round_trip(clip: float) -> None:
    layer = QuantReLU(4, clip)
    assert layer.clip.item() == pytest.approx(clip, rel=1e-5)
    other = QuantReLU(4)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.clip, layer.clip)
    assert torch.equal(copy.deepcopy(layer).clip, layer.clip)


def test_set_clip_fills_every_channel() -> None:
    layer = QuantReLU(4, torch.tensor([1.0, 2.0, 3.0]), channels=3)
    torch.testing.assert_close(layer.clip.detach(), torch.tensor([1.0, 2.0, 3.0]))
    layer.set_clip(0.5)
    torch.testing.assert_close(layer.clip.detach(), torch.full((3,), 0.5))
    assert "levels=4, clip=[3]" in repr(layer) and "clip=0.25" in repr(QuantReLU(4, 0.25))


@pytest.mark.parametrize("levels", [0, -1, 2.0, True, "8"])
def test_bad_levels(levels: object) -> None:
    with pytest.raises(InputError, match="levels is .* whole number of at least 1"):
        QuantReLU(levels)  # type: ignore[arg-type]


@pytest.mark.parametrize("clip", [0.0, -1.0, float("nan"), float("inf"), torch.tensor([1.0, 0.0])])
def test_bad_clip(clip: float | Tensor) -> None:
    with pytest.raises(InputError, match="clip must be positive and finite"):
        QuantReLU(4, clip, channels=2)


def test_wrong_number_of_clips() -> None:
    with pytest.raises(InputError, match=r"shape \(3,\).*shape \(2,\)"):
        QuantReLU(4, torch.ones(3), channels=2)
    with pytest.raises(InputError, match=r"shape \(3,\).*shape \(\)"):
        QuantReLU(4, torch.ones(3))
