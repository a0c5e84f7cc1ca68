"""What ``convert`` and ``prepare`` make: neurons, report, attributes; by SpikingJelly's converter too."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import ann2snn, monitor
from spikingjelly.activation_based.op_counter import ACCounter, DispatchCounterMode, SynOpCounter
from torch import nn

from sj_lowlat.conversion import LowLatencyRecipe, convert, prepare, replace_layers
from sj_lowlat.errors import ConversionError, InputError
from sj_lowlat.layers import (
    ImbalancedIFNode,
    LowLatencyIFNode,
    QuantReLU,
    RateReadout,
    ResidualFixIFNode,
    SignedIFNode,
    Synapse,
)
from sj_lowlat.network import ConversionReport
from sj_lowlat.simulation import simulate

IMAGES = torch.rand(4, 2, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def ann(trained: Callable[..., Any]) -> nn.Sequential:
    return trained(
        nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
            nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(6, 3, 1),
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("neuron", "kind", "ratio"),
    [("signed", SignedIFNode, 0.3), ("residual-fix", ResidualFixIFNode, 0.3), ("if", ResidualFixIFNode, 0.0)],
)
def test_neurons_thresholds_and_structure(
    ann: nn.Sequential, neuron: str, kind: type[nn.Module], ratio: float
) -> None:
    snn = convert(ann, neuron=neuron, scale="max", calibration=IMAGES, ratio=0.3)
    kinds = [nn.Conv2d, nn.Identity, kind, nn.Conv2d, kind, RateReadout]
    assert all(map(isinstance, snn, kinds)) and len(snn) == len(kinds)
    assert [layer.reads_input for layer in snn if isinstance(layer, Synapse)] == [True, False]
    for node in (snn[2], snn[4]):
        assert float(node.v_threshold) == 1.0 and float(node.ratio) == pytest.approx(ratio)
    assert not any(module.training for module in snn.modules())
    assert snn.input_layers == ("0",) and snn.input_shape == (2, 8, 8)
    assert torch.equal(snn[2].v_initial, snn[2].ratio) and isinstance(snn[2].v, float)  # it has been reset


def test_report(ann: nn.Sequential) -> None:
    quant = prepare(ann, 8, IMAGES, per_channel=True)
    report = convert(quant).conversion_report
    rows = report.layers
    assert [(r.layer, r.kind, r.folded, r.activation, r.neuron) for r in rows] == [
        ("0", "Conv2d", "1", "2", "SignedIFNode"),
        ("3", "Conv2d", None, "4", "SignedIFNode"),
        ("5", "Conv2d", None, None, "RateReadout"),
    ]
    clips = [quant[2].clip, quant[4].clip]
    for row, clip, before in zip(rows, [*clips, torch.ones(1)], [torch.ones(1), *clips], strict=True):
        assert row.scale == pytest.approx(tuple(sorted({clip.min().item(), clip.max().item()})))
        assert row.scale_in == pytest.approx(tuple(sorted({before.min().item(), before.max().item()})))
    table = str(report)
    assert table.splitlines()[0].split() == [
        "layer",
        "type",
        "folded",
        "fires",
        "as",
        "lambda",
        "lambda",
        "in",
    ]
    assert [line.split()[0] for line in table.splitlines()[2:]] == ["0", "3", "5"]
    assert ConversionReport.from_json(report.to_json()) == report


def test_report_names_what_was_replaced(ann: nn.Sequential) -> None:
    ann[4] = nn.SiLU()
    new = replace_layers(ann, IMAGES)
    report = convert(prepare(new, 8, IMAGES)).conversion_report
    assert report.replaced == {"4": "SiLU -> ReLU"}
    assert "replaced:\n  4: SiLU -> ReLU" in str(report)


@pytest.mark.parametrize("per_channel", [False, True])
def test_prepare_starts_clips_from_the_calibration(ann: nn.Sequential, per_channel: bool) -> None:
    with torch.no_grad():
        acts = [ann[:3](IMAGES), ann[:5](IMAGES)]
    ann.train()
    ann[4].eval()
    quant = prepare(ann, 8, [IMAGES[:3], IMAGES[3:]], scale="max", per_channel=per_channel)
    for layer, act in zip((quant[2], quant[4]), acts, strict=True):
        assert isinstance(layer, QuantReLU) and layer.levels == 8
        highest = act.amax((0, 2, 3)) if per_channel else act.max()
        want = torch.where(highest > 0, highest, highest[highest > 0].mean())  # of a silent channel
        torch.testing.assert_close(layer.clip.detach(), want)
    assert quant[2].training and not quant[4].training and quant.training
    assert quant.levels == 8


def test_prepare_again_changes_the_levels_and_keeps_the_clips(ann: nn.Sequential) -> None:
    quant = prepare(ann, 8, IMAGES, per_channel=True)
    quant[2].set_clip(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    again = prepare(quant, 16)  # no calibration is needed
    assert (again[2].levels, again[4].levels, quant[2].levels) == (16, 16, 8)
    torch.testing.assert_close(again[2].clip, quant[2].clip)


def test_trained_clips_and_statistics_give_the_same_thresholds(ann: nn.Sequential) -> None:
    by_clip = convert(prepare(ann, 8, IMAGES, scale="99%"))
    by_statistic = convert(ann, scale="99%", calibration=IMAGES)
    for (name, a), b in zip(by_clip.state_dict().items(), by_statistic.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


def test_spikingjellys_converter_gives_the_same_network(ann: nn.Sequential) -> None:
    quant = prepare(ann, 8, IMAGES)
    ours = convert(quant, neuron="residual-fix", ratio=0.4)
    theirs = ann2snn.ModuleConverter(LowLatencyRecipe(neuron="residual-fix", ratio=0.4)).convert(quant)
    assert str(theirs) == str(ours)
    assert theirs.conversion_report == ours.conversion_report
    assert all(torch.equal(a, b) for a, b in zip(theirs.parameters(), ours.parameters(), strict=True))
    assert torch.equal(simulate(theirs, IMAGES, 8).final, simulate(ours, IMAGES, 8).final)
    with pytest.raises(InputError, match="neuron is 'lif'"):
        ann2snn.ModuleConverter(LowLatencyRecipe(neuron="lif")).convert(quant)


def test_spikingjelly_sees_the_spikes(ann: nn.Sequential) -> None:
    snn = convert(ann, neuron="residual-fix", scale="max", calibration=IMAGES)
    synops, acs = SynOpCounter(), ACCounter()
    spikes = monitor.OutputMonitor(snn, instance=LowLatencyIFNode)
    with DispatchCounterMode([synops, acs]):
        simulate(snn, IMAGES, 8, chunk=3)
    counts = {name: sum(train.sum((0, 1)) for train in spikes[name]) for name in spikes.monitored_layers}
    assert {float(value) for train in spikes.records for value in train.unique()} == {0.0, 1.0}
    # a spike of the first layer meets 1 or 2 taps a side of the second one (3 x 3, stride 2, padding 1)
    taps = torch.tensor([1, 2, 1, 2, 1, 2, 1, 1])
    assert list(counts) == ["2", "4"] and counts["4"].sum() > 0
    assert synops.get_total() == int((counts["2"] * 6 * torch.outer(taps, taps)).sum()) > 0
    assert acs.get_total() > 0


def test_negative_spikes_come_from_signed_neurons_only(ann: nn.Sequential) -> None:
    found = {}
    for neuron in ("signed", "residual-fix"):
        snn = convert(ann, neuron=neuron, scale="80%", calibration=IMAGES)
        spikes = monitor.OutputMonitor(snn, instance=LowLatencyIFNode)
        with torch.no_grad():
            for _ in range(12):
                snn(IMAGES)
        found[neuron] = {float(v) for train in spikes.records for v in train.unique()}
    assert found == {"signed": {-1.0, 0.0, 1.0}, "residual-fix": {0.0, 1.0}}


def test_copies_and_pickles(ann: nn.Sequential) -> None:
    snn = convert(ann, scale="max", calibration=IMAGES)
    want = simulate(snn, IMAGES, 6, flush=2).final
    for other in (copy.deepcopy(snn), pickle.loads(pickle.dumps(snn))):
        assert torch.equal(simulate(other, IMAGES, 6, flush=2).final, want)


def test_layers_between_scales_keep_their_bias_scale(trained: Callable[..., Any]) -> None:
    """Convolutions without an activation in between are read as currents of scale 1."""
    net = trained(
        nn.Sequential(
            nn.Conv2d(2, 3, 1),
            nn.ReLU(),
            nn.Conv2d(3, 3, 1),
            nn.Conv2d(3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(2, 1, 1),
        )
    )
    report = convert(net, scale="max", calibration=IMAGES).conversion_report
    assert [row.neuron for row in report.layers] == ["SignedIFNode", "current", "SignedIFNode", "RateReadout"]
    assert report.layers[1].scale == (1.0,) and report.layers[2].scale_in == (1.0,)


def test_leaky_network_approaches_the_ann(trained: Callable[..., Any]) -> None:
    slope = 0.1
    net = trained(
        nn.Sequential(
            nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.LeakyReLU(slope),
            nn.Conv2d(6, 6, 3, stride=2, padding=1), nn.LeakyReLU(slope),
            nn.Conv2d(6, 4, 3), nn.ReLU(),
            nn.Conv2d(4, 3, 1),
        )
    )  # fmt: skip
    with torch.no_grad():
        want = net(IMAGES)
    snn = convert(net, neuron="imbalanced", scale="max", calibration=IMAGES)
    assert [type(snn[i]) for i in (2, 4, 6)] == [ImbalancedIFNode, ImbalancedIFNode, ResidualFixIFNode]
    assert snn[2].slope == slope
    result = simulate(snn, IMAGES, 512, readout=(8, 64, 512))
    errors = [float((out - want).norm() / want.norm()) for out in result.outputs]
    assert errors[2] < 0.03 and errors[2] < errors[1] / 3 < errors[0] / 6
    # the slope matters: the same network with ReLU is another function
    relu = nn.Sequential(*[nn.ReLU() if isinstance(layer, nn.LeakyReLU) else layer for layer in net])
    with torch.no_grad():
        assert float((relu(IMAGES) - want).norm() / want.norm()) > 3 * errors[2]


def test_leaky_relu_needs_negative_spikes(ann: nn.Sequential) -> None:
    ann[2] = nn.LeakyReLU()
    with pytest.raises(InputError, match=r"'2' \(LeakyReLU\) has no spiking form: run replace_layers first"):
        convert(ann, neuron="residual-fix", scale="max", calibration=IMAGES)
    quant = prepare(ann, 8, IMAGES)
    assert quant[2].slope == pytest.approx(0.01)
    assert prepare(quant, 4, example=IMAGES)[2].slope == quant[2].slope
    message = r"'2' \(1 in all\) goes below 0, and neuron='residual-fix' has no .*: take 'signed'"
    with pytest.raises(ConversionError, match=message):
        convert(quant, neuron="residual-fix")
    assert convert(quant)[2].slope == convert(quant, neuron="imbalanced")[2].slope == quant[2].slope


@pytest.mark.parametrize("flatten", ["flatten", "view"])
def test_memory_format_is_one_that_forward_takes(flatten: str) -> None:
    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act, self.fc = nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Linear(4 * 36, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.act(self.conv(x))
            return self.fc(x.view(x.size(0), -1) if flatten == "view" else x.flatten(1))

    snn = convert(Classifier(), scale="max", calibration=IMAGES)
    assert snn.conv.weight.is_contiguous(memory_format=torch.channels_last)  # a view became a reshape
    assert simulate(snn, IMAGES, 4, flush=2).final.shape == (4, 3)
