"""Runs with pre-steps: the whole network, its read-outs and what is counted."""

from __future__ import annotations

import pytest
import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from sj_lowlat.conversion import convert, prepare
from sj_lowlat.errors import InputError
from sj_lowlat.layers import COSIFNode, LowLatencyIFNode, SRPIFNode
from sj_lowlat.monitors import FiringRateMonitor, RemainderMonitor
from sj_lowlat.network import SpikingNetwork
from sj_lowlat.schedule import Schedule
from sj_lowlat.simulation import check_readout, simulate, simulate_steps

IMAGES = torch.rand(3, 2, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
T = 8
kinds = pytest.mark.parametrize("neuron", ["srp", "cos"])


@pytest.fixture(scope="module")
def quant() -> nn.Module:
    torch.manual_seed(1)
    parts = [
        nn.Conv2d(2, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 6, 3, padding=1),
        nn.ReLU(),
    ]
    return prepare(nn.Sequential(*parts, nn.Conv2d(6, 2, 1)).double().eval(), T, IMAGES).eval()


def layer(weights: nn.Module, spikes: Tensor) -> Tensor:
    return nn.functional.conv2d(spikes, weights.weight, weights.bias, padding=weights.padding)  # type: ignore


def written_out(snn: SpikingNetwork, pre: int, steps: int, rounds: int) -> Tensor:
    """The network in a plain loop, for each layer all its steps: mean of the head over the last ``steps``."""
    first, second, head = snn[0], snn[3], snn[5].layer  # type: ignore[index]
    cos = isinstance(snn[1], COSIFNode)  # type: ignore[index]

    def fire(currents: list[Tensor], v: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Spikes and potentials after them."""
        spikes, potentials = [], []
        for current in currents:
            v = v + current
            spikes.append((v >= 1).double())
            v = v - spikes[-1]
            potentials.append(v)
        return spikes, potentials

    def moved(begun: Tensor, spikes: list[Tensor], potentials: list[Tensor]) -> Tensor:
        v, spike = torch.stack(potentials), torch.stack(spikes)
        if not cos:
            return torch.where(v[-1] < 0, -1e9, begun)
        count = spike.sum(0)
        wanted = (count + (v[-1] + (0.5 - begun)).floor()).clamp(0, pre)
        least = torch.where(spike == 1, v, torch.inf).amin(0)
        most = torch.where(spike == 0, v, -torch.inf).amax(0)
        k = count - wanted
        lower = torch.where(least < k, k, least + 1e-3)
        raise_ = torch.where(most >= 1 + k, -k, 1 - most + 1e-3)
        return begun + torch.where(k > 0, -lower, torch.where(k < 0, raise_, 0.0))

    def pooled(spikes: list[Tensor]) -> list[Tensor]:
        maxima = nn.functional.max_pool2d(torch.stack(spikes).cumsum(0).flatten(0, 1), 2).unflatten(
            0, (len(spikes), -1)
        )
        return list(torch.cat([maxima[:1], maxima.diff(dim=0)]))

    drive = layer(first, IMAGES)  # type: ignore[arg-type]
    start, start_2 = torch.full_like(drive, 0.5), torch.full((3, 6, 4, 4), 0.5, dtype=torch.float64)

    def run(steps: int) -> tuple[tuple[list[Tensor], list[Tensor]], tuple[list[Tensor], list[Tensor]]]:
        one = fire([drive] * steps, start)
        return one, fire([layer(second, spikes) for spikes in pooled(one[0])], start_2)  # type: ignore[arg-type]

    for _ in range(rounds):
        one, two = run(pre)
        start, start_2 = moved(start, *one), moved(start_2, *two)
    return sum(layer(head, spikes) for spikes in run(steps)[1][0]) / steps  # type: ignore


@kinds
@pytest.mark.parametrize(("pre", "rounds"), [(3, 1), (T, 1), (11, 1), (T, 2), (5, 3)])
def test_against_the_network_written_out(quant: nn.Module, neuron: str, pre: int, rounds: int) -> None:
    snn = convert(quant, neuron=neuron)
    with torch.no_grad():
        want = written_out(snn, pre, T, rounds)
    found = simulate(snn, IMAGES, Schedule(T, pre=pre, rounds=rounds)).final
    torch.testing.assert_close(found, want, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(
        simulate(snn, IMAGES, T).final, want, atol=1e-3
    )  # the correction does something


@pytest.mark.parametrize(("neuron", "share"), [("srp", 0.95), ("cos", 0.5)])
def test_it_helps(quant: nn.Module, neuron: str, share: float) -> None:
    with torch.no_grad():
        want = quant(IMAGES)
    snn = convert(quant, neuron=neuron)
    plain, found = (simulate(snn, IMAGES, schedule).final for schedule in ("8", "8+0p8"))
    assert float((found - want).norm()) < share * float((plain - want).norm())


def test_each_round_of_cos_repairs_one_layer_more() -> None:
    """The first layer's input is constant, so that it is right from the start. From as many rounds as there
    are other layers on all counts are the wanted ones, and the outputs those of the quantised network."""
    torch.manual_seed(2)
    deep: list[nn.Module] = [nn.Conv2d(2, 6, 3, padding=1), nn.ReLU()]
    for _ in range(3):
        deep += [nn.Conv2d(6, 6, 3, padding=1), nn.ReLU()]
    quant = prepare(nn.Sequential(*deep, nn.Conv2d(6, 2, 1)).double().eval(), T, IMAGES).eval()
    with torch.no_grad():
        want = quant(IMAGES)
    snn = convert(quant, neuron="cos")
    errors = [
        float((simulate(snn, IMAGES, Schedule(T, pre=T, rounds=rounds)).final - want).norm() / want.norm())
        for rounds in (1, 2, 3)
    ]
    assert errors[0] > 2 * errors[1] > 1e-4 and errors[2] < 1e-12


@kinds
def test_without_pre_steps_it_is_the_residual_fix(quant: nn.Module, neuron: str) -> None:
    want = simulate(convert(quant, neuron="residual-fix"), IMAGES, "8+2", readout=(3, 8, 10))
    found = simulate(convert(quant, neuron=neuron), IMAGES, "8+2", readout=(3, 8, 10))
    assert all(map(torch.equal, found.outputs, want.outputs))


@kinds
def test_steps_count_from_the_first_pre_step(quant: nn.Module, neuron: str) -> None:
    snn = convert(quant, neuron=neuron)
    schedule = Schedule(T, 2, pre=5)
    assert check_readout(schedule, None) == (15,) == check_readout(schedule, [15])
    twice = simulate(snn, IMAGES, "8+2p5x2", readout=(11, 20), chunk=3)
    again = simulate(snn, IMAGES, "8+2p5x2", readout=(11, 20), chunk=20)
    torch.testing.assert_close(twice.outputs, again.outputs, rtol=1e-12, atol=1e-12)
    steps = (6, 7, 13, 15)
    whole = simulate(snn, IMAGES, schedule, readout=steps)
    assert whole.steps == steps
    for chunk in (1, 3, 7, 20):
        parts = simulate(snn, IMAGES, schedule, readout=steps, chunk=chunk)
        torch.testing.assert_close(parts.outputs, whole.outputs, rtol=1e-12, atol=1e-12)
    alone = simulate(snn, IMAGES, schedule, readout=(7,)).final
    torch.testing.assert_close(alone, whole.outputs[1], rtol=1e-12, atol=1e-12)
    for bad in (0, 5, 16):
        with pytest.raises(InputError, match=r"from 6 to 15 \(pre x rounds \+ time_steps \+ flush\)"):
            simulate(snn, IMAGES, schedule, readout=(bad,))


@kinds
def test_nothing_stays_behind(quant: nn.Module, neuron: str) -> None:
    """A run corrects each image for itself, whatever came before; a reset brings V(0) back."""
    snn = convert(quant, neuron=neuron)
    want = simulate(snn, IMAGES, "8+0p8").final
    plain = simulate(convert(quant, neuron=neuron), IMAGES, "8").final
    assert torch.equal(simulate(snn, IMAGES, "8").final, plain)
    torch.testing.assert_close(simulate(snn, IMAGES[1:2], "8+0p8").final, want[1:2], rtol=1e-12, atol=1e-12)
    functional.reset_net(snn)
    assert all(module.v == 0.5 for module in snn.modules() if isinstance(module, LowLatencyIFNode))
    run = simulate_steps(snn, IMAGES, "8+0p8", readout=(9, 16))
    next(run)
    run.close()
    assert torch.equal(simulate(snn, IMAGES, "8+0p8").final, want)


@kinds
def test_the_poisson_encoder_gives_the_same_input_again(quant: nn.Module, neuron: str) -> None:
    snn = convert(quant, neuron=neuron)
    whole = simulate(snn, IMAGES, "8+0p8", encoder="poisson", seed=3).final
    parts = simulate(snn, IMAGES, "8+0p8", encoder="poisson", seed=3, chunk=3).final
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)


def test_neurons_that_cannot(quant: nn.Module) -> None:
    for neuron, name in (("signed", "SignedIFNode"), ("if", "ResidualFixIFNode")):
        with pytest.raises(
            InputError, match=f"correct V\\(0\\), and {name} cannot: convert with neuron='srp'"
        ):
            simulate_steps(convert(quant, neuron=neuron), IMAGES, "8+0p8")
    mixed = convert(quant, neuron="cos")
    mixed[4] = convert(quant, neuron="if")[4]  # type: ignore[index, operator]
    mixed.connect()
    with pytest.raises(InputError, match="ResidualFixIFNode cannot"):
        simulate(mixed, IMAGES, 8, pre=4)


@kinds
def test_monitors_count_pre_steps(quant: nn.Module, neuron: str) -> None:
    snn = convert(quant, neuron=neuron)
    spikes: list[Tensor] = []
    handle = snn[1].register_forward_hook(lambda *call: spikes.append(call[2]))  # type: ignore[index, union-attr]
    with FiringRateMonitor(snn) as monitor:
        simulate(snn, IMAGES, "8+2p5x2", chunk=4)
    handle.remove()
    record = monitor[0]
    assert (record.images, record.steps) == (3, 20)
    fired = sum(float(part.sum()) for part in spikes) / (3 * record.neurons)
    assert record.spikes_per_neuron_and_image == pytest.approx(fired)
    with RemainderMonitor(snn), pytest.raises(InputError, match="corrects V\\(0\\)"):
        simulate(snn, IMAGES, "8+2p5")


def test_convert_gives_them_half_a_threshold(quant: nn.Module) -> None:
    for neuron, kind in (("srp", SRPIFNode), ("cos", COSIFNode)):
        snn = convert(quant, neuron=neuron)
        assert type(snn[1]) is type(snn[4]) is kind and float(snn[1].ratio) == 0.5  # type: ignore[index]
