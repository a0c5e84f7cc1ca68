from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from sj_lowlat.data import Sample, Target
from sj_lowlat.detect.detections import Detections
from sj_lowlat.errors import InputError
from sj_lowlat.evaluation.coco_ap import coco_ap
from sj_lowlat.evaluation.voc_ap import voc_ap

METHODS = ("11-point", "all-point")


class Truth:
    """A data set of targets alone."""

    def __init__(self, targets: list[Target], class_names: tuple[str, ...] = ("a", "b", "c")) -> None:
        self.targets, self.class_names = targets, class_names

    def __len__(self) -> int:
        return len(self.targets)

    def target(self, index: int) -> Target:
        return self.targets[index]

    def __getitem__(self, index: int) -> Sample:
        raise AssertionError("scoring must not read pictures")


def _target(boxes: list[list[float]], labels: list[int], ignored: list[int] | None = None) -> Target:
    flags = torch.tensor(ignored or [0] * len(labels), dtype=torch.bool)
    return Target(
        torch.tensor(boxes).reshape(-1, 4), torch.tensor(labels).long(), torch.zeros_like(flags), flags, 0
    )


def _found(boxes: list[list[float]], scores: list[float], labels: list[int]) -> Detections:
    return Detections(torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores), torch.tensor(labels).long())


NOTHING = _found([], [], [])


def _random_case(seed: int, images: int = 4) -> tuple[Truth, list[Detections]]:
    """Whole-pixel boxes and distinct scores, so that no tie depends on the order of sorting."""
    draw = torch.Generator().manual_seed(seed)

    def boxes(count: int) -> Tensor:
        corner = torch.randint(0, 30, (count, 2), generator=draw)
        return torch.cat([corner, corner + torch.randint(8, 24, (count, 2), generator=draw)], dim=1).float()

    targets, detections = [], []
    scores = torch.randperm(1000, generator=draw) / 1000
    for number in range(images):
        count = int(torch.randint(1, 5, (1,), generator=draw))
        truth, labels = boxes(count), torch.randint(0, 3, (count,), generator=draw)
        difficult = torch.rand(count, generator=draw) < 0.25
        difficult[0] &= number > 0
        targets.append(Target(truth, labels, torch.zeros(count, dtype=torch.bool), difficult, number))
        jitter = torch.randint(-3, 4, (2, count, 2), generator=draw).repeat(1, 1, 2)
        near = torch.cat([truth + jitter[0], truth + jitter[1]])
        near, kinds = (
            torch.cat([near, boxes(2)]),
            torch.cat([labels, labels, torch.randint(0, 3, (2,), generator=draw)]),
        )
        detections.append(Detections(near, scores[20 * number : 20 * number + len(near)], kinds))
    return Truth(targets), detections


def _iou(a: list[float], b: list[float]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or high <= 0:
        return 0.0
    return wide * high / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - wide * high)


def _oracle(truth: Truth, detections: list[Detections], method: str) -> float:
    """VOC's rules written out one detection at a time; precision and recall recomputed at every score."""
    results = []
    for label in range(len(truth.class_names)):
        gts = [
            {"image": number, "box": box.tolist(), "difficult": bool(target.difficult[row]), "taken": False}
            for number, target in enumerate(truth.targets)
            for row, box in enumerate(target.boxes)
            if target.labels[row] == label
        ]
        positives = sum(not gt["difficult"] for gt in gts)
        if not positives:
            continue
        queue = [
            (float(found.scores[row]), number, found.boxes[row].tolist())
            for number, found in enumerate(detections)
            for row in range(len(found))
            if found.labels[row] == label
        ]
        points, true, false = [], 0, 0
        for _, number, box in sorted(queue, reverse=True, key=lambda entry: entry[0]):
            here = [gt for gt in gts if gt["image"] == number]
            best = max(here, key=lambda gt: _iou(box, gt["box"]), default=None)
            if best is None or _iou(box, best["box"]) < 0.5:
                false += 1
            elif best["difficult"]:
                continue
            elif best["taken"]:
                false += 1
            else:
                best["taken"] = True
                true += 1
            points.append((true / positives, true / (true + false)))
        if method == "11-point":
            levels = [k / 10 for k in range(11)]
            results.append(
                sum(max((p for r, p in points if r >= level - 1e-9), default=0) for level in levels) / 11
            )
        else:
            # a fine Riemann sum of "best precision at this recall or more"
            steps = [(i + 0.5) / (60 * positives) for i in range(60 * positives)]
            results.append(
                sum(max((p for r, p in points if r >= level), default=0) for level in steps) / len(steps)
            )
    return sum(results) / len(results)


@pytest.mark.parametrize("method", METHODS)
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31))
def test_voc_ap_equals_the_slow_oracle(method: str, seed: int) -> None:
    truth, detections = _random_case(seed)
    result = voc_ap(truth, detections, method)  # type: ignore[arg-type]
    assert result.map50 == pytest.approx(_oracle(truth, detections, method), abs=1e-9)


def test_voc_by_hand() -> None:
    # two boxes; hits at ranks 1 and 3: precision 1 up to recall 1/2, then 2/3
    truth = Truth([_target([[0, 0, 10, 10], [20, 0, 30, 10]], [0, 0])])
    found = [_found([[0, 0, 10, 10], [50, 50, 60, 60], [20, 0, 30, 10]], [0.9, 0.8, 0.7], [0, 0, 0])]
    assert voc_ap(truth, found, "11-point").map50 == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    assert voc_ap(truth, found, "all-point").map50 == pytest.approx(0.5 + 0.5 * 2 / 3)
    # the same box found twice is false the second time
    twice = [_found([[0, 0, 10, 10], [0, 0, 10, 10], [20, 0, 30, 10]], [0.9, 0.8, 0.7], [0, 0, 0])]
    assert voc_ap(truth, twice, "all-point").map50 == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_voc_ignores_difficult_boxes() -> None:
    truth = Truth([_target([[0, 0, 10, 10], [20, 0, 30, 10], [0, 0, 9, 9]], [0, 0, 1], [0, 1, 1])])
    found = [_found([[20, 0, 30, 10], [20, 0, 30, 10], [0, 0, 10, 10]], [0.9, 0.8, 0.7], [0, 0, 0])]
    for method in METHODS:
        result = voc_ap(truth, found, method)  # type: ignore[arg-type]
        assert result.map50 == 1.0 and result.per_class == {"a": 1.0}
        assert voc_ap(truth, [NOTHING], method).map50 == 0.0  # type: ignore[arg-type]


def test_unfair_recall_levels_are_whole_numbers() -> None:
    # 3 of 10 boxes found: recall reaches level 0.3 exactly, although 0.1 * 3 > 0.3
    boxes = [[20.0 * k, 0, 20.0 * k + 10, 10] for k in range(10)]
    truth = Truth([_target(boxes, [0] * 10)])
    found = [_found(boxes[:3], [0.9, 0.8, 0.7], [0, 0, 0])]
    assert voc_ap(truth, found, "11-point").map50 == pytest.approx(4 / 11)


def test_coco_by_hand() -> None:
    # hits at ranks 1 and 3 of two boxes: 51 of the 101 recall points have precision 1, 50 have 2/3
    truth = Truth([_target([[0, 0, 10, 10], [20, 0, 30, 10]], [1, 1])])
    found = [_found([[0, 0, 10, 10], [50, 50, 60, 60], [20, 0, 30, 6]], [0.9, 0.8, 0.7], [1, 1, 1])]
    result = coco_ap(truth, found)
    assert result.map50 == pytest.approx((51 + 50 * 2 / 3) / 101)
    # the last box has IoU 0.6, a hit at 0.50, 0.55 and 0.60 only
    assert result.map == pytest.approx((3 * (51 + 50 * 2 / 3) + 7 * 51) / 1010)
    assert result.per_class == {"b": result.map50} and result.images == 1
    assert json.loads(json.dumps(result.to_json()))["map50"] == result.map50
    assert "mAP50" in str(result)


def test_perfect_and_empty_results() -> None:
    truth, _ = _random_case(5)
    perfect = [
        Detections(
            t.boxes[~t.difficult], torch.full((int((~t.difficult).sum()),), 0.9), t.labels[~t.difficult]
        )
        for t in truth.targets
    ]
    for score in (coco_ap, voc_ap, lambda *case: voc_ap(*case, "all-point")):
        assert score(truth, perfect).map50 == pytest.approx(1.0)
        assert score(truth, [NOTHING] * 4).map50 == 0.0
    assert coco_ap(truth, perfect).map == pytest.approx(1.0) and coco_ap(truth, [NOTHING] * 4).map == 0.0


def test_coco_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    coco_ap(*_random_case(1))
    assert capsys.readouterr().out == ""


def test_coco_leaves_stdout_to_other_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    evaluate = COCOeval.evaluateImg

    def look(self: COCOeval, *arguments: Any) -> Any:
        seen.append(sys.stdout)
        return evaluate(self, *arguments)

    monkeypatch.setattr(COCOeval, "evaluateImg", look)
    truth, detections = _random_case(0)
    coco_ap(truth, detections)
    assert seen and all(stdout is sys.stdout for stdout in seen)


def test_coco_crowd_boxes_are_neither_found_nor_missed() -> None:
    target = _target([[0, 0, 10, 10], [20, 0, 60, 40]], [0, 0])
    crowd = replace(target, crowd=torch.tensor([False, True]))
    found = [_found([[22, 2, 30, 10], [40, 20, 50, 30], [0, 0, 10, 10]], [0.9, 0.8, 0.7], [0, 0, 0])]
    assert coco_ap(Truth([crowd]), found).map50 == pytest.approx(1.0)
    assert coco_ap(Truth([target]), found).map50 < 0.5


@pytest.mark.parametrize("score", [coco_ap, voc_ap])
def test_class_map_scores_mapped_classes_only(score) -> None:  # type: ignore[no-untyped-def]
    truth = Truth([_target([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]], [0, 1, 2])])
    found = [_found([[0, 0, 10, 10], [20, 0, 30, 10], [60, 0, 70, 10]], [0.5, 0.6, 0.9], [7, 3, 5])]
    result = score(truth, found, class_map={7: 0, 3: 2})
    assert result.per_class == pytest.approx({"a": 1.0, "c": 0.0}) and result.map50 == pytest.approx(0.5)
    assert score(truth, found, class_map={7: 0, 5: 0}).per_class["a"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("score", [coco_ap, voc_ap])
def test_bad_input(score) -> None:  # type: ignore[no-untyped-def]
    truth = Truth([_target([[0, 0, 10, 10]], [0])])
    with pytest.raises(InputError, match="2 detection records for 1 images"):
        score(truth, [NOTHING] * 2)
    with pytest.raises(InputError, match="label 3, but the data set has the labels 0 to 2"):
        score(truth, [_found([[0, 0, 1, 1]], [0.5], [3])])
    with pytest.raises(InputError, match="class_map points at"):
        score(truth, [NOTHING], class_map={0: 3})
    with pytest.raises(InputError, match="no box of any scored class"):
        score(truth, [NOTHING], class_map={0: 1})
    with pytest.raises(InputError, match="no box of any scored class"):
        score(Truth([_target([[0, 0, 10, 10]], [0], [1])]), [NOTHING])


def test_unknown_method() -> None:
    with pytest.raises(InputError, match="the methods are 11-point, all-point"):
        voc_ap(Truth([]), [], "12-point")  # type: ignore[arg-type]
