"""Normalisation must not change the network: activations shrink by their scale, outputs stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from sj_lowlat.conversion.analysis import make_plan
from sj_lowlat.conversion.fold import in_channels, out_channels
from sj_lowlat.conversion.normalise import normalise_layer, probe_input_scales
from sj_lowlat.errors import ConversionError
from sj_lowlat.network import GraphNetwork


class Clip(nn.ReLU):
    """ReLU that stops at ``clip``, one number or one per channel."""

    def __init__(self, clip: torch.Tensor | None = None) -> None:
        super().__init__()
        self.clip = torch.ones(()) if clip is None else clip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = (-1, *[1] * (x.dim() - 2)) if self.clip.dim() else ()
        return x.clamp(min=0).minimum(self.clip.to(x).view(shape))


def block(into: int, out: int, **options: Any) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(into, out, 3, padding=1, **options), Clip())


class Branches(nn.Module):
    """Branches whose scales differ meet in concats, slices, upsampling, pooling, groups and linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = block(2, 4)
        self.wide = block(4, 6, stride=2)
        self.up = nn.Upsample(scale_factor=2)
        self.narrow = block(4, 2)
        self.grouped = block(8, 4, groups=2)
        self.rise = nn.Sequential(nn.ConvTranspose2d(4, 6, 2, 2, groups=2), Clip())
        self.head = nn.Conv2d(9, 3, 1)
        self.pool = nn.Sequential(nn.AvgPool2d(3, 2, padding=1), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.fc = nn.Sequential(nn.Linear(12, 5), Clip(), nn.Linear(5, 2))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.stem(x)  # [N, 4, 8, 8]
        both = torch.cat([self.narrow(x), self.up(self.wide(x))], 1)  # [N, 8, 8, 8]
        fine = F.interpolate(both[:, 1:4], scale_factor=2, mode="nearest")
        joined = torch.cat([fine, self.rise(self.grouped(both))], 1)  # [N, 9, 16, 16]
        return self.head(joined), self.fc(self.pool(joined[:, [0, 8, 3]]))


def normalise(
    net: GraphNetwork, x: torch.Tensor, draw: Callable[[int], torch.Tensor]
) -> tuple[dict[str, torch.Tensor], Any, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Give each activation a scale from ``draw(channels)`` and normalise.

    Returns the scales, the network's output before, and each activation's before and after."""
    whole = make_plan(net, {Clip})
    assert whole.refused == []
    scales, plans = {}, whole.layers
    for plan in plans:
        if plan.activation:
            scales[plan.activation] = draw(out_channels(net.get_submodule(plan.name)))
            net.get_submodule(plan.activation).clip = scales[plan.activation]
    seen: dict[str, torch.Tensor] = {}
    for name in scales:
        net.get_submodule(name).register_forward_hook(
            lambda m, a, out, name=name: seen.__setitem__(name, out)
        )
    want = net(x)
    before = dict(seen)
    scales_in = probe_input_scales(net, whole, scales, x)
    for plan in plans:
        scale_out = scales[plan.activation] if plan.activation else torch.ones(())
        normalise_layer(net.get_submodule(plan.name), scales_in[plan.name, 0], scale_out)
    for name in scales:
        net.get_submodule(name).clip = torch.ones(())
    net(x)
    return scales, want, before, seen


@settings(max_examples=12)
@given(per_channel=st.booleans(), seed=st.integers(0, 999))
def test_outputs_stay_and_activations_shrink_by_their_scale(per_channel: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def draw(channels: int) -> torch.Tensor:
        exponents = torch.rand(channels if per_channel else 1, generator=generator, dtype=torch.float64)
        scale = 0.002 * 100**exponents  # branches up to 100 times apart
        return scale if per_channel else scale[0]

    torch.manual_seed(seed)
    x = torch.rand(2, 2, 8, 8, dtype=torch.float64)
    net = GraphNetwork.of(Branches().double().eval(), x)
    scales, want, before, after = normalise(net, x, draw)
    assert len(scales) == 6
    clipped = 0
    for name, scale in scales.items():
        shape = (-1, *[1] * (after[name].dim() - 2)) if scale.dim() else ()
        torch.testing.assert_close(after[name] * scale.view(shape), before[name], rtol=1e-10, atol=1e-12)
        clipped += int((before[name] == scale.view(shape)).sum())
    assert clipped > 0  # the clip itself is part of what must stay
    torch.testing.assert_close(net(x), want, rtol=1e-10, atol=1e-12)


@settings(max_examples=30)
@given(
    kind=st.sampled_from(["conv", "transposed", "linear"]),
    groups=st.integers(1, 3),
    into=st.integers(1, 3),
    out=st.integers(1, 3),
    bias=st.booleans(),
    per_channel=st.booleans(),
)
def test_weights_follow_the_formula(
    kind: str, groups: int, into: int, out: int, bias: bool, per_channel: bool
) -> None:
    if kind == "linear":
        layer: nn.Module = nn.Linear(into, out, bias=bias)
        groups = 1
    else:
        make = nn.ConvTranspose2d if kind == "transposed" else nn.Conv2d
        layer = make(into * groups, out * groups, 2, groups=groups, bias=bias)
    scale_in = torch.rand(in_channels(layer)) + 0.1
    scale_out = torch.rand(out_channels(layer)) + 0.1 if per_channel else torch.tensor(0.7)
    weight = layer.weight.detach().clone()
    old_bias = layer.bias.detach().clone() if bias else None
    normalise_layer(layer, scale_in, scale_out)
    per_output = scale_out.expand(out_channels(layer))
    for group in range(groups):
        for o in range(out):
            for i in range(into):
                # where torch keeps the tap from input i to output o of this group
                place = {
                    "linear": (o, i),
                    "conv": (group * out + o, i),
                    "transposed": (group * into + i, o),
                }[kind]
                factor = scale_in[group * into + i] / per_output[group * out + o]
                torch.testing.assert_close(layer.weight[place].detach(), weight[place] * factor)
    if old_bias is not None:
        torch.testing.assert_close(layer.bias.detach(), old_bias / per_output)


def test_layers_that_share_weights_get_their_own() -> None:
    layers = [nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)]
    layers[1].weight, layers[1].bias = layers[0].weight, layers[0].bias
    before = layers[0].weight.detach().clone()
    for layer in layers:
        normalise_layer(layer, torch.full((2,), 3.0), torch.tensor(2.0))
        torch.testing.assert_close(layer.weight.detach(), before * 1.5)


def probe(
    between: nn.Module, channels: int, scale: torch.Tensor, second: torch.Tensor | None = None
) -> torch.Tensor:
    """Scales that a layer of so many channels sees behind ``between``; two branches if there is a second."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = block(1, 4), block(1, 4)
            self.between = between
            self.last = nn.Conv2d(channels, 1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.a(x) if second is None else torch.cat([self.a(x), self.b(x)], 1)
            return self.last(self.between(y))

    x = torch.rand(1, 1, 4, 4)
    net = GraphNetwork.of(Net().eval(), x)
    plan = make_plan(net, {Clip})
    assert plan.refused == []
    scales = {"a.1": scale} | ({} if second is None else {"b.1": second})
    return probe_input_scales(net, plan, scales, x)["last", 0]


class Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(1, keepdim=True)


class Reorder(nn.Module):
    """Channels and pixels mixed by a reshape, as darknet's reorg does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        return x.reshape(n, c // 4, h * 2, w * 2)


EACH = torch.tensor([1.0, 2.0, 3.0, 100.0])


@pytest.mark.parametrize(
    ("between", "channels", "scale", "second", "want"),
    [
        (nn.Identity(), 4, EACH, None, EACH),
        (nn.Identity(), 8, torch.tensor(0.01), EACH, torch.cat([torch.full((4,), 0.01), EACH])),
        (nn.AvgPool2d(3, 1, padding=1), 4, EACH, None, EACH),
        (nn.AvgPool2d(5, 1, padding=2), 4, EACH, None, EACH),  # every window reaches into the padding
        (nn.AvgPool2d(2, divisor_override=1), 4, EACH, None, EACH),  # a sum is no scale
        (nn.ZeroPad2d(2), 4, EACH, None, EACH),
        (nn.ChannelShuffle(2), 4, EACH, None, EACH[[0, 2, 1, 3]]),
        (nn.PixelUnshuffle(2), 16, EACH, None, EACH.repeat_interleave(4)),
        (nn.PixelShuffle(2), 1, torch.tensor(7.0), None, torch.tensor([7.0])),
        (Reorder(), 1, torch.tensor(7.0), None, torch.tensor([7.0])),
        (Mean(), 1, torch.tensor(7.0), None, torch.tensor([7.0])),
        (Mean(), 1, torch.tensor(7.0), torch.tensor(7.0), torch.tensor([7.0])),
    ],
)
def test_scales_travel(
    between: nn.Module, channels: int, scale: torch.Tensor, second: torch.Tensor | None, want: torch.Tensor
) -> None:
    torch.testing.assert_close(probe(between, channels, scale, second), want)


@pytest.mark.parametrize(
    ("between", "channels", "scale", "second"),
    [
        (nn.PixelShuffle(2), 1, EACH, None),
        (Reorder(), 1, EACH, None),
        (Mean(), 1, EACH, None),
        (Mean(), 1, torch.tensor(7.0), torch.tensor(70.0)),
        (nn.Sequential(nn.PixelShuffle(2), nn.MaxPool2d(2)), 1, EACH, None),  # a maximum hides no scale
    ],
)
def test_mixed_scales_are_refused(
    between: nn.Module, channels: int, scale: torch.Tensor, second: torch.Tensor | None
) -> None:
    with pytest.raises(ConversionError, match="'last' mixes activations of different scale"):
        probe(between, channels, scale, second)
