"""Sums and products of branches, and neurons of any function, against what they stand for, in float64."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import functional
from torch import nn

from sj_lowlat import checkpoint
from sj_lowlat.conversion import convert, prepare, register_activation
from sj_lowlat.conversion.spike import POINTWISE
from sj_lowlat.graph.operations import LEAF_TYPES
from sj_lowlat.layers import (
    BranchSum,
    PointwiseIFNode,
    QuantPointwise,
    QuantReLU,
    ResidualFixIFNode,
    SpikeProduct,
)
from sj_lowlat.monitors import RemainderMonitor, SynOpMonitor
from sj_lowlat.simulation import simulate

FUNCTIONS = (
    nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.Mish, nn.GELU, nn.ELU, nn.Softplus,
    nn.PReLU,
)  # fmt: skip
functions = st.sampled_from(FUNCTIONS)
seeds = st.integers(0, 2**31)


@settings(max_examples=30)
@given(kind=functions, levels=st.integers(1, 40), per_channel=st.booleans(), seed=seeds)
def test_quantised_function_and_its_gradients(
    kind: type[nn.Module], levels: int, per_channel: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    fn = kind().double()
    z = 3 * torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    clip = torch.rand(3, dtype=torch.float64) + 0.2 if per_channel else torch.tensor(0.7, dtype=torch.float64)
    layer = QuantPointwise(fn, levels, clip, 3 if per_channel else None).double()
    wide = layer.clip.detach().view(-1, 1) if per_channel else layer.clip.detach()
    y = fn(z)
    level = (y * levels / wide + 0.5).floor().clamp(-levels, levels)
    out = layer(z)
    torch.testing.assert_close(out, (level * wide / levels).detach(), rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(out)
    got_z, got_raw = torch.autograd.grad((out * weights).sum(), [z, layer.clip_raw])
    inside = (y.abs() <= wide).double()
    (slope,) = torch.autograd.grad((y * weights * inside).sum(), z)
    torch.testing.assert_close(got_z, slope, rtol=1e-9, atol=1e-12)
    by_clip = weights * torch.where(inside > 0, (out - y) / wide, y.sign())
    by_clip = by_clip.sum((0, 2)) if per_channel else by_clip.sum()
    wanted = by_clip * torch.sigmoid(layer.clip_raw)  # of the softplus
    torch.testing.assert_close(got_raw, wanted.detach(), rtol=1e-9, atol=1e-10)


@settings(max_examples=20)
@given(levels=st.integers(1, 20), per_channel=st.booleans(), seed=seeds)
def test_identity_has_a_form_of_its_own(levels: int, per_channel: bool, seed: int) -> None:
    torch.manual_seed(seed)
    z = 2 * torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    clip, channels = (torch.rand(3) + 0.2, 3) if per_channel else (0.7, None)
    fast = QuantReLU(levels, clip, channels, slope=1.0).double()
    plain = QuantPointwise(nn.Identity(), levels, clip, channels).double()
    weights = torch.randn_like(z)
    outs = [layer(z) for layer in (fast, plain)]
    grads = [
        torch.autograd.grad((out * weights).sum(), [z, layer.clip_raw])
        for out, layer in zip(outs, (fast, plain), strict=True)
    ]
    torch.testing.assert_close(outs[0], outs[1], rtol=1e-12, atol=1e-12)
    for have, want in zip(*grads, strict=True):
        torch.testing.assert_close(have, want, rtol=1e-9, atol=1e-10)


@settings(max_examples=30)
@given(kind=functions, levels=st.integers(1, 20), burst=st.integers(1, 5), seed=seeds)
def test_neuron_settles_to_the_quantised_function(
    kind: type[nn.Module], levels: int, burst: int, seed: int
) -> None:
    torch.manual_seed(seed)
    fn, clip = kind().double(), 0.8
    z = 2 * torch.randn(2, 3, dtype=torch.float64)
    node = PointwiseIFNode(fn, clip, levels, step_mode="m", burst=burst, max_count=levels)
    node.scale = node.scale.double()
    steps = torch.zeros(4 + 2 * levels, 2, 3, dtype=torch.float64)
    steps[:4] = z * levels / clip / 4  # the charge of L steps in four, then flush
    with torch.no_grad():
        spikes = node(steps)
        want = QuantPointwise(fn, levels, clip).double()(z)
    assert int(spikes.abs().max()) <= burst
    torch.testing.assert_close(spikes.sum(0) * clip / levels, want, rtol=1e-6, atol=1e-6)  # clip by softplus
    functional.reset_net(node)
    node.step_mode = "s"
    with torch.no_grad():
        assert torch.equal(torch.stack([node(x) for x in steps]), spikes)
    functional.reset_net(node)
    needs_grad = steps.clone().requires_grad_()
    by_step = torch.stack([node(x) for x in needs_grad])
    assert torch.equal(by_step, spikes)
    (grad,) = torch.autograd.grad(by_step.sum(), needs_grad)
    assert bool(torch.isfinite(grad).all())


@settings(max_examples=30)
@given(steps=st.integers(1, 6), levels=st.integers(1, 9), gate=st.booleans(), seed=seeds)
def test_product_of_the_sums(steps: int, levels: int, gate: bool, seed: int) -> None:
    torch.manual_seed(seed)
    a = torch.randint(-2, 3, (steps, 2, 3, 4, 4)).double()
    b = torch.randint(-2, 3, (steps, 2, 3, *((1, 1) if gate else (4, 4)))).double()
    layer = SpikeProduct(levels)
    out = torch.stack([layer(*pair) for pair in zip(a, b, strict=True)])
    torch.testing.assert_close(out.cumsum(0), a.cumsum(0) * b.cumsum(0) / levels, rtol=1e-12, atol=1e-12)
    functional.reset_net(layer)
    assert torch.equal(layer(a[0], b[0]), out[0])
    assert layer(a[0, :1], b[0, :1]).shape == out[0, :1].shape  # another batch starts anew


def test_sum_with_factors() -> None:
    a, b = torch.randn(2, 3, 4, 4), torch.randint(-3, 4, (2, 3, 4, 4), dtype=torch.int8)
    factor = torch.tensor([0.5, 2.0, 1.0])
    layer = BranchSum.of([None, factor], [False, True])
    want = a + b * factor.view(3, 1, 1)
    for each in (layer, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        torch.testing.assert_close(each(a, b), want, rtol=0, atol=0)
    assert BranchSum.of([None, None], [True, True])(b, b).dtype == torch.float32  # 8 bits would overflow


class Gated(nn.Module):
    """A residual block with squeeze and excitation, and two functions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.SiLU())
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.Sigmoid())
        self.last = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.PReLU(4))
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.stem(x)
        return self.head(self.last(y + y * self.squeeze(y)))


@pytest.mark.parametrize("sums", ["rescale", "tie", "neuron"])
def test_what_is_saved_comes_back(tmp_path: Path, sums: str) -> None:
    torch.manual_seed(0)
    net, images = Gated(), torch.rand(2, 3, 8, 8)
    net.train()(images)
    quant = prepare(net.eval(), 8, images, per_channel=True, sums=sums)
    snn = convert(quant)
    for network in (quant, snn):
        again = checkpoint.load(checkpoint.save(network, tmp_path / type(network).__name__))
        run = (lambda n: simulate(n, images, "4+8b4").final) if network is snn else (lambda n: n(images))
        with torch.no_grad():
            assert torch.equal(run(again), run(network))
    with torch.no_grad():
        settled = simulate(copy.deepcopy(snn).double(), images.double(), 8, flush=60).final
        torch.testing.assert_close(settled, quant.double()(images.double()), rtol=1e-5, atol=1e-6)


def test_a_function_of_ones_own() -> None:
    class Sine(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sin(2 * x)

    register_activation(Sine, pointwise=True)
    try:
        net = nn.Sequential(nn.Conv2d(3, 4, 3), Sine(), nn.Conv2d(4, 2, 1)).double()
        images = torch.rand(2, 3, 6, 6, dtype=torch.float64)
        quant = prepare(net, 8, images).eval()
        with torch.no_grad():
            out = simulate(convert(quant), images, 8, flush=20).final
            torch.testing.assert_close(out, quant(images), rtol=1e-9, atol=1e-12)
    finally:
        POINTWISE.discard(Sine)
        LEAF_TYPES.discard(Sine)


def test_monitors_know_functions_and_branches() -> None:
    torch.manual_seed(0)
    net, images = Gated().double(), torch.rand(2, 3, 8, 8, dtype=torch.float64)
    net.train()(images)
    snn = convert(prepare(net.eval(), 8, images))
    with RemainderMonitor(snn, max_count=8) as remainders, SynOpMonitor(snn) as energy:
        simulate(snn, images, 8, flush=60)
    assert all(layer.exact == 1 for layer in remainders.layers())  # settled
    by_name = {layer.name: layer for layer in energy.layers()}
    assert by_name["last.0"].macs > 0 == by_name["last.0"].synops  # products are graded
    assert by_name["head"].macs == 0 < by_name["head"].synops


def test_a_relu6_becomes_the_neuron_of_a_relu() -> None:
    """torch derives it from Hardtanh, which is a function of both signs."""
    images = torch.rand(2, 3, 6, 6)
    quant = prepare(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6(), nn.Conv2d(4, 2, 1)), 8, images)
    assert type(quant[1]) is QuantReLU and quant[1].slope == 0
    assert type(convert(quant, neuron="residual-fix")[1]) is ResidualFixIFNode
