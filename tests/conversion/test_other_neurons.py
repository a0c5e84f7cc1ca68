"""Networks of the neurons of other published methods, against the same networks written out."""

from __future__ import annotations

from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch
from spikingjelly.activation_based.neuron import IFNode
from torch import nn

from sj_lowlat.checkpoint import load, save
from sj_lowlat.cli import convert as convert_verb
from sj_lowlat.conversion import convert, prepare
from sj_lowlat.conversion.spike import NEURONS
from sj_lowlat.errors import ConversionError, InputError
from sj_lowlat.layers import HardResetIFNode, RateGatedMaxPool
from sj_lowlat.simulation import simulate

IMAGES = torch.rand(3, 2, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
STEPS = 8


@pytest.fixture(scope="module")
def quant() -> nn.Sequential:
    torch.manual_seed(1)
    parts = [nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU()]
    network = nn.Sequential(*parts, nn.Conv2d(6, 2, 1)).double().eval()
    return prepare(network, STEPS, IMAGES).eval()  # type: ignore[return-value]


def written_out(snn: nn.Module, neurons: list[nn.Module], steps: int) -> torch.Tensor:
    """The mean of the head over the steps, in a plain loop; the neurons take the place of the network's."""
    first, second, head = snn[0], snn[2], snn[4].layer  # type: ignore[index]
    total = torch.zeros(3, 2, 8, 8, dtype=torch.float64)
    for _ in range(steps):
        spikes = neurons[1](nn.Conv2d.forward(second, neurons[0](nn.Conv2d.forward(first, IMAGES))))
        total += nn.Conv2d.forward(head, spikes) / steps
    return total


def test_hard_reset(quant: nn.Sequential) -> None:
    snn = convert(quant, neuron="hard-reset")
    assert all(type(snn[i]) is HardResetIFNode and float(snn[i].ratio) == 0 for i in (1, 3))
    with torch.no_grad():
        want = written_out(snn, [IFNode(v_reset=0.0) for _ in range(2)], STEPS)
    torch.testing.assert_close(simulate(snn, IMAGES, STEPS).final, want, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(simulate(convert(quant, neuron="if"), IMAGES, STEPS).final, want)


def test_powers_of_two_settle_to_the_same_network(quant: nn.Sequential) -> None:
    snn = convert(quant)
    with torch.no_grad():
        want = quant(IMAGES)
    torch.testing.assert_close(simulate(snn, IMAGES, mode="counts").final, want)
    snn[1].powers = snn[3].powers = True
    torch.testing.assert_close(simulate(snn, IMAGES, "1+8b8").final, want)
    with pytest.raises(InputError, match="mode='counts' .* powers of two: use mode='steps', or set powers"):
        simulate(snn, IMAGES, mode="counts")


def test_every_kind_can_be_named() -> None:
    kinds, none = get_args(get_type_hints(convert_verb.run)["neuron"])
    assert set(get_args(kinds)) == set(NEURONS) and none is type(None)


def test_a_gated_pool_in_a_network(tmp_path: Path) -> None:
    """It stands where ``convert`` puts a pool of counts, and comes back from a folder."""
    torch.manual_seed(1)
    parts = [nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 2, 1)]
    snn = convert(prepare(nn.Sequential(*parts), STEPS, IMAGES.float()), neuron="residual-fix")
    exact = simulate(snn, IMAGES.float()).final
    snn[2] = RateGatedMaxPool(snn[2].pool)  # type: ignore[index, operator, union-attr]
    snn.connect()
    gated = simulate(snn, IMAGES.float(), chunk=STEPS).final
    torch.testing.assert_close(simulate(snn, IMAGES.float(), chunk=1).final, gated)
    assert not torch.allclose(exact, gated, atol=1e-3)
    back = load(save(snn, tmp_path))
    assert isinstance(back[2], RateGatedMaxPool)  # type: ignore[index]
    assert torch.equal(simulate(back, IMAGES.float(), chunk=STEPS).final, gated)


@pytest.mark.parametrize("neuron", ["hard-reset", "srp", "cos"])
def test_leaky_relus_are_refused(neuron: str) -> None:
    network = prepare(
        nn.Sequential(nn.Conv2d(2, 2, 1), nn.LeakyReLU(0.1), nn.Conv2d(2, 1, 1)), 4, IMAGES.float()
    )
    with pytest.raises(ConversionError, match=f"neuron='{neuron}' has no negative spikes"):
        convert(network, neuron=neuron)
