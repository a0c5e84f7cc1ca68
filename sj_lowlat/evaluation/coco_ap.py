"""COCO's average precision, by pycocotools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import FunctionType
from typing import Any

import numpy as np

from sj_lowlat.data.sample import DetectionDataset, Target
from sj_lowlat.detect.detections import Detections
from sj_lowlat.evaluation.ap import APResult, Scene, pair_up
from sj_lowlat.evaluation.matches import ClassMatches, Ranking


def coco_ap(
    dataset: DetectionDataset, detections: Sequence[Detections], class_map: Mapping[int, int] | None = None
) -> APResult:
    """Score detections as COCO does: 101 recall points, IoU 0.50 to 0.95, 100 detections a class and image.

    Crowd boxes (and VOC's difficult ones) are neither found nor missed.

    :param dataset: its boxes are the truth
    :param detections: one record an image, in the data set's order, boxes in pixels of the original image
    :param class_map: model label -> data set label; other detections are left out, and the mean runs over the
        mapped classes alone. Default: the labels are the same.
    :return: mAP50 and mAP; 0 if nothing was detected
    :raises InputError: if the counts or labels do not fit, or the data set has no box to find
    """
    scenes, labels = pair_up(dataset, detections, class_map)
    return _ap(dataset, scenes, labels, _evaluated(scenes, labels))


def coco_ap_and_matches(
    dataset: DetectionDataset, scenes: list[Scene], labels: list[int]
) -> tuple[APResult, list[ClassMatches]]:
    """:func:`coco_ap` and :func:`coco_matches` of one comparison."""
    run = _evaluated(scenes, labels)
    return _ap(dataset, scenes, labels, run), _matches(scenes, labels, run)


def _ap(dataset: DetectionDataset, scenes: list[Scene], labels: list[int], run: Any) -> APResult:
    run.accumulate()
    precision = np.asarray(run.eval["precision"])[:, :, :, 0, -1]  # [IoU, recall, class]
    found = np.asarray((precision > -1).all(axis=(0, 1)))  # -1 marks classes without truth
    ap = precision[:, :, found].mean(axis=1)  # [IoU, class]
    names = [dataset.class_names[label] for label, kept in zip(labels, found, strict=True) if kept]
    return APResult(
        map50=float(ap[0].mean()),
        map=float(ap.mean()),
        per_class=dict(zip(names, ap[0].tolist(), strict=True)),
        protocol="COCO, 101-point, at most 100 detections a class and image",
        images=len(scenes),
    )


def coco_matches(scenes: list[Scene], labels: list[int]) -> list[ClassMatches]:
    """Which detections pycocotools counts, and which find an object, for each class that has one."""
    return _matches(scenes, labels, _evaluated(scenes, labels))


def _matches(scenes: list[Scene], labels: list[int], run: Any) -> list[ClassMatches]:
    classes = []
    images, rows = len(scenes), run.evalImgs  # by class, then image
    for first, label in enumerate(labels):
        there = [each for each in enumerate(rows[first * images : (first + 1) * images]) if each[1]]
        positives = np.zeros(images, dtype=np.int64)
        for number, row in there:
            positives[number] = np.count_nonzero(row["gtIgnore"] == 0)
        if not positives.any():
            continue
        scores = np.concatenate([row["dtScores"] for _, row in there]).astype(np.float32)
        order = np.argsort(-scores, kind="mergesort")  # stable, as pycocotools sorts
        counts = [len(row["dtScores"]) for _, row in there]
        places = np.repeat([number for number, _ in there], counts)[order]
        hit, ignored = (
            np.concatenate([row[key] for _, row in there], axis=1)[:, order].astype(bool)  # [IoU, detection]
            for key in ("dtMatches", "dtIgnore")
        )
        rankings = tuple(
            Ranking(places[counted], np.flatnonzero(found[counted]), scores[order][counted])
            for found, counted in zip(hit, ~ignored, strict=True)
        )
        classes.append(ClassMatches(label, positives, rankings))
    return classes


def _evaluated(scenes: list[Scene], labels: list[int]) -> Any:
    """pycocotools' evaluation, images and detections compared."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    class QuietIndex(COCO):
        createIndex = _quiet(COCO.createIndex)

    class QuietEvaluation(COCOeval):
        evaluate = _quiet(COCOeval.evaluate)
        accumulate = _quiet(COCOeval.accumulate)

    def index(rows: list[dict[str, Any]]) -> Any:
        coco = QuietIndex()
        # pycocotools takes an id 0 for "no match"
        coco.dataset = {
            "images": [{"id": number} for number in range(1, len(scenes) + 1)],
            "categories": [{"id": label} for label in labels],
            "annotations": [{"id": number, **row} for number, row in enumerate(rows, start=1)],
        }
        coco.createIndex()
        return coco

    truth: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for number, scene in enumerate(scenes, start=1):
        target, seen = scene.truth, scene.detections
        for row, crowd in zip(_rows(number, target), scene.ignored.int().tolist(), strict=True):
            truth.append({**row, "iscrowd": crowd})
        for row, score in zip(_rows(number, seen), seen.scores.tolist(), strict=True):
            found.append({**row, "iscrowd": 0, "score": score})
    # not COCO.loadRes, which fails when nothing was detected
    run = QuietEvaluation(index(truth), index(found), "bbox")
    run.params.catIds = labels
    # objects of all areas, the largest limit (100)
    run.params.areaRng, run.params.areaRngLbl = run.params.areaRng[:1], run.params.areaRngLbl[:1]
    run.params.maxDets = run.params.maxDets[-1:]
    run.evaluate()
    return run


def _quiet(function: Any) -> Any:
    """The function with another ``print``; to redirect stdout would redirect that of all threads."""
    names = {**function.__globals__, "print": lambda *args, **options: None}
    return FunctionType(function.__code__, names, function.__name__, function.__defaults__)


def _rows(number: int, record: Target | Detections) -> list[dict[str, Any]]:
    boxes = ((x1, y1, x2 - x1, y2 - y1) for x1, y1, x2, y2 in record.boxes.tolist())
    return [
        {"image_id": number, "category_id": label, "bbox": [x, y, w, h], "area": w * h}
        for (x, y, w, h), label in zip(boxes, record.labels.tolist(), strict=True)
    ]
