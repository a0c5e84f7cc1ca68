"""Decoders of other projects' networks against loops, and these networks as spiking ones."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sj_lowlat import checkpoint
from sj_lowlat.conversion import convert, prepare
from sj_lowlat.data import ImageFolderDataset, TrafficDataset, letterbox
from sj_lowlat.detect import detections_from_maps
from sj_lowlat.models import snn_tiny_yolov3
from sj_lowlat.simulation import simulate

_FOLDER = Path(__file__).parents[2] / "benchmarks"
_SPEC = importlib.util.spec_from_file_location("public", _FOLDER / "public.py")
assert _SPEC is not None and _SPEC.loader is not None
public = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(public)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def close(found: tuple[Tensor, Tensor], wanted: list[tuple[float, ...]], scores: list[list[float]]) -> None:
    boxes = [(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for x, y, w, h in wanted]
    torch.testing.assert_close(found[0][0], torch.tensor(boxes), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found[1][0], torch.tensor(scores), rtol=1e-4, atol=1e-6)


def test_fastestdet_equals_loop() -> None:
    output = torch.randn(1, 7, 3, 4)
    output[:, 0], output[:, 5:] = output[:, 0].sigmoid(), output[:, 5:].softmax(1)
    boxes, scores = [], []
    for y in range(3):
        for x in range(4):
            v = output[0, :, y, x].tolist()
            boxes.append(
                ((x + math.tanh(v[1])) / 4 * 64, (y + math.tanh(v[2])) / 3 * 48,
                 _sigmoid(v[3]) * 64, _sigmoid(v[4]) * 48)
            )  # fmt: skip
            scores.append([v[0] ** 0.6 * c**0.4 for c in v[5:]])
    close(public.fastestdet(output), boxes, scores)


def test_yunet_equals_loop() -> None:
    sides = {8: 4, 16: 2, 32: 1}
    classes, objectness = ([torch.rand(1, n * n, 1) for n in sides.values()] for _ in range(2))
    moves = [torch.randn(1, n * n, 4) for n in sides.values()]
    landmarks = [torch.randn(1, n * n, 10) for n in sides.values()]
    boxes, scores = [], []
    for k, (stride, side) in enumerate(sides.items()):
        for cell in range(side * side):
            dx, dy, dw, dh = moves[k][0, cell].tolist()
            row, column = divmod(cell, side)
            size = (math.exp(dw) * stride, math.exp(dh) * stride)
            boxes.append(((column + dx) * stride, (row + dy) * stride, *size))
            scores.append([math.sqrt(float(classes[k][0, cell, 0] * objectness[k][0, cell, 0]))])
    close(public.yunet(*classes, *objectness, *moves, *landmarks), boxes, scores)


def test_blazeface_has_the_anchors_of_its_project(data_dir: Path) -> None:
    path = data_dir / "nets" / "blazeface" / "anchors.npy"
    if not path.is_file():
        pytest.skip(f"no anchors at {path}")
    moves = torch.rand(1, 896, 16)
    anchors = np.load(path).tolist()
    values = moves[0].tolist()
    boxes = [(128 * a[0] + v[0], 128 * a[1] + v[1], v[2], v[3]) for a, v in zip(anchors, values, strict=True)]
    scores = torch.randn(1, 896, 1)
    close(public.blazeface(scores, moves), boxes, scores.sigmoid()[0].tolist())


def opened(data_dir: Path, name: str) -> nn.Module:
    if not (data_dir / "nets").is_dir():
        pytest.skip(f"no networks at {data_dir / 'nets'}")
    return public.NETWORKS[name](data_dir / "nets").eval()


def people(data_dir: Path, count: int, size: int) -> Tensor:
    folder = data_dir / "coco-subset" / "val2017"
    if not folder.is_dir():
        pytest.skip(f"no photos at {folder}")
    data = ImageFolderDataset(folder)
    return torch.stack([letterbox(data[10 * i].image, size)[0] for i in range(count)])


@pytest.mark.parametrize("name", list(public.NETWORKS))
def test_public_networks_settle(data_dir: Path, name: str) -> None:
    network = opened(data_dir, name)
    images = people(data_dir, 3, network.input_shape[-1]).double()
    quant = prepare(network.double(), 16, images, scale="mse")
    found = simulate(convert(quant), images[:1], mode="counts").final
    with torch.no_grad():
        wanted = quant(images[:1])
    outputs = [[x] if isinstance(x, Tensor) else list(x) for x in (found, wanted)]
    for ours, theirs in zip(*outputs, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_face_detectors_find_the_same_faces(data_dir: Path) -> None:
    """Three projects' detectors, each with its own scaling and decoder, agree on most photos."""
    found = {}
    for name in ("yunet", "ultralight-face", "blazeface"):
        network = opened(data_dir, name)
        size = network.input_shape[-1]
        images = people(data_dir, 40, size)
        with torch.no_grad():
            per_image = detections_from_maps(network(images), network.head_specs, 0.7, 0.3)
        found[name] = [len(each) > 0 for each in per_image]
        assert sum(found[name]) >= 5
    same = [len(set(answers)) == 1 for answers in zip(*found.values(), strict=True)]
    assert sum(same) >= 28


def test_the_table_of_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two drawn pictures: a detector scored on boxes, and one on the boxes that it finds itself."""
    monkeypatch.syspath_prepend(_FOLDER)
    networks, runner = importlib.import_module("networks"), importlib.import_module("runner")
    inputs = importlib.import_module("inputs")
    drawn = TrafficDataset(2, 64)
    monkeypatch.setattr(networks, "open_photos", lambda *_: inputs.Photos("traffic", drawn, "coco"))
    monkeypatch.setattr(runner, "calibration_images", lambda *_: torch.rand(2, 3, 64, 64))
    fresh = snn_tiny_yolov3(4, width=0.125, class_names=drawn.class_names, input_size=64)
    with torch.no_grad():
        for module in fresh.modules():  # objects everywhere, so that there is something to agree on
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                module.bias.fill_(2.0)
    folder = str(checkpoint.save(fresh, tmp_path / "net"))
    plan = json.loads(networks.TABLE.read_text(encoding="utf-8"))
    one = {"what": folder, "size": 64}
    plan["networks"] = {"a": one, "b": {**one, "photos": "people"}}
    table = tmp_path / "networks.json"
    table.write_text(json.dumps(plan), encoding="utf-8")
    monkeypatch.setattr(networks, "TABLE", table)
    networks.main(
        ["--data", str(tmp_path), "--output", str(tmp_path / "runs"), "--results", str(tmp_path / "r.json")]
    )
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[4] for row in rows] == ["16", "32", "16 auto 32", "64"] * 2
    assert float(rows[4][3]) > 99  # the float network agrees with itself
    record = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["runs"]
    energy = record["a SNN L=64 2+14b16c64"]["energy"]
    assert 0 < energy["events_per_neuron_and_image"] <= energy["spikes_per_neuron_and_image"]
