"""What is fuzzed: a reader each, with a few good inputs to start from.

A target takes any bytes. It may raise nothing but the package's :class:`InputError`, or an ``OSError``.
"""

from __future__ import annotations

import io
import json
import tempfile
import warnings
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from sj_lowlat import checkpoint, export, models, pretrained, zoo
from sj_lowlat.cli.options import finer_factors
from sj_lowlat.cli.sources import open_data
from sj_lowlat.conversion import convert, prepare
from sj_lowlat.data import CocoDataset, VocDataset, YoloDataset
from sj_lowlat.data.images import image_size, read_image
from sj_lowlat.errors import InputError
from sj_lowlat.models import darknet_weights, onnx_file
from sj_lowlat.schedule import Schedule
from sj_lowlat.spike_camera import SpikeDataset, open_stream, write_stream
from sj_lowlat.training.journal import journal

CFG = """[net]
width=32
height=32
channels=1
[convolutional]
batch_normalize=1
filters=4
size=3
stride=2
pad=1
activation=leaky
[maxpool]
size=2
stride=1
[route]
layers=-1,-2
[reorg]
stride=2
[upsample]
stride=2
[shortcut]
from=-1
[convolutional]
filters=14
size=1
activation=linear
[yolo]
mask=0,1
anchors=4,4, 8,8
classes=2
num=2
"""
INSTANCES: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "a.png", "width": 4, "height": 4}, {"id": "2", "file_name": "b.png"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0.5, 2, 9], "iscrowd": 0}],
    "categories": [{"id": 1, "name": "x"}],
}
CLIPS: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "a.dat", "width": 8, "height": 8, "frames": 4, "frame": 1}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 2, 2]}],
    "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "vehicle"}],
}
CLIPS["images"][0] |= {"frame_rate": 20000.0, "rate_at_white": 0.6}
ANNOTATION = (
    "<annotation><size><width>4</width><height>4</height></size><object><name>cat</name><difficult>1</difficult>"
    "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>3</ymax></bndbox></object></annotation>"
)
YOLO = (
    b"y" + b"path: .\ntrain: images/a.png\nval: [l.txt, images]\nnc: 2\nnames:\n  0: cat\n  1: dog\n",
    b"limages/a.png\n./images/a.png\n",
    b"t0 0.5 0.5 0.2 0.4\n1 0.1 0.1 0.2 0.1 0.2 0.3\n",
    b"d# of darknet\nclasses = 2\nvalid = l.txt\nnames = data/c.names\n",
)
WORDS = (
    "s4+2b4c16",
    "f layers.0.act=4,layers.2.act=2",
    "dtraffic:3:1",
    "dcoco:a.json:.",
    "dvoc:.:test",
    "dspikes:a.json:3",
    "dyolo:a.yaml:val",
    "mwidth=0.5,input_size=64,num_classes=3,in_channels=1",
    "oheads=yolox,scale=255,bgr=true,mean=0,std=1,size=416",
)


@dataclass(frozen=True)
class Target:
    """A reader.

    :param seeds: makes good inputs
    :param read: reads one; gets a folder of its own
    :param milliseconds: that an input takes, about
    """

    seeds: Callable[[], list[bytes]]
    read: Callable[[bytes, Path], object]
    milliseconds: float = 1.0


def run(target: Target, data: bytes, folder: Path) -> None:
    """Read one input; whatever is not the package's own error comes out."""
    with warnings.catch_warnings(), suppress(InputError, OSError):
        warnings.simplefilter("ignore")
        target.read(data, folder)


def _file(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _cfg(data: bytes, folder: Path) -> None:
    with torch.device("meta"):  # memory is another test
        models.darknet(_file(folder, "a.cfg", data))


@cache
def _net() -> models.DarknetNet:
    return models.darknet(CFG)


def _weights() -> list[bytes]:
    values = [tensor.detach().numpy().astype("<f4").tobytes() for _, tensor in darknet_weights._parts(_net())]
    return [bytes([0, 0, 0, 0, 2]) + bytes(15) + b"".join(values)]


def _coco(data: bytes, folder: Path) -> None:
    for name in ("a.png", "b.png"):
        if not (folder / name).exists():
            Image.new("RGB", (4, 4)).save(folder / name)
    found = CocoDataset(_file(folder, "a.json", data), folder)
    [found[index] for index in range(min(len(found), 4))]


def _clips(data: bytes, folder: Path) -> None:
    _file(folder, "a.dat", bytes(32))
    found = SpikeDataset(_file(folder, "a.json", data), folder)
    [found[index] for index in range(min(len(found), 4))]


def _voc(data: bytes, folder: Path) -> None:
    """An annotation, or with a first byte of 0 the list."""
    base = folder / "VOCdevkit/VOC2007"
    if not (base / "JPEGImages").exists():
        (base / "JPEGImages").mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(base / "JPEGImages/1.jpg")
    listed = data[:1] == b"\0"
    _file(base, "Annotations/1.xml", ANNOTATION.encode() if listed else data)
    _file(base, "ImageSets/Main/test.txt", data[1:] if listed else b"1\n")
    found = VocDataset(folder)
    [found[index] for index in range(min(len(found), 4))]


def _yolo(data: bytes, folder: Path) -> None:
    """By the first byte: a data.yaml, a list of pictures, labels, or a .data file of darknet."""
    if not (folder / "images").exists():
        (folder / "images").mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(folder / "images/a.png")
    files = {b"y": "data.yaml", b"l": "l.txt", b"t": "labels/a.txt", b"d": "obj.data"}
    for seed in YOLO:
        _file(folder, files[seed[:1]], seed[1:])
    _file(folder, "c.names", b"cat\ndog\n")
    _file(folder, files.get(data[:1], "labels/a.txt"), data[1:])
    found = YoloDataset(folder / ("obj.data" if data[:1] == b"d" else "data.yaml"), "val")
    [(found[index], found.target(index)) for index in range(min(len(found), 4))]


def _pictures() -> list[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    found = []
    for kind in ("BMP", "JPEG", "PNG", "TIFF", "WEBP"):
        output = io.BytesIO()
        mark = Image.Exif()
        mark[0x0112] = 6
        Image.fromarray(pixels).save(output, kind, **({} if kind == "BMP" else {"exif": mark.tobytes()}))
        found.append(output.getvalue())
    return found


def _picture(data: bytes, folder: Path) -> None:
    path = _file(folder, "a.png", data)
    width, height = image_size(path)
    assert read_image(path).shape == (3, height, width)


def _streams(suffix: str) -> Callable[[], list[bytes]]:
    def make() -> list[bytes]:
        planes = np.random.default_rng(0).integers(0, 2, (3, 4, 8), dtype=np.uint8)
        path = Path(f"stream{suffix}").absolute()
        write_stream(path, planes)
        data = path.read_bytes()
        path.unlink()
        return [data]

    return make


def _stream(suffix: str) -> Callable[[bytes, Path], None]:
    def read(data: bytes, folder: Path) -> None:
        sides = {"height": 4, "width": 8} if suffix == ".dat" else {}
        stream = open_stream(_file(folder, f"a{suffix}", data), **sides)
        stream[:100].planes()

    return read


@cache
def _small() -> tuple[nn.Module, nn.Module]:
    """A Quant ANN, and the spiking network that it becomes."""
    torch.manual_seed(0)
    plain = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 1, 1)
    ).eval()
    quant = prepare(plain, 4, torch.rand(2, 1, 8, 8))
    return quant, convert(quant)


def _configs() -> list[bytes]:
    fresh = models.snn_tiny_yolov3(2, width=0.1, input_size=32)
    old = {"format": 1, "build": fresh.build_config, "history": [], "input_shape": [3, 32, 32]}
    old |= {"replaced": {}, "conversion_report": None}
    return [
        json.dumps(record).encode()
        for record in (*map(checkpoint.describe, (*reversed(_small()), fresh)), old)
    ]


@cache
def _values() -> dict[str, torch.Tensor]:
    return checkpoint.values(_small()[1])


def _config(data: bytes, folder: Path) -> None:
    if not (folder / checkpoint.WEIGHTS).exists():
        save_file(_values(), folder / checkpoint.WEIGHTS)
    network = checkpoint.load(_file(folder, checkpoint.CONFIG, data).parent)
    save_file(_values(), folder / checkpoint.WEIGHTS)  # a config of version 0.1 was rewritten
    del network


def _tensors() -> list[bytes]:
    path = Path("tensors.safetensors").absolute()
    save_file(_values(), path)
    data = path.read_bytes()
    path.unlink()
    return [data]


def _checkpoint(data: bytes, folder: Path) -> None:
    _file(folder, checkpoint.WEIGHTS, data)
    if not (folder / checkpoint.CONFIG).exists():
        _file(folder, checkpoint.CONFIG, json.dumps(checkpoint.describe(_small()[1])).encode())
    checkpoint.load(folder)


def _packed() -> list[bytes]:
    path = Path("packed.safetensors").absolute()
    pretrained.pack(_small()[0], path, {"schedule": "4+2"}, small=4)
    data = path.read_bytes()
    path.unlink()
    return [data]


def _log(data: bytes, folder: Path) -> None:
    # TensorBoard's threads would use the machine up
    no_board = mock.patch("sj_lowlat.training.journal._tensorboard", lambda *_: nullcontext())
    with no_board, journal(_file(folder, "log.jsonl", data).parent, 10) as write:
        write(11, {"total": 1.0}, 0.1, 1.0)
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[-1])["iteration"] == 11


def _word(data: bytes, folder: Path) -> None:
    word = data[1:].decode("utf-8", "replace")
    match data[:1]:
        case b"s":
            Schedule.parse(word)
        case b"f":
            finer_factors(word)
        case b"d" if word.startswith(("traffic", "coco:", "voc:", "yolo:", "spikes:")):  # not a folder like /
            open_data(word)
        case b"m":
            with torch.device("meta"):
                zoo._fresh("snn_tiny_yolov3", word, (), 0)
                zoo._fresh("tiny_yolov3", word, (), 0)
        case b"o":
            zoo._onnx(str(folder / "none.onnx"), word)


def _nir() -> list[bytes]:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(18, 2))
    snn = convert(net, neuron="residual-fix", scale="max", calibration=torch.rand(2, 1, 8, 8))
    with tempfile.TemporaryDirectory() as folder:
        return [export.write_nir(snn, Path(folder) / "a.nir", "4+0c4").read_bytes()]


def _onnx() -> list[bytes]:
    output = io.BytesIO()
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (torch.rand(1, 1, 8, 8),), output, dynamo=False)
    return [output.getvalue()]


def _packed_read(data: bytes, folder: Path) -> None:
    pretrained.unpack(_file(folder, "a.safetensors", data))


TARGETS: dict[str, Target] = {
    "cfg": Target(lambda: [CFG.encode()], _cfg, 5),
    "weights": Target(
        _weights, lambda data, folder: models.load_darknet_weights(_net(), _file(folder, "a.weights", data))
    ),
    "coco": Target(lambda: [json.dumps(INSTANCES).encode()], _coco),
    "clips": Target(lambda: [json.dumps(CLIPS).encode()], _clips, 2),
    "voc": Target(lambda: [ANNOTATION.encode(), b"\0001\n"], _voc, 2),
    "yolo": Target(lambda: [*YOLO], _yolo, 3),
    "picture": Target(_pictures, _picture),
    "dat": Target(_streams(".dat"), _stream(".dat")),
    "npy": Target(_streams(".npy"), _stream(".npy")),
    "npz": Target(_streams(".npz"), _stream(".npz")),
    "config": Target(_configs, _config, 15),
    "tensors": Target(_tensors, _checkpoint, 10),
    "packed": Target(_packed, _packed_read, 5),
    "log": Target(
        lambda: [b'{"iteration": 1, "losses": {"total": 1.0}, "lr": 0.1, "seconds": 1.0}\n' * 2], _log
    ),
    "words": Target(lambda: [word.encode() for word in WORDS], _word, 10),
    "nir": Target(_nir, lambda data, folder: export.read_nir(_file(folder, "a.nir", data)), 50),
    "onnx": Target(_onnx, lambda data, folder: onnx_file.read(_file(folder, "a.onnx", data), None), 50),
}
