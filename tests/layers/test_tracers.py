"""Neurons and networks under what follows torch's operations: results are those of a plain call."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from spikingjelly.activation_based import functional, op_counter
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from sj_lowlat.conversion import convert, prepare
from sj_lowlat.layers import LowLatencyIFNode, ResidualFixIFNode, SignedIFNode

KINDS: dict[str, Callable[[], LowLatencyIFNode]] = {
    "residual fix": lambda: ResidualFixIFNode(step_mode="m"),
    "per channel": lambda: ResidualFixIFNode(torch.tensor([0.5, 1.0, 2.0]), step_mode="m"),
    "signed": lambda: SignedIFNode(step_mode="m", burst=2, max_count=4),
    "leaky": lambda: SignedIFNode(step_mode="m", slope=0.1),
}
FIRST, OTHER = (torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(s)) for s in (0, 1))


def trace(node: nn.Module) -> Callable[[Tensor], Tensor]:
    return torch.jit.trace(node, FIRST, check_trace=False)


def export(node: nn.Module) -> Callable[[Tensor], Tensor]:
    try:
        return torch.export.export(node, (FIRST,), strict=False).module()
    except ValueError as error:
        if "assigned during export" not in str(error):
            raise
        pytest.skip("this torch exports no module that assigns to a tensor of its own")


def fx(node: nn.Module) -> Callable[[Tensor], Tensor]:
    return make_fx(node)(FIRST)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("follow", [trace, export, fx])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_neuron(kind: str, follow: Callable[[nn.Module], Callable[[Tensor], Tensor]]) -> None:
    assert torch.equal(follow(KINDS[kind]())(OTHER), KINDS[kind]()(OTHER))


def test_counters_see_its_operations() -> None:
    counter = op_counter.NeuronStateCounter()
    with op_counter.DispatchCounterMode([counter]):
        KINDS["residual fix"]()(FIRST)
    assert counter.get_metric_counts()["Global"]["state_adds"] > 0


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@torch.no_grad()
def test_a_network() -> None:
    """Also its max-pool, whose counts are a kernel's."""
    images = torch.rand(2, 3, 8, 8)
    layers = [nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.1), nn.MaxPool2d(2), nn.Conv2d(4, 2, 1)]
    snn = convert(prepare(nn.Sequential(*layers).eval(), 4, images)).requires_grad_(False)
    traced = torch.jit.trace(snn, images, check_trace=False)
    functional.reset_net(snn)
    torch.testing.assert_close(traced(images), snn(images))
