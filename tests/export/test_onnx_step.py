"""One time step as an ONNX graph: a loop of onnxruntime fires what the simulation fires."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from sj_lowlat.conversion import convert, prepare, replace_layers
from sj_lowlat.data import TrafficDataset
from sj_lowlat.errors import ConversionError, InputError
from sj_lowlat.export import run_onnx_steps, write_onnx, write_onnx_step
from sj_lowlat.layers import LowLatencyIFNode, RateReadout
from sj_lowlat.models import snn_tiny_yolov3, tiny_yolov3
from sj_lowlat.network import SpikingNetwork
from sj_lowlat.pretrained import load
from sj_lowlat.simulation import simulate
from tests.export.watch import watched

pytest.importorskip("onnxruntime")
IMAGES = torch.randint(0, 257, (2, 3, 64, 64), generator=torch.Generator().manual_seed(1)) / 256


def network(kind: str) -> SpikingNetwork:
    """A narrow detector, whose numbers float32 adds without rounding, in any order."""
    torch.manual_seed(3)
    net: nn.Module = tiny_yolov3(num_classes=2, width=0.125, input_size=64)
    if kind in ("relu", "plain"):
        net = replace_layers(net, IMAGES, only_activations=True)
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            tensor.mul_(1 + 0.3 * torch.rand(tensor.shape))
    quant = prepare(net, 4, IMAGES, scale="90%", headroom=3 if kind == "wide" else 1)
    snn = convert(quant, neuron="residual-fix" if kind == "plain" else "signed")
    for layer in snn.modules():
        layer = layer.layer if isinstance(layer, RateReadout) else layer
        if isinstance(layer, nn.Conv2d):
            layer.weight.data.mul_(64).round_().div_(64)
            if layer.bias is not None:
                layer.bias.data.mul_(64).round_().div_(64)
        elif isinstance(layer, LowLatencyIFNode):
            layer.v_threshold = torch.exp2(torch.log2(layer.threshold).round())
            if layer.rule.slope:
                layer.slope = 0.125
    return snn


@pytest.mark.parametrize("kind", ["relu", "leaky", "wide", "plain"])
@pytest.mark.parametrize("schedule", ["4+3", "1+1b4c4"])
def test_every_spike_of_every_step(kind: str, schedule: str, tmp_path: Path) -> None:
    snn = network(kind)
    path = write_onnx_step(snn, tmp_path / "step.onnx", schedule)
    wanted, maps = watched(snn, IMAGES, schedule)
    steps = list(run_onnx_steps(path, IMAGES))
    assert len(steps) == len(maps)
    fired = 0
    for now, (step, read) in enumerate(zip(steps, maps, strict=True)):
        heads, layers = list(step.values())[: len(read)], list(step.items())[len(read) :]
        assert len(layers) == len(wanted)
        for (name, ours), theirs in zip(layers, wanted.values(), strict=True):
            assert torch.equal(ours, theirs[now]), (name, now)
            fired += int(ours.abs().sum())
        for ours, theirs in zip(heads, read, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert fired > 1000


def test_the_shipped_detector(tmp_path: Path) -> None:
    """Its sums are rounded: few spikes may differ."""
    snn = load("snn-tiny-yolov3-coco")
    image = TrafficDataset(1, 416, seed=2)[0].image[None] / 255
    *_, last = run_onnx_steps(write_onnx_step(snn, tmp_path / "step.onnx"), image)
    maps = simulate(snn, image).final
    for ours, theirs in zip(list(last.values())[: len(maps)], maps, strict=True):
        assert ((ours - theirs).abs() > 1e-3).float().mean() < 0.02


def test_what_is_refused(tmp_path: Path) -> None:
    snn, step = network("leaky"), tmp_path / "step.onnx"
    quant = prepare(tiny_yolov3(num_classes=2, width=0.125, input_size=64), 4, IMAGES)
    with pytest.raises(InputError, match="give a spiking network in fp32"):
        write_onnx_step(quant, step)
    with pytest.raises(ConversionError, match="layer 'layers.18.conv'"):
        write_onnx_step(convert(prepare(snn_tiny_yolov3(2, 0.125, input_size=64), 4, IMAGES)), step)
    with pytest.raises(InputError, match="without pre-steps"):
        write_onnx_step(snn, step, "4+2p4")
    with pytest.raises(InputError, match="must end with .onnx"):
        write_onnx_step(snn, tmp_path / "step.npz")
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="cannot be run by onnxruntime"):
        next(run_onnx_steps(step, IMAGES))
    with pytest.raises(InputError, match="holds no time step"):
        next(run_onnx_steps(write_onnx(quant, tmp_path / "quant.onnx"), IMAGES))
    write_onnx_step(snn, step)
    with pytest.raises(InputError, match=r"does not run on images of \[1, 3, 32, 32\]"):
        next(run_onnx_steps(step, torch.zeros(1, 3, 32, 32)))
    step.write_bytes(step.read_bytes()[:-4000])
    with pytest.raises(InputError):
        next(run_onnx_steps(step, IMAGES))
