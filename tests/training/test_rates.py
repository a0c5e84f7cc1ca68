"""Training through the spiking network, against simulations and gradients written out."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sj_lowlat.conversion import convert, prepare, replace_layers
from sj_lowlat.errors import ConversionError, InputError
from sj_lowlat.models import tiny_yolov3
from sj_lowlat.network import GraphNetwork
from sj_lowlat.schedule import Schedule
from sj_lowlat.simulation import simulate
from sj_lowlat.training import FinetuneConfig, finetune
from sj_lowlat.training.rates import SpikingRates


@cache
def detector(headroom: int, per_channel: bool, neuron: str) -> GraphNetwork:
    """Leaky ReLUs for signed neurons, ReLUs for others; max-pools, a concatenation, finer levels."""
    torch.manual_seed(0)
    network = tiny_yolov3(2, width=0.25, input_size=96).double().eval()
    if neuron != "signed":
        network = replace_layers(network, pictures(), only_activations=True)
    options = {"finer": {"layers.0.act": 2}, "headroom": headroom, "per_channel": per_channel}
    return prepare(network, 4, pictures(), **options)


def pictures(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(2), dtype=dtype)


@settings(max_examples=12)
@given(
    steps=st.integers(1, 6),
    flush=st.integers(0, 3),
    burst=st.sampled_from([1, 3]),
    charge=st.sampled_from([None, 3, 6]),
    headroom=st.sampled_from([1, 2]),
    per_channel=st.booleans(),
    neuron=st.sampled_from(["signed", "residual-fix"]),
)
def test_the_forward_is_the_spiking_networks(
    steps: int,
    flush: int,
    burst: int,
    charge: int | None,
    headroom: int,
    per_channel: bool,
    neuron: str,
) -> None:
    """The heads give what a simulation reads."""
    images, schedule = pictures(), Schedule(steps, flush, burst, charge)
    quant = detector(headroom, per_channel, neuron)
    with SpikingRates(quant, schedule, neuron).standing_in(images):
        ours = quant(images)
    spiking = convert(quant, neuron=neuron)
    for own, read in zip(ours, simulate(spiking, images, schedule).final, strict=True):
        torch.testing.assert_close(own.detach(), read, rtol=1e-9, atol=1e-9)


class Branches(nn.Module):
    """An activation that is called twice, a sum, a gate, a function with both signs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(3, 6, 1) for _ in range(3))
        self.d, self.out = nn.Conv2d(6, 6, 1), nn.Conv2d(6, 2, 1)
        self.relu, self.gate, self.silu = nn.ReLU(), nn.Sigmoid(), nn.SiLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = self.relu(self.a(x)) + self.silu(self.b(x))
        return self.out(self.relu(self.d(total)) * self.gate(self.c(x)))


@pytest.mark.parametrize("schedule", ["2", "3"])
def test_networks_of_other_shapes(schedule: str) -> None:
    torch.manual_seed(0)
    images = torch.rand(3, 3, 6, 6, dtype=torch.float64)
    quant = prepare(Branches().double(), 4, images)
    with SpikingRates(quant, Schedule.parse(schedule)).standing_in(images):
        ours = quant(images).detach()
    torch.testing.assert_close(ours, simulate(convert(quant), images, schedule).final)
    assert not torch.allclose(ours, quant(images))


class Small(nn.Module):
    """Two layers on single pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.act, self.b = nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.act(self.a(x)))


def test_gradients_are_straight_through_at_mean_currents() -> None:
    torch.manual_seed(1)
    images = torch.rand(5, 3, 1, 1, dtype=torch.float64)
    quant = prepare(Small().double(), 4, images)
    with SpikingRates(quant, Schedule(2, charge=4)).standing_in(images):
        out = quant(images).flatten(1)
    out.square().sum().backward()

    x, (a, b) = images.flatten(1), (quant.get_submodule(name) for name in "ab")
    clip = quant.get_submodule("act").clip.detach()
    z = x @ a.weight.detach().flatten(1).T + a.bias.detach()
    v, counts = clip / 8 * torch.ones_like(z), torch.zeros_like(z)  # V(0) and threshold, in units of z
    for _ in range(2):  # each step carries the charge of two
        v = v + 2 * z / 4
        fires = (v >= clip / 4).double() - ((v < 0) & (counts > 0)).double()
        v, counts = v - fires * clip / 4, counts + fires
    rates = counts * clip / 4
    assert not torch.equal(rates, quant.get_submodule("act")(z[..., None, None]).flatten(1))  # too few steps
    torch.testing.assert_close(out, rates @ b.weight.flatten(1).T + b.bias)
    back = 2 * out.detach()
    torch.testing.assert_close(b.weight.grad.flatten(1), back.T @ rates)
    through = back @ b.weight.detach().flatten(1) * ((z >= 0) & (z <= clip))
    torch.testing.assert_close(a.weight.grad.flatten(1), through.T @ x)


def test_a_short_run_comes_nearer_to_the_teacher(make_data: Any) -> None:
    images = pictures(torch.float32)
    torch.manual_seed(0)
    teacher = tiny_yolov3(3, width=0.25, input_size=96).eval()
    start = prepare(copy.deepcopy(teacher), 4, images, scale="mse")
    kept: dict[str, Any] = {"frozen_norms": True, "precision": "fp32", "ema": 0.5}
    plain = FinetuneConfig(iterations=30, batch_size=4, size=96, lr=1e-3, detection_weight=0, **kept)
    data, distance = make_data(names=()), {}
    for schedule in (None, "2"):
        config = replace(plain, schedule=schedule)
        trained = finetune(copy.deepcopy(start), data, teacher, config)
        with torch.no_grad():
            wanted = teacher(images)
        read = simulate(convert(trained), images, "2").final
        distance[schedule] = sum(float((a - b).square().mean()) for a, b in zip(read, wanted, strict=True))
    assert distance["2"] < 0.8 * distance[None]


def test_what_it_is_not_for(make_detector: Any, make_data: Any) -> None:
    with pytest.raises(InputError, match="frozen_norms"):
        FinetuneConfig(schedule="8")
    with pytest.raises(InputError, match="schedule 'eight'"):
        FinetuneConfig(schedule="eight", frozen_norms=True)
    with pytest.raises(InputError, match="neuron is 'residual-fix' without a schedule"):
        FinetuneConfig(neuron="residual-fix")
    with pytest.raises(ConversionError, match="no negative spikes"):
        SpikingRates(detector(1, False, "signed"), Schedule(4), "residual-fix")
    with pytest.raises(InputError, match="has pre-steps"):
        SpikingRates(detector(1, False, "signed"), Schedule(4, pre=2))
    config = FinetuneConfig(iterations=1, batch_size=2, size=64, schedule="8", frozen_norms=True)
    with pytest.raises(InputError, match="is for a Quant ANN: call prepare first"):
        finetune(make_detector(), make_data(), config=config)
