from __future__ import annotations

import json

import pytest
import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.op_counter import DispatchCounterMode, MACCounter
from torch import Tensor, nn

from sj_lowlat.errors import InputError
from sj_lowlat.evaluation.energy import EnergyReport, count_macs, energy
from sj_lowlat.layers import RateReadout, ResidualFixIFNode
from sj_lowlat.models import snn_tiny_yolov3
from sj_lowlat.monitors import FiringRateMonitor, SynOpMonitor


def ann() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.ConvTranspose2d(4, 2, 4, stride=2),
        nn.ReLU(),
    )


def snn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        ResidualFixIFNode(v_threshold=0.1),
        nn.Conv2d(4, 2, 1),
        ResidualFixIFNode(v_threshold=0.1),
        RateReadout(nn.Conv2d(2, 5, 1)),
    )


def watch(net: nn.Module, images: Tensor, steps: int) -> tuple[SynOpMonitor, FiringRateMonitor, list[Tensor]]:
    """Run the network; also return the raw spikes of its two neuron layers, by hooks of our own."""
    raw: list[list[Tensor]] = [[], []]
    hooks = [net[1 + 2 * i].register_forward_hook(lambda _m, _x, y, i=i: raw[i].append(y)) for i in (0, 1)]
    with torch.no_grad(), SynOpMonitor(net) as synops, FiringRateMonitor(net) as rates:
        functional.reset_net(net)
        for _ in range(steps):
            net(images)
    for hook in hooks:
        hook.remove()
    return synops, rates, [torch.stack(spikes) for spikes in raw]


def test_energy_of_a_network_counted_by_hand() -> None:
    net = snn()
    synops, rates, (first, second) = watch(net, torch.rand(2, 3, 6, 5), steps=4)
    report = energy(synops, rates)
    positions = 6 * 5
    first_macs, second_macs, head_macs = positions * 4 * 3 * 9, positions * 2 * 4, positions * 5 * 2
    # 1x1 convolutions: a spike reaches each output channel once
    acs = float(first.sum() * 2 + second.sum() * 5) / 2
    assert acs > 0
    assert report.images == 2 and report.steps == 4
    assert report.snn_macs == first_macs
    assert report.snn_acs == acs
    assert report.ann_macs == first_macs + second_macs + head_macs
    assert report.ann_pj == pytest.approx(4.6 * report.ann_macs)
    assert report.snn_pj == pytest.approx(4.6 * first_macs + 0.9 * acs)
    assert report.ratio == pytest.approx(report.snn_pj / report.ann_pj)
    assert report.break_even_spikes == pytest.approx(46 / 9)
    spikes = float(first.sum() + second.sum())
    assert report.spikes_per_neuron_and_image == pytest.approx(spikes / (2 * positions * (4 + 2)))


def test_another_ann_to_compare_with() -> None:
    synops, rates, _ = watch(snn(), torch.rand(1, 3, 4, 4), steps=2)
    assert energy(synops, rates, ann_macs=10).ann_pj == pytest.approx(46.0)


def test_json_round_trip_and_text() -> None:
    report = EnergyReport(
        images=4,
        steps=20.0,
        ann_macs=3_306_000_000,
        snn_macs=7e7,
        snn_acs=9e8,
        spikes_per_neuron_and_image=0.5,
        events_per_neuron_and_image=0.25,
    )
    record = json.loads(json.dumps(report.to_json()))
    for name in ("ann_pj", "snn_pj", "ratio", "break_even_spikes", "images", "snn_acs"):
        assert record[name] == getattr(report, name)
    text = str(report)
    assert "15.208 mJ" in text and "3.306 G MACs" in text and "20 steps" in text and "45 nm" in text


def test_monitors_of_different_runs_are_refused() -> None:
    synops, _, _ = watch(snn(), torch.rand(1, 3, 4, 4), steps=2)
    _, rates, _ = watch(snn(), torch.rand(2, 3, 4, 4), steps=2)
    with pytest.raises(InputError, match="counted 1 images, FiringRateMonitor \\[2\\]"):
        energy(synops, rates)
    net = snn()
    with pytest.raises(InputError, match="counted 0 images"):
        energy(SynOpMonitor(net), FiringRateMonitor(net))


def test_count_macs_agrees_with_spikingjelly_and_leaves_the_network_alone() -> None:
    net = ann().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    counter = MACCounter(extra_ignore_modules=[nn.BatchNorm2d])
    with torch.no_grad(), DispatchCounterMode([counter]):
        # SpikingJelly takes zeros and ones for spikes, so show it an image
        ann().eval()(torch.rand(1, 3, 7, 5) + 2)
    assert count_macs(net, (3, 7, 5)) == counter.get_total() == 7 * 5 * (4 * 3 * 9 + 4 * 2 * 16)
    assert net.training and net[1].training and not any(m._forward_pre_hooks for m in net.modules())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_count_macs_of_the_detector_is_the_sum_over_its_table() -> None:
    side = {0: 416, 1: 208, 2: 208, 3: 104, 4: 104, 5: 52, 6: 52, 7: 26, 8: 26, 9: 13}
    width = [3, 16, 16, 32, 32, 64, 64, 128, 128, 256, 256]
    expected = sum(9 * width[i] * width[i + 1] * side[i] ** 2 for i in side)
    expected += 13**2 * (9 * (256 * 512 + 512 * 1024 + 256 * 512) + 1024 * 256 + 512 * 255 + 256 * 128)
    expected += 13**2 * 9 * 128 * 128 + 26**2 * (
        9 * 384 * 256 + 256 * 255
    )  # the transposed one, and the finer scale
    net = snn_tiny_yolov3(num_classes=80)
    assert count_macs(net, net.input_shape) == expected == 3_305_802_240


def test_count_macs_counts_a_layer_each_time_it_runs() -> None:
    linear = nn.Linear(4, 4)
    assert count_macs(nn.Sequential(linear, nn.ReLU(), linear), (4,)) == 2 * 16


def test_count_macs_refuses_a_network_without_products() -> None:
    with pytest.raises(InputError, match="no MACs to count"):
        count_macs(nn.ReLU(), (3, 4, 4))
    with pytest.raises(InputError, match="Bilinear"):
        count_macs(nn.Sequential(nn.Bilinear(2, 2, 2)), (2,))
