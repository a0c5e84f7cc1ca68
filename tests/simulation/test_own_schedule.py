"""What is left out of a schedule is the network's own."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sj_lowlat.conversion import convert, prepare
from sj_lowlat.schedule import Schedule
from sj_lowlat.simulation import simulate

IMAGES = torch.rand(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def quant() -> nn.Module:
    torch.manual_seed(1)
    parts = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]
    return prepare(nn.Sequential(*parts, nn.Conv2d(8, 2, 1)).double().eval(), 16, IMAGES).eval()


def error(quant: nn.Module, out: torch.Tensor) -> float:
    with torch.no_grad():
        want = quant(IMAGES)
    return float((out - want).norm() / want.norm())


def test_levels_left_out_are_the_networks(quant: nn.Module) -> None:
    """4 steps with input bring the charge of all 16 levels, whether that is said or not."""
    snn = convert(quant)
    said = simulate(snn, IMAGES, time_steps=4, flush=12, levels=16, burst=4).final
    left_out = simulate(snn, IMAGES, time_steps=4, flush=12, burst=4).final
    assert torch.equal(said, left_out) and error(quant, left_out) < 1e-12
    assert error(quant, simulate(snn, IMAGES, Schedule(4, 12, 4, charge=4)).final) > 0.01  # another network


def test_a_schedule_left_out_is_the_networks(quant: nn.Module) -> None:
    snn = convert(quant)
    assert snn.schedule == Schedule(16)
    assert torch.equal(simulate(snn, IMAGES).final, simulate(snn, IMAGES, 16).final)
    snn.schedule = Schedule.parse("4+12b4")
    assert error(quant, simulate(snn, IMAGES).final) < 1e-12
    assert torch.equal(simulate(snn, IMAGES).final, simulate(snn, IMAGES, "4+12b4c16").final)


def test_other_levels_drop_a_schedule_that_was_made_for_the_old_ones(quant: nn.Module) -> None:
    quant = copy.deepcopy(quant)
    quant.schedule = Schedule(4, 12, 4, charge=16)
    assert prepare(quant, 16).schedule == quant.schedule
    coarse = prepare(quant, 8)
    assert coarse.schedule is None and convert(coarse).schedule == Schedule(8)


def test_a_container_has_the_schedule_of_its_network(quant: nn.Module) -> None:
    snn = convert(quant)
    snn.schedule = Schedule(4, 12, 4)
    assert torch.equal(simulate(nn.Sequential(snn), IMAGES).final, simulate(snn, IMAGES).final)
