"""Equal channel ranges through sums of branches: the function stays, in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from sj_lowlat.conversion import convert, prepare
from sj_lowlat.conversion.statistics import collect_scales
from sj_lowlat.layers import QuantReLU
from sj_lowlat.simulation import simulate

IMAGES = torch.rand(3, 2, 8, 8, generator=torch.Generator().manual_seed(0)).double()


Equalised = Callable[[nn.Module, torch.Tensor], Any]


@torch.no_grad()
def check_function(new: nn.Module, old: nn.Module, images: torch.Tensor) -> None:
    difference = new(images) - old(images)
    assert float(difference.norm()) <= 1e-9 * float(old(images).norm())


class Residual(nn.Module):
    """Two sums: one of currents and spikes behind which a ReLU stands, one of spikes of ReLU and identity."""

    def __init__(self, join: Callable[[torch.Tensor], torch.Tensor] = lambda x: x) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(1)
            self.a = nn.Sequential(nn.Conv2d(2, 4, 3, 1, 1), nn.ReLU())
            self.b = nn.Sequential(nn.Conv2d(4, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4))
            self.act = nn.ReLU()
            self.c = nn.Sequential(nn.Conv2d(4, 4, 1), nn.LeakyReLU(0.1))
            self.d = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())
            self.head = nn.Conv2d(4, 3, 1)
            self.join = join
            with torch.no_grad():
                self.a[0].weight.mul_(torch.logspace(-1, 0.5, 4)[:, None, None, None])
                self.c[0].weight.mul_(torch.logspace(0.5, -0.5, 4)[:, None, None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.a(x)
        b = self.act(self.b(a) + self.join(a))
        return self.head(self.d(self.c(b) + b))


def test_what_meets_in_sums_shares_its_scales(equalised: Equalised) -> None:
    net = Residual().double().eval()
    network, plan, before = equalised(net, IMAGES)
    check_function(network, net, IMAGES)
    after = collect_scales(network, plan.activations, IMAGES, "max", True)
    gains = [
        old / new for old, new in ((net.a[0].bias, network.a[0].bias), (net.c[0].bias, network.c[0].bias))
    ]
    gains.append(net.b[1].weight / network.b[1].weight)
    for gain in gains:  # one vector, not 1
        torch.testing.assert_close(gain, gains[0])
        assert float((gain.max() / gain.min()).detach()) > 1.5
    spread = sum(float((before[name] / before[name].mean()).log().std()) for name in plan.activations)
    assert sum(float((after[name] / after[name].mean()).log().std()) for name in plan.activations) < spread
    assert float(after["d.1"].std()) < 1e-6 * float(after["d.1"].mean())  # meets nobody


def test_the_spiking_network_settles_to_it() -> None:
    quant = prepare(Residual().double().eval(), 4, IMAGES, scale="mse", equalise=True).eval()
    with torch.no_grad():
        want = quant(IMAGES)
    torch.testing.assert_close(simulate(convert(quant), IMAGES, 4, flush=60).final, want)


@pytest.mark.parametrize(
    "join",
    [
        nn.ChannelShuffle(2),
        lambda x: x.flip(1),
        lambda x: torch.cat([x[:, 2:], x[:, :2]], 1),
        nn.MaxPool2d(3, 1, 1),
    ],
)
def test_channels_that_meet_others_are_left_alone(
    join: Callable[[torch.Tensor], torch.Tensor], equalised: Equalised
) -> None:
    net = Residual(join).double().eval()
    network, plan, before = equalised(net, IMAGES)
    check_function(network, net, IMAGES)
    after = collect_scales(network, plan.activations, IMAGES, "max", True)
    same = {name for name in plan.activations if torch.allclose(before[name], after[name])}
    assert same == (set() if isinstance(join, nn.MaxPool2d) else {"a.1", "act", "c.1"})


def test_channels_that_a_shuffle_mixes_are_left_alone(equalised: Equalised) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 1), nn.ReLU(), nn.PixelShuffle(2), nn.Conv2d(1, 3, 1), nn.ReLU(), nn.Conv2d(3, 1, 1)
    )
    network, _, _ = equalised(net.double(), IMAGES)
    check_function(network, net, IMAGES)
    assert torch.equal(network[0].weight, net[0].weight) and not torch.equal(network[3].weight, net[3].weight)


def test_features_of_tokens_are_left_alone(equalised: Equalised) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(2, 4), nn.ReLU(), nn.Conv1d(4, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 1)
    )
    tokens = torch.rand(3, 4, 2).double()
    network, _, _ = equalised(net.double(), tokens)
    check_function(network, net, tokens)


class Twice(nn.Module):
    """A layer that is called again, and with it its norm."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU())
        self.layer = nn.Sequential(nn.Conv2d(3, 3, 3, 1, 1), *[nn.BatchNorm2d(3)] * norm, nn.ReLU())
        self.head = nn.Conv2d(3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(self.layer(self.first(x))))


@pytest.mark.parametrize("norm", [False, True])
def test_a_layer_that_is_called_again(norm: bool, equalised: Equalised) -> None:
    net = Twice(norm).double().eval()
    before = copy.deepcopy(net.state_dict())
    check_function(equalised(net, IMAGES)[0], net, IMAGES)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_products_and_other_functions_are_left_alone(equalised: Equalised) -> None:
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (
                nn.Sequential(nn.Conv2d(2, 3, 1), act) for act in (nn.ReLU(), nn.Sigmoid(), nn.ReLU6())
            )
            self.head = nn.Conv2d(6, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.cat([self.a(x) * self.b(x), self.c(x)], 1))

    net = Gate().double()
    network, _, _ = equalised(net, IMAGES)
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in network.state_dict().items())
    quant = prepare(net, 4, IMAGES, equalise=True)
    assert sum(isinstance(module, QuantReLU) for module in quant.modules()) == 3
