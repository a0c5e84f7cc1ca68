"""Surrogate gradients of the neurons."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from spikingjelly.activation_based import functional, surrogate
from spikingjelly.activation_based.neuron import IFNode
from torch import Tensor, nn

from sj_lowlat.layers import (
    HardResetIFNode,
    ImbalancedIFNode,
    LowLatencyIFNode,
    ResidualFixIFNode,
    SignedIFNode,
)

CLASSES = [ResidualFixIFNode, SignedIFNode, ImbalancedIFNode, HardResetIFNode]


def gradient(node: nn.Module, currents: Tensor, weight: Tensor) -> Tensor:
    currents = currents.clone().requires_grad_()
    (node(currents) * weight).sum().backward()
    assert currents.grad is not None
    return currents.grad


@pytest.mark.parametrize(
    "make", [surrogate.Sigmoid, surrogate.ATan, lambda: surrogate.PiecewiseQuadratic(2.0)]
)
@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize("threshold", [0.5, 1.0])
@pytest.mark.parametrize(("cls", "v_reset"), [(ResidualFixIFNode, None), (HardResetIFNode, 0.0)])
def test_gradient_is_that_of_spikingjelly(
    make: Callable[[], nn.Module],
    detach_reset: bool,
    threshold: float,
    cls: type[LowLatencyIFNode],
    v_reset: float | None,
) -> None:
    arguments = {"surrogate_function": make(), "detach_reset": detach_reset, "step_mode": "m"}
    theirs = IFNode(v_threshold=threshold, v_reset=v_reset, **arguments)
    ours = cls(v_threshold=threshold, ratio=0.0, **arguments)
    currents, weight = torch.randn(8, 3, 5) + 0.3, torch.randn(8, 3, 5)
    assert torch.equal(ours(currents), theirs(currents))
    functional.reset_net(ours), functional.reset_net(theirs)
    want = gradient(theirs, currents, weight)
    torch.testing.assert_close(gradient(ours, currents, weight), want, rtol=1e-4, atol=1e-6)
    assert want.abs().max() > 0.1


@pytest.mark.parametrize("cls", CLASSES)
def test_gradient_of_one_step(cls: type[LowLatencyIFNode]) -> None:
    """Each border at which the neuron fires gives a surrogate bump of its own."""
    node = cls(ratio=0.0, **({"slope": 0.5} if cls is ImbalancedIFNode else {}))
    bump = surrogate.Sigmoid().alpha
    v = torch.linspace(-3, 3, 41)

    def slope_of(x: Tensor) -> Tensor:
        s = torch.sigmoid(bump * x)
        return bump * s * (1 - s)

    for count in (0.0, 2.0):
        node.reset()
        node(torch.zeros(1, 41))
        if cls is SignedIFNode:
            node.count = torch.full((1, 41), count)
        x = v[None].clone().requires_grad_()
        spike = node(x)
        spike.sum().backward()
        want = slope_of(v - 1)
        if cls is SignedIFNode:
            want = want + slope_of(v) * (count > 0)
        elif cls is ImbalancedIFNode:
            want = want + slope_of(-v - 2)
        torch.testing.assert_close(x.grad[0], want)


@pytest.mark.parametrize("cls", CLASSES)
def test_gradient_of_both_step_modes(cls: type[LowLatencyIFNode]) -> None:
    currents, weight = torch.randn(6, 2, 3), torch.randn(6, 2, 3)
    node = cls(v_threshold=torch.tensor([0.5, 1.0, 2.0]), step_mode="m")
    want = gradient(node, currents, weight)
    functional.reset_net(node)
    node.step_mode = "s"
    x = currents.clone().requires_grad_()
    sum((node(x[t]) * weight[t]).sum() for t in range(6)).backward()  # type: ignore[union-attr]
    torch.testing.assert_close(x.grad, want)


def test_signed_cap_passes_no_gradient_upwards() -> None:
    node = SignedIFNode(max_count=1, step_mode="m")
    currents = torch.tensor([[[0.75]], [[0.9]]], requires_grad=True)
    spikes = node(currents)
    assert spikes.flatten().tolist() == [1.0, 0.0]
    assert not node.count.requires_grad
    (grad,) = torch.autograd.grad(spikes[1].sum(), currents)
    s = torch.sigmoid(torch.tensor(4 * 1.15))  # only the border at V = 0 is left: V = 1/2 + 0.75 - 1 + 0.9
    assert grad[1].item() == pytest.approx((4 * s * (1 - s)).item(), rel=1e-4)


@pytest.mark.parametrize("cls", CLASSES)
def test_truncated_backward(cls: type[LowLatencyIFNode]) -> None:
    node, currents = cls(step_mode="m"), torch.randn(6, 2, 3)
    whole = node(currents)
    functional.reset_net(node)
    for part, want in zip(currents.split(3), whole.split(3), strict=True):
        x = part.clone().requires_grad_()
        out = node(x)
        out.sum().backward()  # the graph of the part before is not walked again
        assert torch.equal(out, want) and x.grad.abs().sum() > 0
        functional.detach_net(node)


@pytest.mark.parametrize("cls", CLASSES)
def test_a_run_without_gradients_leaves_an_open_graph_alone(cls: type[LowLatencyIFNode]) -> None:
    node, x = cls(step_mode="m"), torch.randn(4, 2, 3, requires_grad=True)
    (want,) = torch.autograd.grad(node(x).sum() + node.v.square().sum(), x)
    functional.reset_net(node)
    loss = node(x).sum() + node.v.square().sum()
    before, potential = node.v, node.v.detach().clone()
    with torch.no_grad():
        node(torch.ones(2, 2, 3))
    assert not node.v.requires_grad and torch.equal(before, potential)
    assert torch.equal(torch.autograd.grad(loss, x)[0], want)


def test_a_small_network_learns() -> None:
    """Surrogate gradients through a neuron and a linear read-out lower the loss of a separable task."""
    net = nn.Sequential(nn.Linear(2, 16), SignedIFNode(step_mode="m"), nn.Linear(16, 2))
    x = torch.randn(64, 2)
    labels = (x[:, 0] * x[:, 1] > 0).long()
    optimiser = torch.optim.Adam(net.parameters(), lr=0.05)
    losses = []
    for _ in range(40):
        functional.reset_net(net)
        loss = nn.functional.cross_entropy(net(x.expand(4, -1, -1)).mean(0), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
