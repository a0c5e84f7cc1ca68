"""Weight files: order, header, round trip, refusals, and the real one on real pictures."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.ops import box_iou

from sj_lowlat.class_names import COCO_IDS
from sj_lowlat.detect import detections_from_maps
from sj_lowlat.errors import InputError
from sj_lowlat.models import DarknetHeader, darknet, load_darknet_weights, save_darknet_weights, tiny_yolov3
from sj_lowlat.models.detector import Detector
from sj_lowlat.zoo import open_network

CFG = (
    "[net]\nwidth=32\nheight=32\nchannels=1\n"
    "[convolutional]\nbatch_normalize=1\nfilters=2\nsize=3\nstride=1\npad=1\nactivation=leaky\n"
    "[maxpool]\nsize=2\nstride=2\n"
    "[convolutional]\nfilters=6\nsize=1\nactivation=linear\n"
    "[yolo]\nanchors=4,6\nclasses=1\n"
)
FLOATS = 4 * 2 + 2 * 9 + 6 + 6 * 2


def _write(path: Path, values: np.ndarray, header: bytes = struct.pack("<iiiq", 0, 2, 0, 77)) -> Path:
    path.write_bytes(header + values.astype("<f4").tobytes())
    return path


def test_order(tmp_path) -> None:
    net = darknet(CFG, weights=_write(tmp_path / "a.weights", np.arange(FLOATS)))
    state = net.state_dict()
    assert state["layers.0.bn.bias"].tolist() == [0, 1]
    assert state["layers.0.bn.weight"].tolist() == [2, 3]
    assert state["layers.0.bn.running_mean"].tolist() == [4, 5]
    assert state["layers.0.bn.running_var"].tolist() == [6, 7]
    assert state["layers.0.conv.weight"].flatten().tolist() == list(range(8, 26))
    assert state["layers.2.conv.bias"].tolist() == list(range(26, 32))
    assert state["layers.2.conv.weight"].flatten().tolist() == list(range(32, 44))


@pytest.mark.parametrize(
    ("version", "layout", "seen"),
    [((0, 1, 0), "<iiii", 5), ((0, 2, 0), "<iiiq", 2**40), ((1, 0, 3), "<iiiq", 5)],
)
def test_header_follows_the_version(tmp_path, version, layout, seen) -> None:
    path = _write(tmp_path / "a.weights", np.arange(FLOATS), struct.pack(layout, *version, seen))
    net = darknet(CFG)
    header = load_darknet_weights(net, path)
    assert header == DarknetHeader(*version, seen)
    save_darknet_weights(net, tmp_path / "b.weights", header)
    assert (tmp_path / "b.weights").read_bytes() == path.read_bytes()


def test_saved_weights_load(tmp_path, yolo_cfg) -> None:
    net, other = darknet(yolo_cfg).eval(), darknet(yolo_cfg).eval()
    net(torch.rand(1, 3, 64, 64))
    save_darknet_weights(net, tmp_path / "a.weights")
    assert load_darknet_weights(other, tmp_path / "a.weights") == DarknetHeader()
    for key, value in net.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key


@pytest.mark.parametrize("below", [1, 2])
def test_the_layers_below_a_number(tmp_path, below) -> None:
    """As ``darknet partial`` writes them; the name says how many, and no other number of floats will do."""
    first = 4 * 2 + 2 * 9
    (tmp_path / "net.cfg").write_text(CFG)
    path = _write(tmp_path / f"net.conv.{below}", np.arange(first))
    torch.manual_seed(0)
    fresh = darknet(CFG).state_dict()
    torch.manual_seed(0)
    state = open_network(f"{tmp_path / 'net.cfg'},{path}").state_dict()
    assert state["layers.0.conv.weight"].flatten().tolist() == list(range(8, 26))
    assert torch.equal(state["layers.2.conv.weight"], fresh["layers.2.conv.weight"])
    for wrong in (first - 1, first + 1, FLOATS):
        _write(path, np.arange(wrong))
        with pytest.raises(InputError, match=rf"first {below} layers take {first}: "):
            darknet(CFG, path)
    with pytest.raises(InputError, match="first 3 layers take 44"):
        darknet(CFG, _write(tmp_path / "net.conv.3", np.arange(first)))
    with pytest.raises(InputError, match="the network takes 44"):
        darknet(CFG, _write(tmp_path / "net.conv.0", np.arange(0)))


def test_missing(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"b\.weights"):
        tiny_yolov3(weights=tmp_path / "b.weights")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes"),
        (struct.pack("<iii", 0, 2, 0), "12 bytes.*cut short"),
        (struct.pack("<iiii", 0, 2, 0, 0), "16 bytes.*header of 20"),
        (struct.pack("<iiiq", 0, 2, 0, 0) + bytes(4 * FLOATS - 1), "cut short"),
        (
            struct.pack("<iiiq", 0, 2, 0, 0) + bytes(4 * FLOATS - 8),
            rf"{FLOATS - 2} floats.*takes {FLOATS}: 2 are missing",
        ),
        (
            struct.pack("<iiiq", 0, 2, 0, 0) + bytes(4 * FLOATS + 12),
            rf"{FLOATS + 3} floats.*takes {FLOATS}: 3 are left over",
        ),
        (b"PK\x03\x04" + bytes(100), "not a darknet"),
    ],
)
def test_damaged(tmp_path, content, message) -> None:
    path = tmp_path / "a.weights"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        darknet(CFG, weights=path)


@pytest.mark.parametrize(("place", "value"), [(6, -1.0), (3, np.nan), (40, np.inf)])
def test_fitting_number_of_wrong_values(tmp_path, place, value) -> None:
    values = np.arange(FLOATS, dtype=np.float32)
    values[place] = value
    net = darknet(CFG)
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    with pytest.raises(InputError, match="damaged or made for another cfg"):
        load_darknet_weights(net, _write(tmp_path / "a.weights", values))
    assert all(torch.equal(tensor, before[key]) for key, tensor in net.state_dict().items())


def test_weights_of_another_cfg(tmp_path, yolo_cfg, region_cfg) -> None:
    save_darknet_weights(darknet(yolo_cfg), tmp_path / "a.weights")
    with pytest.raises(InputError, match=r"holds \d+ floats, the network takes \d+"):
        darknet(region_cfg, weights=tmp_path / "a.weights")


def test_real_weights_use_every_float(data_dir, tmp_path) -> None:
    path = data_dir / "darknet" / "yolov3-tiny.weights"
    net = tiny_yolov3()
    assert load_darknet_weights(net, path) == DarknetHeader(0, 2, 0, 32013312)
    state = net.state_dict()
    assert sum(v.numel() for k, v in state.items() if not k.endswith("num_batches_tracked")) == 8_858_734
    save_darknet_weights(net, tmp_path / "again.weights", DarknetHeader(seen=32013312))
    assert (tmp_path / "again.weights").read_bytes() == path.read_bytes()
    from_cfg = darknet(data_dir / "darknet" / "yolov3-tiny-mask123.cfg", weights=path)
    assert from_cfg.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in from_cfg.state_dict().items())
    with pytest.raises(InputError, match=r"8858734 floats, the network takes"):
        tiny_yolov3(num_classes=20, weights=path)


def _right(net: Detector, specs, maps, truth: Tensor, labels: list[int]) -> list[bool]:
    """Of each confident detection, whether it covers an object of its class."""
    (found,) = detections_from_maps(maps, specs, score_threshold=0.5)
    overlaps = box_iou(found.boxes, truth)
    same = found.labels[:, None] == torch.tensor(labels)
    return ((overlaps > 0.5) & same).any(1).tolist()


@pytest.mark.parametrize("name", ["000000008762.jpg", "000000013659.jpg"])
@torch.no_grad()
def test_finds_what_is_in_real_pictures(data_dir, name) -> None:
    coco = data_dir / "coco-subset"
    annotations = json.loads((coco / "annotations" / "instances_val2017.json").read_text())
    image_id = next(image["id"] for image in annotations["images"] if image["file_name"] == name)
    rows = [row for row in annotations["annotations"] if row["image_id"] == image_id]
    with Image.open(coco / "val2017" / name) as file:
        picture = torch.from_numpy(np.array(file.convert("RGB"))).permute(2, 0, 1) / 255
    top, left = ((416 - side) // 2 for side in picture.shape[1:])  # these pictures' longer side is 416
    image = torch.full((1, 3, 416, 416), 0.5)
    image[0, :, top : top + picture.shape[1], left : left + picture.shape[2]] = picture
    truth = torch.tensor(
        [[x + left, y + top, x + w + left, y + h + top] for x, y, w, h in (row["bbox"] for row in rows)]
    )
    labels = [COCO_IDS.index(row["category_id"]) for row in rows]

    net = tiny_yolov3(weights=data_dir / "darknet" / "yolov3-tiny.weights").eval()
    maps = net(image)
    assert [tuple(m.shape) for m in maps] == [(1, 255, 13, 13), (1, 255, 26, 26)]
    right = _right(net, net.head_specs, maps, truth, labels)
    assert len(right) >= 2 and all(right)
    published = darknet(
        data_dir / "darknet" / "yolov3-tiny.cfg"
    ).head_specs  # mask 0,1,2: boxes of the wrong size
    assert sum(_right(net, published, maps, truth, labels)) < sum(right)
