"""Bias correction: the mean error of each channel goes into the biases."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from sj_lowlat.conversion import convert, prepare
from sj_lowlat.errors import InputError
from sj_lowlat.simulation import simulate

LEVELS = 3
IMAGES = torch.rand(6, 2, 8, 8, generator=torch.Generator().manual_seed(0)).double()


class Net(nn.Module):
    """Norms with and without parameters, a layer without a bias, two kinds of sums, two heads."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a = nn.Sequential(nn.Conv2d(2, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4), nn.LeakyReLU(0.1))
        self.b = nn.Sequential(nn.Conv2d(4, 4, 3, 1, 1), nn.BatchNorm2d(4, affine=False))
        self.act = nn.ReLU()
        self.c = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.SiLU())
        self.head = nn.Conv2d(4, 3, 1)
        self.features = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a = self.a(x)
        b = self.act(self.b(a) + a)
        c = self.c(b) + b
        return self.head(c), self.features(c)


@pytest.fixture
def net(trained: Callable[..., nn.Module]) -> nn.Module:
    return trained(Net()).double()


@torch.no_grad()
def test_no_mean_error_is_left(net: nn.Module) -> None:
    plain = prepare(net, LEVELS, IMAGES)
    new = prepare(net, LEVELS, IMAGES, bias_correction=True)
    seen: dict[nn.Module, torch.Tensor] = {}

    def before(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        seen[module] = args[0]

    for network in (net, plain, new):
        for name in ("a.2", "act", "c.1"):
            network.get_submodule(name).register_forward_pre_hook(before)
    want, wrong, got = net(IMAGES), plain(IMAGES), new(IMAGES)
    for name in ("a.2", "act", "c.1"):
        ours, theirs = (seen[network.get_submodule(name)].mean((0, 2, 3)) for network in (new, net))
        torch.testing.assert_close(ours, theirs)
    for map_got, map_wrong, map_want in zip(got, wrong, want, strict=True):
        dims = [0, *range(2, map_want.dim())]
        torch.testing.assert_close(map_got.mean(dims), map_want.mean(dims))
        assert float((map_got - map_want).norm()) < float((map_wrong - map_want).norm())


def test_the_spiking_network_settles_to_it(net: nn.Module) -> None:
    quant = prepare(net, LEVELS, IMAGES, bias_correction=True).eval()
    with torch.no_grad():
        want = quant(IMAGES)
    for got, exact in zip(simulate(convert(quant), IMAGES, LEVELS, flush=60).final, want, strict=True):
        torch.testing.assert_close(got, exact)


def test_nothing_is_corrected_where_nothing_is_lost(net: nn.Module) -> None:
    new = prepare(net, 2**24, IMAGES, scale="max", bias_correction=True, finer={"c.1": 4}).eval()
    with torch.no_grad():
        for got, want in zip(new(IMAGES[:2]), net(IMAGES[:2]), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    first = new.get_submodule("a.1")
    torch.testing.assert_close(first.bias, net.get_submodule("a.1").bias)


def test_a_layer_that_is_called_again_gets_a_bias_for_each_call() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Sequential(nn.Conv2d(2, 2, 3, 1, 1), nn.ReLU())
            self.head = nn.Conv2d(2, 1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.layer(self.layer(x)))

    net = Twice().double().eval()
    new = prepare(net, 1, IMAGES, bias_correction=True).eval()
    assert torch.equal(new.layer[0].bias, net.layer[0].bias)  # reads the image
    with torch.no_grad():
        torch.testing.assert_close(new(IMAGES).mean(), net(IMAGES).mean())


def test_a_prepared_network_is_refused(net: nn.Module) -> None:
    with pytest.raises(InputError, match="are for a network that is not prepared yet"):
        prepare(prepare(net, LEVELS, IMAGES), LEVELS, IMAGES, bias_correction=True)
