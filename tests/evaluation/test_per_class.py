"""Counts at a score against plain loops over detections that were cut at that score before."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sj_lowlat.detect import Detections
from sj_lowlat.errors import InputError
from sj_lowlat.evaluation import class_scores, coco_ap, match, score
from sj_lowlat.evaluation.per_class import counts_above, precision_curves
from sj_lowlat.evaluation.protocols import score_and_match
from tests.evaluation.test_bootstrap import PROTOCOLS, Truth, official, random_case

NAMES = Truth.class_names


def _overlap(a: list[float], b: list[float], crowd: bool) -> float:
    """Intersection over union; over the detection ``a`` where ``b`` is a crowd."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inside = max(wide, 0.0) * max(high, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return inside / (areas[0] if crowd else areas[0] + areas[1] - inside)


def _by_loops(truth: Truth, detections: list[Detections], protocol: str, label: int) -> tuple[int, int, int]:
    """Objects, detections that count, and hits, for a class, at IoU 0.5."""
    objects = kept = hits = 0
    for target, found in zip(truth.targets, detections, strict=True):
        rows = [row for row in range(len(target)) if target.labels[row] == label]
        ignored = {row: bool(target.crowd[row] | target.difficult[row]) for row in rows}
        objects += sum(not flag for flag in ignored.values())
        free = set(rows)
        here = [row for row in range(len(found)) if found.labels[row] == label]
        for row in sorted(here, key=lambda row: -float(found.scores[row])):
            box = found.boxes[row].tolist()
            if protocol == "coco":  # the best free object, else any crowd
                near = {
                    gt: o
                    for gt in rows
                    if (gt in free or ignored[gt])
                    and (o := _overlap(box, target.boxes[gt].tolist(), ignored[gt])) >= 0.5
                }
                counted = [gt for gt in near if not ignored[gt]]
                if not counted and near:
                    continue
                best = max(counted, key=lambda gt: near[gt]) if counted else None
            else:  # the best object, free or not
                near = {gt: _overlap(box, target.boxes[gt].tolist(), False) for gt in rows}
                best = max(near, key=lambda gt: near[gt], default=None)
                best = best if best is not None and near[best] >= 0.5 else None
                if best is not None and ignored[best]:
                    continue
            kept += 1
            hits += best in free
            free.discard(best)  # type: ignore[arg-type]
    return objects, kept, hits


def _cut(detections: list[Detections], least: float) -> list[Detections]:
    kept = [found.scores > least for found in detections]
    return [Detections(f.boxes[k], f.scores[k], f.labels[k]) for f, k in zip(detections, kept, strict=True)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**31),
    images=st.integers(1, 7),
    tied=st.booleans(),
    least=st.integers(0, 1000).map(lambda n: n / 1000),
)
def test_counts_are_those_of_detections_cut_before(
    protocol: str, seed: int, images: int, tied: bool, least: float
) -> None:
    truth, detections = random_case(seed, images, tied)
    found = class_scores(match(truth, detections, protocol), NAMES, least)
    expected = {name: _by_loops(truth, _cut(detections, least), protocol, label)
                for label, name in enumerate(NAMES)}  # fmt: skip
    expected = {name: counts for name, counts in expected.items() if counts[0]}
    assert {each.name: (each.objects, each.kept, each.hits) for each in found.classes} == expected
    sums = tuple(map(sum, zip(*expected.values(), strict=True)))
    assert (found.whole.objects, found.whole.kept, found.whole.hits) == sums
    for each, (objects, kept, hits) in zip(
        (*found.classes, found.whole), (*expected.values(), sums), strict=True
    ):
        assert each.precision == (hits / kept if kept else None) and each.recall == hits / objects
        harmonic = 0.0 if not hits else 2 / (kept / hits + objects / hits)
        assert each.f1 == pytest.approx(harmonic)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), images=st.integers(1, 7), tied=st.booleans())
def test_average_precisions_and_the_best_score(protocol: str, seed: int, images: int, tied: bool) -> None:
    truth, detections = random_case(seed, images, tied)
    result, matches = score_and_match(truth, detections, protocol)
    assert result == score(truth, detections, protocol)
    found = class_scores(matches, NAMES)
    assert {each.name: each.ap50 for each in found.classes} == pytest.approx(result.per_class)
    assert found.whole.ap50 == pytest.approx(result.map50)
    assert found.whole.ap == (None if protocol != "coco" else pytest.approx(result.map))
    if protocol == "coco":
        means = official(truth, detections)
        assert (found.whole.ap50, found.whole.ap) == pytest.approx((means["map50"], means["map"]))

    # every score is tried as a limit, and 0
    tried = sorted({0.0, *torch.cat([each.scores for each in detections]).tolist()})
    f1 = {least: class_scores(matches, NAMES, least).whole.f1 for least in tried}
    assert found.best_f1 == pytest.approx(max(f1.values()))
    if found.best_f1:
        assert found.best_score is not None
        assert class_scores(matches, NAMES, found.best_score).whole.f1 == pytest.approx(found.best_f1)
    else:
        assert found.best_score is None


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), images=st.integers(1, 7))
def test_curves(seed: int, images: int) -> None:
    """The mean of a precision-recall curve is COCO's average precision; counts rise as scores fall."""
    truth, detections = random_case(seed, images)
    matches = match(truth, detections)
    aps = coco_ap(truth, detections).per_class
    np.testing.assert_allclose(precision_curves(matches).mean(axis=1), list(aps.values()), atol=1e-9)
    limits = np.linspace(0, 1, 21)
    kept, hits = counts_above(matches, limits)
    for column, limit in enumerate(limits.tolist()):
        at = class_scores(matches, NAMES, limit)
        assert kept[:, column].tolist() == [each.kept for each in at.classes]
        assert hits[:, column].tolist() == [each.hits for each in at.classes]


def _one(scores: list[float], shift: float = 0.0) -> tuple[Truth, list[Detections]]:
    """One object, found by the first detection only."""
    truth, _ = random_case(0, 1)
    target = truth.targets[0]
    target.crowd[:], target.difficult[:] = False, False
    boxes = target.boxes[:1].repeat(len(scores), 1) + shift
    return truth, [Detections(boxes, torch.tensor(scores), target.labels[:1].repeat(len(scores)))]


def test_a_limit_is_compared_as_detections_are() -> None:
    """In float32, where 0.7 is less than the number 0.7; and what scores as much is not above."""
    truth, detections = _one([0.7, 0.3])
    matches = match(truth, detections)
    kept = [class_scores(matches, NAMES, least).whole.kept for least in (0.69, 0.7, 0.29, 0.3, 0.0, 1.0)]
    assert kept == [1, 0, 2, 1, 2, 0]
    assert float(np.float32(0.7)) < 0.7
    best = class_scores(matches, NAMES)
    assert best.best_score == pytest.approx(0.5) and best.best_f1 == 2 / (1 + best.whole.objects)


def test_nothing_found() -> None:
    truth, detections = _one([], 0.0)
    for protocol in PROTOCOLS:
        found = class_scores(match(truth, detections, protocol), NAMES)
        assert (found.best_score, found.best_f1, found.whole.precision, found.whole.f1) == (None, 0, None, 0)
    truth, detections = _one([0.9, 0.8], 1000.0)
    found = class_scores(match(truth, detections), NAMES)
    assert (found.best_score, found.best_f1, found.whole.precision) == (None, 0, 0)


def test_printed_and_as_json() -> None:
    truth, detections = random_case(3, 5)
    found = class_scores(match(truth, detections), NAMES, 0.5)
    head, _, *rows = str(found).splitlines()
    assert head.split() == ["class", "objects", "AP50", "AP", "precision", "recall", "F1"]
    for each, row in zip((*found.classes, found.whole), rows, strict=True):
        assert row.split()[:3] == [each.name, str(each.objects), f"{100 * each.ap50:.1f}"]
        assert row.split()[-1] == f"{100 * each.f1:.1f}"
    record: Any = json.loads(json.dumps(found.to_json()))
    assert record["all"]["recall"] == found.whole.recall and record["min_score"] == 0.5
    assert [row["f1"] for row in record["classes"]] == [each.f1 for each in found.classes]
    voc = class_scores(match(truth, detections, "voc"), NAMES)
    assert voc.whole.ap is None and " - " in str(voc)


@pytest.mark.parametrize("least", [-0.1, 1.1, float("nan")])
def test_scores_that_cannot_be(least: float) -> None:
    truth, detections = _one([0.5])
    with pytest.raises(InputError, match="min_score is .*; give a score in"):
        class_scores(match(truth, detections), NAMES, least)
