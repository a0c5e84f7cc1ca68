"""The record checks itself."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from sj_lowlat.class_names import COCO_CLASSES, COCO_IDS
from sj_lowlat.detect import Detections
from sj_lowlat.errors import InputError


@pytest.fixture
def found() -> Detections:
    boxes = torch.tensor([[1.0, 2.0, 3.0, 6.0], [0.0, 0.0, 10.0, 10.0]], dtype=torch.float64)
    return Detections(boxes, torch.tensor([0.75, 0.25]), torch.tensor([2, 0], dtype=torch.int32))


def test_types_are_settled(found) -> None:
    assert (found.boxes.dtype, found.scores.dtype, found.labels.dtype) == (
        torch.float32,
        torch.float32,
        torch.int64,
    )
    assert len(found) == 2


def test_filter_keeps_order_and_its_bound(found) -> None:
    assert found.filter(0.25).labels.tolist() == [2, 0]
    assert found.filter(0.26).labels.tolist() == [2]
    assert len(found.filter(0.9)) == 0


def test_scaled(found) -> None:
    assert found.scaled(2, 0.5).boxes[0].tolist() == [2, 1, 6, 3]
    assert found.scaled(2).boxes[0].tolist() == [2, 4, 6, 12]
    assert found.boxes[0].tolist() == [1, 2, 3, 6]
    assert replace(found, image=torch.zeros(3, 9, 9, dtype=torch.uint8)).scaled(2).image is None
    for bad in ((1, 0), (0, 1), (1, -2), (-2, 1), (float("nan"), 1)):
        with pytest.raises(InputError, match="positive"):
            found.scaled(*bad)


def test_to_dict_is_json(found) -> None:
    record = json.loads(json.dumps(found.to_dict(["person", "bicycle", "car"])))
    assert record == {
        "boxes": [[1, 2, 3, 6], [0, 0, 10, 10]],
        "scores": [0.75, 0.25],
        "labels": [2, 0],
        "names": ["car", "person"],
    }
    with pytest.raises(InputError, match="label 2 has no name"):
        found.to_dict(["person", "bicycle"])


def test_prints_every_detection(found) -> None:
    lines = str(found).splitlines()
    assert lines[0] == "2 detections"
    assert "class   2" in lines[1] and "0.750" in lines[1] and "1.0 2.0 3.0 6.0" in lines[1]
    assert str(found.filter(1.0)) == "0 detections"


def test_takes_the_ends_of_the_ranges(found) -> None:
    made = replace(found, boxes=found.boxes[:, [0, 1, 0, 1]], scores=torch.tensor([0.0, 1.0]))
    assert made.scores.tolist() == [0, 1] and made.boxes[0].tolist() == [1, 2, 1, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": torch.zeros(2, 3)}, r"\(2, 3\)"),
        ({"boxes": torch.zeros(1, 4)}, r"\(1, 4\)"),
        ({"scores": torch.zeros(2, 1)}, r"\(2, 1\)"),
        ({"labels": torch.zeros(2)}, "integer"),
        ({"labels": torch.zeros(2, dtype=torch.bool)}, "integer"),
        ({"labels": torch.tensor([0, -1])}, "0 or more"),
        ({"scores": torch.tensor([0.5, 1.5])}, r"\[0, 1\]"),
        ({"scores": torch.tensor([0.5, torch.nan])}, r"\[0, 1\]"),
        ({"boxes": torch.tensor([[0.0, 0.0, 5.0, 5.0], [3.0, 0.0, 2.0, 5.0]])}, "xyxy"),
        ({"boxes": torch.full((2, 4), torch.inf)}, "finite"),
    ],
)
def test_refuses(found, changes, message) -> None:
    with pytest.raises(InputError, match=message):
        replace(found, **changes)


NAMES = ("person", "bicycle", "car")


@pytest.fixture
def named(found) -> Detections:
    return replace(found, names=NAMES, steps=6, milliseconds=12.34, path="a.jpg", spikes=2500)


def test_is_read_like_a_list(named) -> None:
    rows = [("car", 0.75, (1, 2, 3, 6), 2), ("person", 0.25, (0, 0, 10, 10), 0)]
    assert [tuple(one) for one in named] == rows
    assert tuple(named[0]) == tuple(named[-2]) == rows[0] and tuple(named[torch.tensor(1)]) == rows[1]
    assert named[0].name == "car" and named[1].box == (0, 0, 10, 10)
    with pytest.raises(IndexError):
        named[2]


@pytest.mark.parametrize(
    ("key", "labels"),
    [
        (slice(1, None), [0]),
        (slice(None, None, 2), [2]),
        ("person", [0]),
        ("bicycle", []),
        ([1, 0], [0, 2]),
        ([True, False], [2]),
        (np.array([False, True]), [0]),
        ([], []),
    ],
    ids=str,
)
def test_parts_are_records(named, key, labels) -> None:
    part = named[key]
    assert part.labels.tolist() == labels
    assert (part.names, part.steps, part.path, part.spikes) == (NAMES, 6, "a.jpg", 2500)


def test_a_mask_of_scores(named) -> None:
    assert named[named.scores > 0.5].labels.tolist() == [2]
    assert named[named.scores > 0.9].boxes.shape == (0, 4)


def test_filters_by_class(named, found) -> None:
    assert named.filter(classes=["person", 2]).labels.tolist() == [2, 0]
    assert named.filter(0.5, "person").labels.tolist() == []
    assert named.filter(classes="2").labels.tolist() == found.filter(classes=2).labels.tolist() == [2]
    with pytest.raises(InputError, match=r"no class 'persn'.*such as person"):
        named["persn"]
    with pytest.raises(InputError, match="names are not known"):
        found["person"]


def test_prints_names(named) -> None:
    assert str(named).splitlines()[1].split() == ["car", "score", "0.750", "box", "1.0", "2.0", "3.0", "6.0"]


def test_results_of_coco_are_read_by_its_tools(tmp_path) -> None:
    from pycocotools.coco import COCO

    boxes = torch.tensor([[10.0, 20.0, 40.0, 60.0], [5.0, 5.0, 15.0, 30.0]])
    found = Detections(boxes, torch.tensor([0.5, 0.25]), torch.tensor([79, 11]), COCO_CLASSES)
    image = {"id": 7, "width": 100, "height": 100, "file_name": "x.jpg"}
    categories = [{"id": number, "name": name} for number, name in zip(COCO_IDS, COCO_CLASSES, strict=True)]
    truth = {"images": [image], "annotations": [], "categories": categories}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    coco = COCO(str(tmp_path / "truth.json"))
    (tmp_path / "found.json").write_text(json.dumps(found.to_coco(7)))
    loaded = coco.loadRes(str(tmp_path / "found.json"))
    rows = loaded.loadAnns(loaded.getAnnIds())
    assert [coco.cats[row["category_id"]]["name"] for row in rows] == ["toothbrush", "stop sign"]
    assert [row["area"] for row in rows] == [1200, 250] and [row["image_id"] for row in rows] == [7, 7]


def test_ids_of_other_classes(named) -> None:
    assert [row["category_id"] for row in named.to_coco()] == [3, 1]
    assert [row["category_id"] for row in named.to_coco(0, [4, 5, 6])] == [6, 4]
    with pytest.raises(InputError, match="label 2 has no id"):
        named.to_coco(0, [4])


def test_data_frame(named) -> None:
    pytest.importorskip("pandas")
    frame = named.to_pandas()
    assert [*frame.columns] == ["name", "score", "x1", "y1", "x2", "y2", "label"]
    assert frame.iloc[0].tolist() == ["car", 0.75, 1, 2, 3, 6, 2] and len(frame) == 2
    assert len(named[:0].to_pandas()) == 0


@pytest.mark.filterwarnings("ignore")  # of supervision, without OpenCV
def test_supervision(named) -> None:
    supervision = pytest.importorskip("supervision")
    made = named.to_supervision()
    assert isinstance(made, supervision.Detections) and made.xyxy.tolist() == named.boxes.tolist()
    assert made.data["class_name"].tolist() == ["car", "person"] and made.confidence.tolist() == [0.75, 0.25]
    assert len(named[:0].to_supervision()) == 0


@pytest.mark.parametrize("library", ["pandas", "supervision"])
def test_libraries_that_are_not_there(named, library, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=rf"pip install {library}"):
        getattr(named, f"to_{library}")()
