"""Networks from ONNX files."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import torchvision
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.nn import functional as F

from sj_lowlat import load, save
from sj_lowlat.cli import main
from sj_lowlat.conversion import convert, prepare
from sj_lowlat.detect import YOLOXHead
from sj_lowlat.errors import ConversionError, InputError
from sj_lowlat.models import InputScale, from_onnx
from sj_lowlat.network import SpikingNetwork
from sj_lowlat.simulation import simulate
from sj_lowlat.zoo import open_network


def exported(network: nn.Module, path: Path, size: int = 32, **more: Any) -> Path:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network.eval(), (torch.rand(1, 3, size, size),), path, dynamo=False, **more)
    return path


def settles(network: nn.Module, images: Tensor) -> None:
    quant = prepare(network.double(), 8, images, scale="mse")
    found = simulate(convert(quant), images, mode="counts").final
    with torch.no_grad():
        wanted = quant(images)
    for ours, theirs in zip(_list(found), _list(wanted), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def _list(outputs: Any) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


class Shuffled(nn.Module):
    """Channels are shuffled as ShuffleNet does it, sizes are read from the map; SiLU is written out."""

    def __init__(self, head: bool = True) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1)
        self.act, self.last = nn.PReLU(8), nn.Conv2d(16, 7, 1)
        nn.init.uniform_(self.act.weight, 0.05, 0.3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.a(x))
        n, c, h, w = x.size()
        x = x.reshape(n * c // 2, 2, h * w).permute(1, 0, 2).reshape(2, -1, c // 2, h, w)
        x = torch.cat((x[0], x[1]), 1)
        y = self.b(x)
        y = F.max_pool2d(y * y.sigmoid(), 3, 2, 1)
        y = F.interpolate(y, scale_factor=2.0, mode="nearest")
        y = self.last(torch.cat((x[:, :, ::1, ::1], y), 1))
        return torch.cat((y[:, :4], y[:, 4:].sigmoid()), 1).flatten(2).permute(0, 2, 1)


def test_a_detector(tmp_path: Path) -> None:
    network = Shuffled()
    path = exported(network, tmp_path / "net.onnx")
    head = YOLOXHead(2, (2,), (32, 32), activated=True)
    scale = InputScale(255, [120, 121, 122], [60, 61, 62], bgr=True)
    read = from_onnx(path, heads=[head], input_scale=scale)
    images = torch.rand(3, 3, 32, 32)
    mean, std = (torch.tensor([v, v + 1, v + 2.0]).view(3, 1, 1) for v in (120, 60))
    with torch.no_grad():
        wanted = network((images.flip(1) * 255 - mean) / std)
        torch.testing.assert_close(read(images), wanted, rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match=r"takes \[N, 3, 32, 32\]; got \[1, 3, 32, 48\]"):
        read(torch.rand(1, 3, 32, 48))
    assert (read.input_shape, read.class_names) == ((3, 32, 32), ("class 0", "class 1"))
    settles(read, images.double())
    quant = prepare(read.float(), 8, images)
    save(quant, tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert again.head_specs == (head,)
    with torch.no_grad():
        torch.testing.assert_close(again(images), quant(images))


def test_a_silu_that_is_written_out_is_one_layer(tmp_path: Path) -> None:
    read = from_onnx(exported(Shuffled(), tmp_path / "net.onnx"))
    quant = prepare(read, 8, torch.rand(2, 3, 32, 32))
    kinds = {type(module.fn) for module in quant.modules() if hasattr(module, "fn")}
    assert kinds == {nn.SiLU, nn.PReLU}


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "squeezenet1_1"])
def test_classifiers(name: str, tmp_path: Path) -> None:
    network = getattr(torchvision.models, name)(weights=None).eval()
    read = from_onnx(exported(network, tmp_path / "net.onnx", 64))
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(read(images), network(images), rtol=1e-3, atol=1e-5)
    settles(read, images.double())


def test_sizes_that_the_file_leaves_open(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))
    axes = {"images": {0: "batch", 2: "height", 3: "width"}}
    path = exported(network, tmp_path / "net.onnx", input_names=["images"], dynamic_axes=axes)
    with pytest.raises(InputError, match="leaves its image size open: give size"):
        from_onnx(path)
    assert from_onnx(path, size=(20, 24))(torch.rand(2, 3, 20, 24)).shape == (2, 2, 18, 22)


def made(path: Path, node: Any, out: tuple[int, ...], inputs: int = 1) -> Path:
    names = ["x", "y"][:inputs]
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 3, 8, 8)) for name in names]
    result = helper.make_tensor_value_info("out", TensorProto.FLOAT, out)
    graph = helper.make_graph(node if isinstance(node, list) else [node], "g", given, [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return path


def _resize(path: Path) -> Path:
    """A nearest resize whose rounding torch does not know."""
    scales = helper.make_node(
        "Constant", [], ["s"], value=helper.make_tensor("s", TensorProto.FLOAT, (4,), [1, 1, 1.6, 1.6])
    )
    how = {"mode": "nearest", "coordinate_transformation_mode": "half_pixel", "nearest_mode": "ceil"}
    return made(path, [scales, helper.make_node("Resize", ["x", "", "s"], ["out"], **how)], (1, 3, 12, 12))


def _unknown(path: Path) -> Path:
    return made(path, helper.make_node("Hardmax", ["x"], ["out"]), (1, 3, 8, 8))


@pytest.mark.parametrize(
    ("write", "error", "message"),
    [
        (lambda path: path, FileNotFoundError, "no file at"),
        (lambda path: path.write_text("no onnx"), InputError, "is no whole ONNX file"),
        (lambda path: made(path, helper.make_node("Add", ["x", "y"], ["out"]), (1, 3, 8, 8), 2), InputError,
         r"takes \['x', 'y'\]; only networks of one input"),
        (_resize, ConversionError, "other values in torch than in onnxruntime"),
        (_unknown, ConversionError, "cannot be turned into torch .*Hardmax"),
    ],
)  # fmt: skip
def test_files_that_are_refused(
    write: Callable[[Path], Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "net.onnx"
    write(path)
    with pytest.raises(error, match=message):
        from_onnx(path)


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    path = exported(Shuffled(), tmp_path / "net.onnx")
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 20):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="is no whole ONNX file"):
            from_onnx(path)


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx2torch", None)
    with pytest.raises(InputError, match=r"pip install 'sj-lowlat\[onnx\]'"):
        from_onnx(tmp_path / "net.onnx")


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = exported(Shuffled(), tmp_path / "net.onnx")
    photo = torch.randint(256, (3, 40, 50), dtype=torch.uint8)
    torchvision.io.write_png(photo, str(tmp_path / "photo.png"))
    (tmp_path / "two.names").write_text("ant\nbee\n")
    word = f"{path}:heads=yolox,names={tmp_path / 'two.names'}"
    made = ["convert", "--model", word, "--levels", "8", "--calibration", str(tmp_path), "--output"]
    assert main([*made, str(tmp_path / "snn")]) == 0
    snn = load(tmp_path / "snn")
    assert isinstance(snn.network, SpikingNetwork) and snn.class_names == ("ant", "bee")
    assert main(["convert", "--model", str(tmp_path / "none.onnx"), "--output", str(tmp_path / "no")]) == 2
    assert "no file at" in capsys.readouterr().err


def test_as_a_word(tmp_path: Path) -> None:
    path = exported(Shuffled(), tmp_path / "net.onnx")
    (tmp_path / "two.names").write_text("ant\nbee\n")
    network = open_network(f"{path}:heads=yolox,scale=255,bgr=true,names={tmp_path / 'two.names'}")
    assert network.class_names == ("ant", "bee")
    assert network.head_specs == (YOLOXHead(2, (8, 16, 32), (32, 32), activated=True),)
    assert network.input_scale.scale == 255 and network.input_scale.bgr
    for word, message in (
        ("heads=ssd", "heads is 'ssd'; give 'yolox'"),
        ("std=0", "scale and std must be positive"),
        ("std=much", "are not numbers"),
        ("bgr=no", "the option bgr=no is no bool"),
        ("size=big", "the option size=big is no int"),
        ("size=0", "size is 0"),
        ("heads=5", "the option heads=5 is no str"),
        ("colour=red", "no option 'colour'"),
        ("size", "not all name=value"),
        ("size=64", "does not run on images of"),
    ):
        with pytest.raises((InputError, ConversionError), match=message):
            open_network(f"{path}:{word}")


@pytest.mark.parametrize("place", ["../secret", "{folder}/secret", "link"])
def test_weights_are_not_read_from_elsewhere(tmp_path: Path, place: str) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    for file in (tmp_path / "secret", inner / "weights.bin"):
        file.write_bytes(torch.ones(36).numpy().tobytes())
    (inner / "link").symlink_to(tmp_path / "secret")

    def write(location: str) -> Path:
        weights = TensorProto(name="w", data_type=1, dims=[4, 1, 3, 3], data_location=1)
        weights.external_data.add(key="location", value=location)
        sizes = {"x": [1, 1, 8, 8], "y": [1, 4, 6, 6]}
        ends = [helper.make_tensor_value_info(name, 1, size) for name, size in sizes.items()]
        conv = helper.make_node("Conv", ["x", "w"], ["y"])
        graph = helper.make_graph([conv], "net", ends[:1], ends[1:], [weights])
        opset = helper.make_opsetid("", 13)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
        (inner / "net.onnx").write_bytes(model.SerializeToString())
        return inner / "net.onnx"

    assert from_onnx(write("weights.bin")).input_shape == (1, 8, 8)
    with pytest.raises(InputError, match="is no whole ONNX file"):
        from_onnx(write(place.format(folder=tmp_path)))
