"""The monitors beside ``simulate``: merged time, chunks, flush."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from spikingjelly.activation_based import functional
from torch import nn

from sj_lowlat.layers import RateReadout, ResidualFixIFNode, SignedIFNode, connect
from sj_lowlat.monitors import FiringRateMonitor, RemainderMonitor, SynOpMonitor
from sj_lowlat.simulation import simulate


def network() -> nn.Sequential:
    """Weights in eighths, so that no sum depends on its order."""
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        SignedIFNode(),
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        SignedIFNode(),
        RateReadout(nn.Conv2d(6, 3, 1)),
    )
    g = torch.Generator().manual_seed(3)
    for parameter in net.parameters():
        parameter.data = torch.randint(-4, 6, parameter.shape, generator=g) / 8
    connect(net, ["0"])
    return net


@pytest.mark.parametrize("chunk", [1, 3, 8])
def test_simulating_in_chunks_is_counted_like_running_step_by_step(chunk: int) -> None:
    net = network()
    plain = copy.deepcopy(net)
    images = torch.randint(0, 9, (3, 1, 7, 6), generator=torch.Generator().manual_seed(4)) / 8
    monitors = (FiringRateMonitor, RemainderMonitor, SynOpMonitor)
    simulated = [kind(net) for kind in monitors]
    stepped = [kind(plain) for kind in monitors]
    for part in (images[:2], images[2:]):  # the second batch is smaller
        simulate(net, part, time_steps=8, chunk=chunk, readout=(3, 8))
        functional.reset_net(plain)
        with torch.no_grad():
            for _ in range(8):
                plain(part)
    for one, other in zip(simulated, stepped, strict=True):
        one.close()
        other.close()
        assert one.to_json() == other.to_json()
    assert simulated[0]["1"].images == simulated[2].images == 3
    assert simulated[0]["3"].negative_spikes > 0 and simulated[2]["2"].synops > 0


def test_counts_of_parts_are_added_to_those_of_the_whole() -> None:
    net = network()
    images = torch.randint(0, 9, (5, 1, 7, 6), generator=torch.Generator().manual_seed(4)) / 8
    with FiringRateMonitor(net) as rates, SynOpMonitor(net) as synops:
        for part in images.split(2):
            simulate(net, part, time_steps=8)
        whole = rates.to_json(), synops.to_json()
        rates.clear_recorded_data()
        synops.clear_recorded_data()
        counted = []
        for part in images.split(2):
            simulate(net, part, time_steps=8)
            counted.append(json.loads(json.dumps([rates.sums(), synops.to_json()])))
            rates.clear_recorded_data()
            synops.clear_recorded_data()
    for of_rates, of_synops in counted:
        rates.add(of_rates)
        synops.add(of_synops)
    assert (rates.to_json(), synops.to_json()) == whole
    assert rates["1"].images == synops.images == 5


def test_a_flush_counts_steps_and_spikes_but_no_more_image() -> None:
    net = network()
    image = torch.full((1, 1, 4, 4), 0.3)
    with FiringRateMonitor(net) as rates, SynOpMonitor(net) as synops:
        simulate(net, image, time_steps=4, flush=3)
    assert rates["1"].steps == 7
    assert synops["0"].macs == 4 * 4 * 4 * 9 and synops["0"].spikes == 0
    assert synops["2"].spikes == rates["1"].spikes


@pytest.mark.parametrize(("node", "max_count"), [(SignedIFNode(), None), (ResidualFixIFNode(), 4)])
def test_a_count_at_its_limit_is_judged_by_the_steps_with_input(
    node: nn.Module, max_count: int | None
) -> None:
    conv = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(conv.weight, 2.0)
    net = nn.Sequential(conv, node, RateReadout(nn.Conv2d(1, 1, 1)))
    connect(net, ["0"])
    with RemainderMonitor(net, max_count=max_count) as monitor:
        simulate(net, torch.ones(1, 1, 2, 2), time_steps=4, flush=3)
    # 8 spikes are due and 4 allowed: the signed neuron stops there, the other goes on in the flush
    signed = isinstance(node, SignedIFNode)
    assert (monitor[0].exact, monitor[0].over_fired) == ((1.0, 0.0) if signed else (0.0, 1.0))
