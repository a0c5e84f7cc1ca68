"""The spike recorder against the network's own counts, other monitors, and neurons in closed form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional
from torch import nn

from sj_lowlat.conversion import convert, prepare
from sj_lowlat.errors import InputError
from sj_lowlat.layers import LowLatencyIFNode, SignedIFNode
from sj_lowlat.monitors import FiringRateMonitor, SpikeRecorder
from sj_lowlat.simulation import simulate


@pytest.fixture(scope="module")
def snn() -> Any:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(5, 4, 3, stride=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(4 * 25, 6), nn.ReLU(), nn.Linear(6, 2),
    )  # fmt: skip
    images = torch.rand(8, 3, 12, 12)
    return convert(prepare(net.eval(), 8, images))


def test_totals_maps_and_sample_agree_with_the_neurons_themselves(snn: Any) -> None:
    image = torch.rand(1, 3, 12, 12)
    with SpikeRecorder(snn, side=4, sample=40) as spikes, FiringRateMonitor(snn) as rates:
        simulate(snn, image, "4+3b2", chunk=1)
    nodes = {name: node for name, node in snn.named_modules() if isinstance(node, SignedIFNode)}
    assert [layer.name for layer in spikes.layers()] == list(nodes) and len(nodes) == 3
    for layer in spikes.layers():
        node, shape = nodes[layer.name], layer.shape
        net = node.count[0]  # the neurons' own net count
        assert shape == tuple(net.shape) and layer.neurons == net.numel() == rates[layer.name].neurons
        assert sum(layer.totals) == rates[layer.name].spikes and len(layer.totals) == 7
        assert torch.equal(layer.spikes.sum(0), net.flatten()[layer.sample])
        potentials = (node.v[0] / node.v_threshold).flatten()[layer.sample]
        assert torch.equal(layer.potentials[-1], potentials)
        assert len(set(layer.sample.tolist())) == min(40, net.numel()) == len(layer.sample)
        whole = layer.counts()[-1]
        assert whole.shape[0] == shape[0] and max(whole.shape[1:]) <= 4
        means = net.flatten(1).mean(1) if net.dim() > 1 else net
        if net.dim() == 3 and shape[1] % 4 == 0:  # cells of one size
            torch.testing.assert_close(whole.mean((1, 2)), means)
        if net.dim() == 1:
            assert torch.equal(whole.flatten(), net)
    assert sum(spikes.spikes_per_step()) == sum(record.spikes for record in rates.layers())


def test_a_neuron_in_closed_form(run: Callable[..., torch.Tensor]) -> None:
    """Soft reset: V(t) = V(0) + t z - N(t), with N(t) = floor(V(0) + t z) for 0 <= z <= 1."""
    node = LowLatencyIFNode(v_threshold=2.0)
    z = torch.tensor([0.0, 0.125, 0.25, 0.5, 0.75, 1.0])
    with SpikeRecorder(nn.Sequential(node)) as spikes:
        run(node, (2.0 * z).expand(9, 1, 6), "s")
    charge = 0.5 + torch.arange(1, 10)[:, None] * z
    (layer,) = spikes.layers()
    assert torch.equal(layer.spikes.cumsum(0), charge.floor())
    assert torch.equal(layer.potentials, charge - charge.floor())
    assert layer.totals == charge.floor().diff(dim=0, prepend=torch.zeros(1, 6)).sum(1).int().tolist()
    assert layer.rates == [total / 6 for total in layer.totals]
    fired = layer.spikes.sum(0)
    chosen = layer.chosen_neurons(3)
    assert fired[chosen].tolist() == sorted(fired[chosen].tolist()) and fired[chosen].min() > 0
    assert fired[chosen[-1]] == 9 and layer.chosen_neurons(99) == [1, 2, 3, 4, 5]
    assert layer.busiest_channels(2) == [5, 4]


def test_a_new_picture_takes_the_place_of_the_one_before(snn: Any) -> None:
    first, second = torch.rand(2, 1, 3, 12, 12)
    with SpikeRecorder(snn) as spikes:
        simulate(snn, first, 4, chunk=1)
        before = spikes.spikes_per_step()
        simulate(snn, second, 4, chunk=1)
        after = spikes.spikes_per_step()
        simulate(snn, first, 4, chunk=1)
        assert spikes.spikes_per_step() == before != after and len(before) == 4
        simulate(snn, torch.cat([second, first]), 4, chunk=1)
        assert spikes.spikes_per_step() == after  # the first of a batch
        spikes.disable()
        simulate(snn, first, 4, chunk=1)
        assert spikes.spikes_per_step() == after
        spikes.enable()
        spikes.clear_recorded_data()
        assert spikes.layers() == []


def test_watching_changes_no_spike(snn: Any) -> None:
    image = torch.rand(1, 3, 12, 12)
    alone = simulate(snn, image, 6, readout=range(1, 7), chunk=1)
    with SpikeRecorder(snn):
        watched = simulate(snn, image, 6, readout=range(1, 7), chunk=1)
    assert all(torch.equal(a, b) for a, b in zip(alone.outputs, watched.outputs, strict=True))


def test_what_cannot_be_recorded_is_refused(snn: Any, run: Callable[..., torch.Tensor]) -> None:
    with pytest.raises(InputError, match="no spiking neuron in Sequential"):
        SpikeRecorder(nn.Sequential(nn.ReLU()))
    with pytest.raises(InputError, match="at least 1"):
        SpikeRecorder(snn, side=0)
    with SpikeRecorder(snn) as spikes:
        with pytest.raises(InputError, match="chunk=1"):
            simulate(snn, torch.rand(1, 3, 12, 12), 4, chunk=2)
        with pytest.raises(InputError, match="none of"):
            spikes["nothing"]
    node = LowLatencyIFNode()
    functional.reset_net(node)
    node(torch.ones(1, 3))
    with SpikeRecorder(nn.Sequential(node)), pytest.raises(InputError, match="not watched"):
        node(torch.ones(1, 3))


def test_plots_of_a_picture(snn: Any) -> None:
    with SpikeRecorder(snn) as spikes:
        simulate(snn, torch.rand(1, 3, 12, 12), "4+2b2", chunk=1)
    axes = spikes.plot().axes[0]
    (image,) = axes.images
    assert [label.get_text() for label in axes.get_yticklabels()] == spikes.monitored_layers
    expected = torch.tensor([layer.rates for layer in spikes.layers()], dtype=torch.float64)
    torch.testing.assert_close(torch.as_tensor(image.get_array()).double(), expected)
    layer = spikes.layers()[0]
    assert len(layer.plot(5).axes) == 2
    assert len([a for a in layer.plot_maps(3, (1, 6)).axes if a.images]) == 6
    with pytest.raises(InputError, match="steps 1 to 6"):
        layer.plot_maps(3, (7,))
