"""Suppression against a plain loop and against torchvision class by class."""

from __future__ import annotations

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sj_lowlat.detect import nms
from sj_lowlat.errors import InputError


def _scene(count: int, classes: int, seed: int, low: float = -50.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = low + 150 * torch.rand(count, 2, generator=generator)
    boxes = torch.cat((corner, corner + 5 + 60 * torch.rand(count, 2, generator=generator)), 1)
    return boxes, torch.rand(count, classes, generator=generator)


def _iou(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    common = width * height
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def _greedy(boxes: Tensor, scores: Tensor, score_threshold: float, iou_threshold: float) -> list[tuple]:
    """(score, label, row), best first, by the definition."""
    candidates = [
        (score, label, row)
        for row, line in enumerate(scores.tolist())
        for label, score in enumerate(line)
        if score > score_threshold
    ]
    sides = boxes.double().tolist()
    kept: list[tuple] = []
    for score, label, row in sorted(candidates, reverse=True):
        if all(label != k[1] or _iou(sides[row], sides[k[2]]) <= iou_threshold for k in kept):
            kept.append((score, label, row))
    return kept


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 40),
    classes=st.integers(1, 4),
    limit=st.integers(1, 60),
    score_threshold=st.floats(0, 0.9),
    iou_threshold=st.floats(0.1, 0.9),
    seed=st.integers(0, 2**31),
)
def test_equals_greedy_loop(count, classes, limit, score_threshold, iou_threshold, seed) -> None:
    boxes, scores = _scene(count, classes, seed)
    found = nms(boxes, scores, score_threshold, iou_threshold, limit)
    expected = _greedy(boxes, scores, score_threshold, iou_threshold)[:limit]
    assert found.scores.tolist() == [score for score, _, _ in expected]
    assert found.labels.tolist() == [label for _, label, _ in expected]
    assert torch.equal(found.boxes, boxes[[row for _, _, row in expected]])


@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_equals_torchvision_per_class(limit) -> None:
    boxes, scores = _scene(800, 3, seed=7)  # more candidates than the first prefix holds
    found = nms(boxes, scores, 0.3, 0.45, limit)
    expected = []
    for label in range(3):
        rows = (scores[:, label] > 0.3).nonzero().flatten()
        kept = rows[torchvision.ops.nms(boxes[rows], scores[rows, label], 0.45)]
        expected += [(scores[row, label].item(), label, boxes[row].tolist()) for row in kept]
    expected = sorted(expected, reverse=True)[:limit]
    assert (
        list(zip(found.scores.tolist(), found.labels.tolist(), found.boxes.tolist(), strict=True)) == expected
    )


def test_prefixes_change_nothing() -> None:
    """Crowded boxes: the first hundreds of candidates leave too few, so the search must go on."""
    boxes, scores = _scene(3000, 1, seed=3)
    boxes[:2900] = boxes[0] + 0.01 * torch.rand(2900, 1)
    scores[:2900] += 1
    scores /= 2
    found = nms(boxes, scores, 0.0, 0.45, 20)
    rows = torchvision.ops.nms(boxes, scores[:, 0], 0.45)[:20]
    assert torch.equal(found.boxes, boxes[rows])


def test_classes_do_not_meet() -> None:
    """Neither negative coordinates nor a huge box let one class suppress another or blur its overlaps."""
    boxes = torch.tensor(
        [[-100.0, -100.0, -20.0, -20.0], [0.0, 0.0, 80.0, 80.0], [0.0, 0.0, 9e6, 9e6], [2.0, 0.0, 42.0, 80.0]]
    )
    scores = torch.tensor([[0.9, 0.8], [0.7, 0.6], [0.5, 0.4], [0.3, 0.2]])
    found = nms(boxes, scores, 0.0, 0.7)
    assert len(found) == 8


def test_one_box_may_have_two_classes() -> None:
    found = nms(torch.tensor([[0.0, 0.0, 10.0, 10.0]]), torch.tensor([[0.2, 0.9, 0.001]]))
    assert found.labels.tolist() == [1, 0]


@pytest.mark.parametrize(("count", "classes"), [(0, 3), (5, 3)])
def test_nothing_found(count, classes) -> None:
    boxes, scores = _scene(count, classes, seed=1)
    found = nms(boxes, scores * 0, score_threshold=0.0)
    assert len(found) == 0 and found.boxes.shape == (0, 4) and found.labels.dtype == torch.int64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": torch.zeros(2, 5)}, r"\[2, 5\]"),
        ({"scores": torch.zeros(3, 1)}, r"\[3, 1\]"),
        ({"scores": torch.zeros(2)}, r"\[2\]"),
        ({"boxes": torch.full((2, 4), torch.nan)}, "NaN"),
        ({"scores": torch.full((2, 1), torch.nan)}, "NaN"),
        ({"score_threshold": 1.5}, "score_threshold"),
        ({"iou_threshold": -0.1}, "iou_threshold"),
        ({"max_detections": 0}, "max_detections"),
    ],
)
def test_refuses_bad_input(changes, message) -> None:
    with pytest.raises(InputError, match=message):
        nms(**({"boxes": torch.zeros(2, 4), "scores": torch.zeros(2, 1)} | changes))
