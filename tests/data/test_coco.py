from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sj_lowlat.class_names import COCO_CLASSES, COCO_IDS
from sj_lowlat.data import CocoDataset, DetectionDataset, ground_truth
from sj_lowlat.errors import InputError


def _write(folder: Path, boxes: list[dict[str, Any]], count: int = 2, **changes: Any) -> tuple[Path, Path]:
    """A JSON with ``count`` pictures of 40 x 30 px, and the pictures."""
    pictures = folder / "pictures"
    pictures.mkdir()
    rows = []
    for number in range(count):
        Image.fromarray(np.full((30, 40, 3), 10 * number, dtype=np.uint8)).save(pictures / f"{number}.png")
        rows.append({"id": 100 + number, "file_name": f"{number}.png", "width": 40, "height": 30})
    record = {
        "images": rows,
        "annotations": [
            {"id": place + 1, "image_id": 100, "category_id": 7, **box} for place, box in enumerate(boxes)
        ],
        "categories": [{"id": 9, "name": "cat"}, {"id": 7, "name": "dog"}],
        **changes,
    }
    path = folder / "instances.json"
    path.write_text(json.dumps(record))
    return path, pictures


def test_labels_boxes_and_crowd(tmp_path: Path) -> None:
    boxes = [{"bbox": [1, 2, 3, 4]}, {"bbox": [5.5, 6, 10, 12], "category_id": 9, "iscrowd": 1}]
    data = CocoDataset(*_write(tmp_path, boxes))
    assert isinstance(data, DetectionDataset)
    assert data.class_names == ("cat", "dog") and data.category_ids == (9, 7)
    sample = data[0]
    assert sample.boxes.tolist() == [[1, 2, 4, 6], [5.5, 6, 15.5, 18]] and sample.boxes.dtype == torch.float32
    assert sample.labels.tolist() == [1, 0] and sample.labels.dtype == torch.int64
    assert sample.crowd.tolist() == [False, True] and not sample.difficult.any()
    assert sample.image_id == 100 and data[1].image_id == 101
    assert data[1].boxes.shape == (0, 4) and (data[1].image == 10).all()
    assert set(data.notes.values()) == {0}


def test_boxes_outside_the_picture(tmp_path: Path) -> None:
    inside, reaching = {"bbox": [0, 0, 40, 30]}, {"bbox": [-5, 20, 10, 20]}
    gone = [
        {"bbox": [50, 5, 10, 10]},
        {"bbox": [5, 5, 0, 4]},
        {"bbox": [9, 9, -4, 4]},
        {"bbox": [float("nan"), 1, 2, 3]},
    ]
    data = CocoDataset(*_write(tmp_path, [inside, reaching, *gone]))
    assert data.target(0).boxes.tolist() == [[0, 0, 40, 30], [0, 20, 5, 30]]
    assert data.notes["boxes clipped to the picture"] == 1 and data.notes["empty boxes dropped"] == 4


def test_annotations_of_unlisted_images_are_counted(tmp_path: Path) -> None:
    data = CocoDataset(*_write(tmp_path, [{"bbox": [1, 1, 2, 2], "image_id": 5}]))
    assert len(data.target(0)) == 0 and data.notes["boxes of unlisted images ignored"] == 1


def test_missing_images_are_listed(tmp_path: Path) -> None:
    path, pictures = _write(tmp_path, [], count=6)
    for number in range(1, 6):
        (pictures / f"{number}.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"5 of the 6 images .*\(1.png, 2.png, 3.png, \.\.\.\)"):
        CocoDataset(path, pictures)


def test_missing_json_and_folder(tmp_path: Path) -> None:
    path, pictures = _write(tmp_path, [])
    with pytest.raises(FileNotFoundError, match=r"no file at .*none\.json: give an instances JSON"):
        CocoDataset(tmp_path / "none.json", pictures)
    with pytest.raises(FileNotFoundError, match="no image folder"):
        CocoDataset(path, tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is damaged or no JSON"),
        ("[]", "must hold the lists"),
        ('{"images": [], "annotations": []}', "must hold the lists"),
    ],
)
def test_not_an_instances_json(tmp_path: Path, text: str, message: str) -> None:
    path, pictures = _write(tmp_path, [])
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        CocoDataset(path, pictures)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ({"bbox": [1, 2, 3]}, "is not an instances JSON"),
        ({"bbox": ["a", 2, 3, 4]}, "is not an instances JSON"),
        ({}, "bbox"),
        ({"bbox": [1, 2, 3, 4], "category_id": 1}, "category 1 is not"),
    ],
)
def test_unusable_annotations(tmp_path: Path, box: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CocoDataset(*_write(tmp_path, [box]))


def test_no_images_and_doubled_ids(tmp_path: Path) -> None:
    path, pictures = _write(tmp_path, [], count=0)
    with pytest.raises(InputError, match="lists no images"):
        CocoDataset(path, pictures)
    Image.new("RGB", (4, 4)).save(pictures / "0.png")
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "images": [{"id": 1, "file_name": "0.png"}] * 2}))
    with pytest.raises(InputError, match="same id"):
        CocoDataset(path, pictures)


def test_sizes_may_be_absent_but_not_wrong(tmp_path: Path) -> None:
    path, pictures = _write(tmp_path, [{"bbox": [35, 25, 10, 10]}])
    record = json.loads(path.read_text())
    del record["images"][0]["width"]
    record["images"][1]["width"] = 41
    path.write_text(json.dumps(record))
    data = CocoDataset(path, pictures)
    assert data[0].boxes.tolist() == [[35, 25, 40, 30]]
    with pytest.raises(InputError, match="40 x 30 px, but its JSON entry says 41 x 30"):
        data[1]


def test_broken_jpeg(tmp_path: Path) -> None:
    path, pictures = _write(tmp_path, [])
    noise = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(pictures / "0.png", format="JPEG")
    whole = (pictures / "0.png").read_bytes()
    data = CocoDataset(path, pictures)
    assert data[0].image.shape == (3, 30, 40)
    for broken in (whole[: len(whole) // 2], b"no picture"):
        (pictures / "0.png").write_bytes(broken)
        with pytest.raises(InputError, match="cannot read the image"):
            data[0]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_every_kind_of_picture_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path, pictures = _write(tmp_path, [])
    grey = Image.new("L", (40, 30), 77).convert("RGB")
    picture = grey.quantize() if mode == "P" else grey.convert(mode)
    picture.save(pictures / "0.png", format="TIFF")
    image = CocoDataset(path, pictures)[0].image
    assert image.shape == (3, 30, 40) and image.dtype == torch.uint8 and (image == 77).all()


def test_select_and_subset(tmp_path: Path) -> None:
    data = CocoDataset(*_write(tmp_path, [{"bbox": [1, 1, 2, 2]}], count=4))
    part = data.subset([3, 0])
    assert [part[place].image_id for place in range(len(part))] == [103, 100]
    assert len(part.target(1)) == 1 and len(data) == 4
    assert [one.image_id for one in ground_truth(data.select(lambda image: image["id"] > 101))] == [102, 103]


def test_real_subset(data_dir: Path) -> None:
    folder = data_dir / "coco-subset"
    path = folder / "annotations/instances_val2017.json"
    data = CocoDataset(path, folder / "val2017")
    assert data.class_names == COCO_CLASSES and data.category_ids == COCO_IDS
    assert len(data) == 798 and len(data.select(lambda image: image["in_darknet_5k"])) == 257
    record = json.loads(path.read_text())
    crowds = sum(row["iscrowd"] for row in record["annotations"])
    assert sum(int(target.crowd.sum()) for target in ground_truth(data)) == crowds > 0
    row = record["annotations"][0]
    target = next(one for one in ground_truth(data) if one.image_id == row["image_id"])
    x, y, w, h = row["bbox"]
    assert min(torch.dist(box, torch.tensor([x, y, x + w, y + h])) for box in target.boxes) < 1e-3
    assert max(data[0].image.shape) == 416


def test_numbers_that_a_tool_wrote_as_text(tmp_path: Path) -> None:
    boxes = [{"bbox": [1, 2, 3, 4], "image_id": "100", "category_id": "7", "iscrowd": "0"}]
    rows = [{"id": "100", "file_name": "0.png", "width": "40", "height": "30.0"}]
    categories = [{"id": "9", "name": "cat"}, {"id": 7, "name": "dog"}]
    data = CocoDataset(*_write(tmp_path, boxes, 1, images=rows, categories=categories))
    sample = data[0]
    assert (sample.labels.tolist(), sample.crowd.tolist(), data.category_ids) == ([1], [False], (9, 7))
    assert data[0].image_id == 100 and set(data.notes.values()) == {0}
