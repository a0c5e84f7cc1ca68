"""The record checks itself."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

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
