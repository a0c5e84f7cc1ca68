"""ONNX files against onnxruntime, and read back as the same network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sj_lowlat.conversion import convert, prepare, replace_layers
from sj_lowlat.errors import ConversionError, InputError
from sj_lowlat.export import read_onnx, run_onnx, write_onnx, wrote
from sj_lowlat.layers import QuantReLU
from sj_lowlat.models import snn_tiny_yolov3, tiny_yolov3
from sj_lowlat.network import GraphNetwork
from sj_lowlat.zoo import open_network

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def network(kind: str) -> Any:
    torch.manual_seed(3)
    if kind == "float":
        return tiny_yolov3(num_classes=2, width=0.125, input_size=64, class_names=["cat", "dog"])
    if kind == "pools":
        net = tiny_yolov3(num_classes=2, width=0.125, input_size=64, class_names=["cat", "dog"])
        return prepare(replace_layers(net, IMAGES, only_activations=True), 4, IMAGES, equalise=True)
    if kind == "leaky":
        return prepare(tiny_yolov3(num_classes=2, width=0.125, input_size=64), 8, IMAGES)
    return prepare(snn_tiny_yolov3(num_classes=2, width=0.125, input_size=64), 4, IMAGES, per_channel=True)


@pytest.mark.parametrize("kind", ["float", "pools", "leaky", "strided"])
def test_onnxruntime_computes_the_same_maps(kind: str, tmp_path: Path) -> None:
    net = network(kind).eval()
    path = write_onnx(net, tmp_path / "net.onnx")
    for images in (IMAGES, IMAGES[:1]):  # the batch is free
        with torch.no_grad():
            wanted = net(images)
        found = run_onnx(path, images)
        assert len(found) == len(wanted) == 2
        for ours, theirs in zip(wanted, found, strict=True):
            # sums in another order may cross a border between two levels in a few places
            apart = (ours - theirs).abs() > 1e-4
            assert apart.float().mean() < 0.02, apart.float().mean()


class Twice(nn.Module):
    """One convolution and one activation that run twice, on numbers that float32 adds without rounding."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 3, 3, padding=1), act
        self.pool, self.head = nn.MaxPool2d(2), nn.Conv2d(3, 5, 1)
        for parameter in self.conv.parameters():
            parameter.data.mul_(16).round_().div_(16)
        for parameter in self.head.parameters():
            parameter.data.mul_(16).round_().div_(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        once = self.act(self.conv(x))
        return self.head(self.pool(self.act(self.conv(once)) + once))


@pytest.mark.parametrize("act", [nn.ReLU(), QuantReLU(4, 1.0), QuantReLU(8, 2.0, slope=0.125)])
def test_where_sums_are_exact_outputs_are_equal(act: nn.Module, tmp_path: Path) -> None:
    torch.manual_seed(1)
    net = GraphNetwork.of(Twice(act).eval(), IMAGES[:1])
    images = (IMAGES * 16).round() / 16
    (found,) = run_onnx(write_onnx(net, tmp_path / "net.onnx"), images)
    with torch.no_grad():
        assert torch.equal(found, net(images)) and found.unique().numel() > 20


@pytest.mark.parametrize("kind", ["float", "pools", "leaky", "strided"])
def test_the_file_is_read_back_as_the_same_network(kind: str, tmp_path: Path) -> None:
    net = network(kind).eval()
    path = write_onnx(net, tmp_path / "net.onnx")
    back = open_network(str(path))
    assert wrote(path) and isinstance(back, GraphNetwork)
    assert back.info.heads == net.info.heads and back.info.levels == net.info.levels
    assert back.info.class_names == net.info.class_names
    state = net.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in back.state_dict().items())
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(net(IMAGES), back(IMAGES), strict=True))
    if kind != "float":
        assert convert(back).info.levels == net.info.levels


def test_metadata_tell_what_the_maps_mean(tmp_path: Path) -> None:
    net = network("pools")
    file = onnx.load(write_onnx(net, tmp_path / "net.onnx"))
    about = {entry.key: entry.value for entry in file.metadata_props}
    assert json.loads(about["classes"]) == ["cat", "dog"]
    assert [head["stride"] for head in json.loads(about["heads"])] == [32, 16]
    assert json.loads(about["levels"]) == 4


def test_a_changed_graph_is_refused(tmp_path: Path) -> None:
    path = write_onnx(network("float"), tmp_path / "net.onnx")
    file = onnx.load(path)
    relu = next(node for node in file.graph.node if node.op_type == "LeakyRelu")
    relu.attribute[0].f = 0.3
    onnx.save(file, path)
    with pytest.raises(InputError, match="another than its metadata"):
        read_onnx(path)


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softplus())
    with pytest.raises(ConversionError, match=r"'1'.*Softplus"):
        write_onnx(GraphNetwork.of(net, IMAGES), tmp_path / "net.onnx")
    with pytest.raises(InputError, match="before convert"):
        write_onnx(convert(network("pools")), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
