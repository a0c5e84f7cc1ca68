"""A signed network with T = L and a long flush computes what the quantised network computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from sj_lowlat.conversion import convert, prepare, replace_layers
from sj_lowlat.models import snn_tiny_yolov3, tiny_yolov3
from sj_lowlat.simulation import simulate


def block(
    into: int,
    out: int,
    kernel: int = 3,
    stride: int = 1,
    norm: bool = True,
    inplace: bool = False,
    **options: Any,
) -> nn.Sequential:
    conv = nn.Conv2d(into, out, kernel, stride, kernel // 2, bias=not norm, **options)
    return nn.Sequential(conv, nn.BatchNorm2d(out) if norm else nn.Identity(), nn.ReLU(inplace))


def rise(into: int, out: int, groups: int = 1) -> nn.Sequential:
    conv = nn.ConvTranspose2d(into, out, 3, 2, 1, output_padding=1, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU())


class Chain(nn.Sequential):
    """Layers in a row, by a list of widths and kinds."""

    def __init__(self, widths: list[int], kinds: list[str]) -> None:
        into, layers = 2, []
        for width, kind in zip(widths, kinds, strict=True):
            if kind == "up":
                layers.append(rise(into, 2 * width))
                width *= 2
            elif kind == "grouped":
                width = into
                layers.append(block(into, into, groups=into))
            elif kind == "pool":
                layers += [block(into, width), nn.AvgPool2d(3, 2, padding=1)]
            else:
                layers.append(block(into, width, stride=2 if kind == "down" else 1, norm=kind != "bias"))
            into = width
        super().__init__(*layers, nn.Conv2d(into, 3, 1))


class TwoHeads(nn.Module):
    """Concats of branches, slices, upsampling by module and function, transposed convolution, two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.std = 0.4, 0.3
        self.stem = block(2, 6, inplace=True)
        self.down = block(6, 8, stride=2)
        self.deep = nn.Sequential(block(8, 8, groups=2), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 6, 1), nn.ReLU())
        self.up = rise(6, 4, groups=2)
        self.join = block(10, 6, norm=False)
        self.fine = nn.Sequential(nn.Conv2d(10, 4, 1), nn.BatchNorm2d(4))
        self.coarse = nn.Conv2d(14, 5, 3, padding=1)

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        x = self.stem((x - self.mean) / self.std)
        down = self.down(x)
        deep = self.deep(down)
        joined = self.join(torch.cat([self.up(deep), x], 1))
        near = F.interpolate(deep[:, 2:6], scale_factor=2, mode="nearest")
        coarse = self.coarse(torch.cat([deep, down], 1))
        return {"fine": self.fine(torch.cat((joined, near), 1)), "coarse": (coarse, coarse.sigmoid())}


class Classifier(nn.Module):
    """VGG-like, with average pooling, dropout and linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            block(2, 4), nn.AvgPool2d(2), block(4, 6), block(6, 6), nn.AdaptiveAvgPool2d(2), nn.Dropout2d()
        )
        self.classifier = nn.Sequential(
            nn.Linear(24, 12),
            nn.BatchNorm1d(12),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(12, 8),
            nn.ReLU(),
            nn.Linear(8, 5),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.features(x)
        return self.classifier(x.view(x.size(0), -1)).softmax(1)


class FullyConvolutional(nn.Module):
    """Classifier whose head is a convolution with post-processing that cannot take an empty batch."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(block(2, 4, stride=2), block(4, 4))
        self.head = nn.Conv2d(4, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.head(self.features(x)).permute(0, 2, 3, 1).contiguous()
        return y.view(y.size(0), -1, 5).mean(1).reshape(y.size(0), -1)


def assert_settles(
    net: nn.Module, images: torch.Tensor, levels: int, per_channel: bool = False, tolerance: float = 1e-6
) -> None:
    """The output after a long flush is the quantised network's, for every image and head."""
    quant = prepare(net, levels, images, per_channel=per_channel, scale="97%").eval()
    with torch.no_grad():
        want = quant(images)
    snn = convert(quant)
    got = simulate(snn, images, levels, flush=96, readout=(levels, levels + 96), chunk=32)
    leaves = torch.utils._pytree.tree_leaves
    plain = [float((a - b).abs().max()) for a, b in zip(leaves(got.outputs[0]), leaves(want), strict=True)]
    for reached, wanted in zip(leaves(got.final), leaves(want), strict=True):
        assert reached.shape == wanted.shape and bool(wanted.std() > 0)
        errors = (reached - wanted).flatten(1).norm(dim=1) / wanted.flatten(1).norm(dim=1)
        assert float(errors.max()) < tolerance, f"relative errors {errors.tolist()}; before the flush {plain}"


@settings(max_examples=15)
@given(
    layers=st.lists(
        st.tuples(st.integers(2, 5), st.sampled_from(["norm", "bias", "down", "up", "grouped", "pool"])),
        min_size=1,
        max_size=3,
    ),
    levels=st.integers(1, 9),
    per_channel=st.booleans(),
    seed=st.integers(0, 999),
)
def test_chains(
    trained: Callable[..., Any], layers: list[tuple[int, str]], levels: int, per_channel: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    net = trained(Chain([width for width, _ in layers], [kind for _, kind in layers]), seed).double()
    assert_settles(net, torch.rand(2, 2, 8, 8, dtype=torch.float64), levels, per_channel)


@settings(max_examples=10)
@given(
    kinds=st.lists(st.sampled_from(["norm", "bias", "down", "up"]), min_size=1, max_size=3),
    levels=st.integers(1, 9),
    slope=st.sampled_from([0.1, 0.3]),
    seed=st.integers(0, 999),
)
def test_leaky_networks_with_max_pools(
    trained: Callable[..., Any], kinds: list[str], levels: int, slope: float, seed: int
) -> None:
    torch.manual_seed(seed)
    net = trained(Chain([4] * len(kinds), kinds), seed).double()
    for layer in list(net)[:-1]:
        layer[2] = nn.Sequential(nn.LeakyReLU(slope), nn.MaxPool2d(2, 1))
    assert_settles(net, torch.rand(2, 2, 20, 20, dtype=torch.float64), levels)


@pytest.mark.parametrize("make", [TwoHeads, Classifier, FullyConvolutional])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("levels", [4, 16])
def test_branches_heads_and_classifiers(
    trained: Callable[..., Any], make: type[nn.Module], per_channel: bool, levels: int
) -> None:
    assert_settles(
        trained(make()).double(), torch.rand(3, 2, 12, 12, dtype=torch.float64), levels, per_channel
    )


@pytest.mark.parametrize("kind", ["mlp", "conv1d"])
def test_networks_on_vectors_and_sequences(kind: str) -> None:
    if kind == "mlp":
        net: nn.Module = nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 3))
        images = torch.rand(4, 6, dtype=torch.float64)
    else:
        net = nn.Sequential(nn.Conv1d(2, 5, 3), nn.ReLU(), nn.Conv1d(5, 3, 3))
        images = torch.rand(4, 2, 9, dtype=torch.float64)
    assert_settles(net.double().eval(), images, 8)


@settings(max_examples=10)
@given(
    levels=st.integers(1, 20), per_channel=st.booleans(), neuron=st.sampled_from(["residual-fix", "signed"])
)
def test_one_hidden_layer_needs_no_flush(
    trained: Callable[..., Any], levels: int, per_channel: bool, neuron: str
) -> None:
    net = trained(nn.Sequential(*block(2, 6), nn.Conv2d(6, 4, 3)), levels).double()
    images = torch.rand(3, 2, 8, 8, dtype=torch.float64)
    quant = prepare(net, levels, images, scale="95%", per_channel=per_channel).eval()
    with torch.no_grad():
        want = quant(images)
    result = simulate(convert(quant, neuron=neuron), images, levels)
    torch.testing.assert_close(result.final, want, rtol=1e-9, atol=1e-12)


def test_plain_if_neurons_lag_behind(trained: Callable[..., Any]) -> None:
    """Without the residual fix a constant current z gives floor(zT) spikes, half a level too few."""
    net = trained(nn.Sequential(*block(2, 6), nn.Conv2d(6, 4, 1, bias=False))).double()
    nn.init.constant_(net[3].weight, 1.0)
    images = torch.rand(3, 2, 8, 8, dtype=torch.float64)
    quant = prepare(net, 8, images).eval()
    with torch.no_grad():
        want = quant(images)
    lag = {
        name: want - simulate(convert(quant, neuron=name), images, 8).final for name in ("if", "residual-fix")
    }
    assert float(lag["residual-fix"].abs().max()) < 1e-9
    assert float(lag["if"].min()) > -1e-9 and float(lag["if"].mean()) > 0.01


@pytest.mark.parametrize("replaced", [False, True])
def test_detectors_in_single_precision(trained: Callable[..., Any], replaced: bool) -> None:
    """64 extra flush steps: head maps within 1e-3 for every image."""
    build = tiny_yolov3 if replaced else snn_tiny_yolov3
    net = trained(build(num_classes=2, width=0.25, input_size=96))
    images = torch.rand(3, 3, 96, 96)
    if replaced:
        net = replace_layers(net, images, calibration_images=2)
    levels = 8
    quant = prepare(net, levels, images).eval()
    with torch.no_grad():
        want = quant(images)
    result = simulate(convert(quant), images, levels, flush=64, readout=(levels, levels + 64))
    assert result.steps == (8, 72)
    for raw, settled, map_ in zip(*result.outputs, want, strict=True):
        errors = [
            ((out - map_).flatten(1).norm(dim=1) / map_.flatten(1).norm(dim=1)).max()
            for out in (raw, settled)
        ]
        assert errors[1] < 1e-3 < errors[0]  # and there was something to settle
