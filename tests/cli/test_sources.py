"""One word -> a network or a data set."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from sj_lowlat import checkpoint, models
from sj_lowlat.class_names import COCO_CLASSES
from sj_lowlat.cli.pictures import calibration_images, find_pictures, first_images
from sj_lowlat.cli.sources import open_data
from sj_lowlat.data import (
    CocoDataset,
    ImageFolderDataset,
    TrafficDataset,
    VocDataset,
    YoloDataset,
    ground_truth,
    letterbox,
)
from sj_lowlat.errors import InputError
from sj_lowlat.zoo import open_network


def test_a_folder_is_a_saved_network(places: Any) -> None:
    opened, loaded = open_network(str(places.quant)), checkpoint.load(places.quant)
    x = torch.rand(1, 3, 64, 64)
    assert not opened.training
    for ours, theirs in zip(opened(x), loaded(x), strict=True):
        assert torch.equal(ours, theirs)


def test_darknet_weights_alone_and_with_their_cfg(data_dir: Path) -> None:
    weights, cfg = (
        data_dir / "darknet" / "yolov3-tiny.weights",
        data_dir / "darknet" / "yolov3-tiny-mask123.cfg",
    )
    alone: Any = open_network(str(weights))
    pair: Any = open_network(f"{cfg},{weights}")
    assert alone.class_names == tuple(COCO_CLASSES)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for ours, theirs in zip(alone(x), pair(x), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_darknet_weights_with_their_names(data_dir: Path) -> None:
    folder = data_dir / "darknet" / "yoloface" / "50k"
    if not folder.is_dir():
        pytest.skip(f"no networks at {folder}")
    word = f"{folder / 'yoloface-50k.cfg'},{folder / 'yoloface-50k.weights'}"
    net: Any = open_network(f"{word},{folder / 'face.names'}")
    assert net.class_names == ("face",)
    with pytest.raises(InputError, match="a list of 1 names"):
        open_network(f"{word},{data_dir / 'darknet' / 'coco.names'}")
    with pytest.raises(FileNotFoundError):
        open_network(f"{word},nowhere.names")


def test_a_fresh_network_follows_its_options_classes_and_seed() -> None:
    word = "snn-tiny-yolov3:width=0.125,input_size=96"
    first: Any = open_network(word, class_names=("red", "blue"), seed=5)
    again, other = (
        open_network(word, class_names=("red", "blue"), seed=5),
        open_network(word, class_names=("red", "blue")),
    )
    assert first.class_names == ("red", "blue") and first.input_size == 96
    assert first.build_config["kwargs"]["width"] == 0.125
    weights = [next(net.parameters()) for net in (first, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    counted: Any = open_network(f"{word},num_classes=3", class_names=("red", "blue"))
    assert len(counted.class_names) == 3


def test_a_fresh_network_leaves_the_random_generator_alone() -> None:
    before = torch.get_rng_state()
    open_network("tiny-yolov3:width=0.125,input_size=64")
    assert torch.equal(torch.get_rng_state(), before)


def test_models_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere.*give a folder.*snn-tiny-yolov3"):
        open_network(str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="model.safetensors"):
        open_network(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no darknet weights"):
        open_network(str(tmp_path / "no.weights"))
    net = models.tiny_yolov3(2, width=0.125, input_size=64)
    models.save_darknet_weights(net, tmp_path / "whole.weights")
    (tmp_path / "cut.weights").write_bytes((tmp_path / "whole.weights").read_bytes()[:1000])
    with pytest.raises(InputError, match="missing"):
        open_network(str(tmp_path / "cut.weights"))
    for word in (
        "tiny-yolov3:width",
        "tiny-yolov3:width=wide",
        "tiny-yolov3:width=[1]",
        "tiny-yolov3:depth=3",
    ):
        with pytest.raises(InputError, match=r"width|depth"):
            open_network(word)
    with pytest.raises(InputError, match="device is 'abacus'"):
        open_network("tiny-yolov3:width=0.125,input_size=64", device="abacus")


def test_coco_with_and_without_colons_in_its_paths(places: Any, tmp_path: Path) -> None:
    plain = open_data(places.data)
    assert isinstance(plain, CocoDataset) and len(plain) == 6
    odd = tmp_path / "a:b"
    shutil.copytree(places.pictures.parent, odd)
    again = open_data(f"coco:{odd / 'instances.json'}:{odd / 'images'}")
    assert [t.boxes.tolist() for t in ground_truth(again)] == [t.boxes.tolist() for t in ground_truth(plain)]


def test_voc(data_dir: Path) -> None:
    root = data_dir / "voc-subset"
    assert isinstance(open_data(f"voc:{root}"), VocDataset)
    assert len(open_data(f"voc:{root}:test")) == len(VocDataset(root, "test"))
    with pytest.raises(InputError, match="tset"):
        open_data(f"voc:{root}:tset")


def test_yolo(places: Any, tmp_path: Path) -> None:
    """With and without a set; one set is all there is to choose from."""
    for number, name in enumerate(("train", "val", "a:b")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for place in range(number + 1):
            shutil.copy(places.pictures / "000000.png", tmp_path / "images" / name / f"{place}.png")
            (tmp_path / "images" / name / f"{place}.txt").write_text("0 0.5 0.5 0.1 0.1")
    yaml = tmp_path / "data.yaml"
    yaml.write_text("train: images/train\nval: images/val\nnames: [car]")
    expected = {(f"{yaml}", "train"): 1, (f"{yaml}", "val"): 2, (f"{tmp_path}:val", "train"): 2}
    for (word, usual), count in {**expected, (f"{yaml}:train", "val"): 1}.items():
        data = open_data(f"yolo:{word}", usual)
        assert isinstance(data, YoloDataset) and len(data) == count
    with pytest.raises(InputError, match="has the sets train, val: give one of them"):
        open_data(f"yolo:{yaml}:test")
    colons = tmp_path / "a:b.yaml"
    colons.write_text("test: images/a:b\nnames: [car]")
    assert len(open_data(f"yolo:{colons}")) == 3  # the only one there is
    with pytest.raises(FileNotFoundError, match=r"no data at .*: give a data\.yaml"):
        open_data(f"yolo:{tmp_path / 'nothing'}")
    with pytest.raises(FileNotFoundError, match=r"yolo:DATA\.yaml_OR_FOLDER"):
        open_data("yolo")


@pytest.mark.parametrize(
    ("word", "count", "seed"), [("traffic", 100, 0), ("traffic:7", 7, 0), ("traffic:7:2", 7, 2)]
)
def test_traffic(word: str, count: int, seed: int) -> None:
    data = open_data(word)
    assert isinstance(data, TrafficDataset) and (data.length, data.seed) == (count, seed)


def test_pictures_and_folders(places: Any) -> None:
    assert isinstance(open_data(str(places.pictures)), ImageFolderDataset)
    one = open_data(str(places.pictures / "000002.png"))
    assert isinstance(one, ImageFolderDataset) and len(one) == 1 and one.class_names == ()
    assert torch.equal(one[0].image, open_data(places.data)[2].image)


def test_data_that_cannot_be_opened(places: Any, tmp_path: Path) -> None:
    forms = "coco:ANNOTATIONS.json:IMAGE_FOLDER"
    with pytest.raises(FileNotFoundError, match=forms):
        open_data(str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=forms):
        open_data("cocoo:a:b")
    with pytest.raises(InputError, match=forms):
        open_data("coco:only.json")
    with pytest.raises(InputError, match=forms):
        open_data(str(places.pictures.parent / "instances.json"))
    with pytest.raises(InputError, match="no pictures"):
        open_data(str(tmp_path))
    for word in ("traffic:many", "traffic:1:2:3", "traffic:0"):
        with pytest.raises(InputError, match="traffic|length"):
            open_data(word)
    with pytest.raises(FileNotFoundError, match="no file at .*give an instances JSON"):
        open_data(f"coco:{tmp_path / 'no.json'}:{tmp_path}")
    with pytest.raises(FileNotFoundError, match="VOCdevkit"):
        open_data(f"voc:{tmp_path}")


def test_parts_of_a_dataset(places: Any) -> None:
    whole = open_data(places.data)
    assert first_images(whole, None) is whole
    part = first_images(whole, 2)
    assert len(part) == 2 and len(first_images(whole, 99)) == 6
    with pytest.raises(InputError, match="limit is 0"):
        first_images(whole, 0)


def test_calibration_images_come_from_all_over(places: Any) -> None:
    whole = open_data(places.data)
    images = calibration_images(whole, 3, 96)
    expected = torch.stack([letterbox(whole[place].image, 96)[0] for place in (0, 2, 5)])
    assert torch.equal(images, expected)
    assert len(calibration_images(whole, 50, 64)) == 6
    with pytest.raises(InputError, match="calibration_images is 0"):
        calibration_images(whole, 0, 64)


def test_drawn_pictures_get_names_of_their_own(places: Any, tmp_path: Path) -> None:
    for name in ("a/x.png", "b/x.png", "b/x.bmp", "b/deep/x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(places.pictures / "000000.png", tmp_path / name)
    found = find_pictures([tmp_path / "a", tmp_path / "b", tmp_path / "a" / "x.png"])
    assert [(str(path.relative_to(tmp_path)), str(name)) for path, name in found] == [
        ("a/x.png", "x.png"),
        ("b/deep/x.png", "deep/x.png"),
        ("b/x.bmp", "x-2.png"),
        ("b/x.png", "x-3.png"),
        ("a/x.png", "x-4.png"),
    ]
