"""PASCAL VOC's average precision, which pycocotools does not have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torchvision.ops import box_iou

from sj_lowlat.data.sample import DetectionDataset
from sj_lowlat.detect.detections import Detections
from sj_lowlat.errors import InputError
from sj_lowlat.evaluation.ap import APResult, Scene, pair_up
from sj_lowlat.evaluation.matches import ClassMatches, Ranking

_IOU = 0.5
_PROTOCOLS = {"11-point": "VOC2007, 11-point", "all-point": "VOC2010, all-point"}


def voc_ap(
    dataset: DetectionDataset,
    detections: Sequence[Detections],
    method: Literal["11-point", "all-point"] = "11-point",
    class_map: Mapping[int, int] | None = None,
) -> APResult:
    """Score detections as PASCAL VOC does.

    Detections of a class go through the whole set by falling score. Each is compared with the box of its
    class that it overlaps most; below IoU 0.5, or if that box was taken before, it is false. Difficult boxes
    (and COCO's crowd boxes) are neither found nor missed. The mean runs over the classes that have another
    box.

    11-point (VOC2007): the mean over r = 0, 0.1, ... 1 of the best precision at a recall of at least r.
    All-point (since VOC2010): the area under the precision made monotone.
    Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 88 (2010), section 4.2.

    :param detections: as for :func:`coco_ap`, like ``dataset`` and ``class_map``
    :param method: "11-point" or "all-point"
    :return: mAP50; 0 if nothing was detected
    :raises InputError: if ``method`` is unknown, the counts or labels do not fit, or there is no box to find
    """
    if method not in _PROTOCOLS:
        raise InputError(f"method {method!r} came: the methods are {', '.join(_PROTOCOLS)}")
    scenes, labels = pair_up(dataset, detections, class_map)
    return voc_ap_and_matches(dataset, scenes, labels, method)[0]


def voc_ap_and_matches(
    dataset: DetectionDataset, scenes: list[Scene], labels: list[int], method: str
) -> tuple[APResult, list[ClassMatches]]:
    """:func:`voc_ap` and :func:`voc_matches` of one comparison."""
    classes = voc_matches(scenes, labels)
    per_class: dict[str, float] = {}
    for each in classes:
        ranking = each.rankings[0]
        hits = np.isin(np.arange(len(ranking.images)), ranking.hits)
        per_class[dataset.class_names[each.label]] = _average(hits, int(each.positives.sum()), method)
    result = APResult(
        map50=sum(per_class.values()) / len(per_class),
        map=None,
        per_class=per_class,
        protocol=f"{_PROTOCOLS[method]}, IoU 0.5, difficult ignored",
        images=len(scenes),
    )
    return result, classes


def voc_matches(scenes: list[Scene], labels: list[int]) -> list[ClassMatches]:
    """Which detections count, and which find an object, for each class that has one."""
    classes = []
    for label in labels:
        hits, images, positives, scores = _match_class(scenes, label)
        if any(positives):
            places = np.array(images, dtype=np.int64)
            ranking = Ranking(places, np.flatnonzero(hits), np.array(scores, dtype=np.float32))
            classes.append(ClassMatches(label, np.array(positives, dtype=np.int64), (ranking,)))
    return classes


def _match_class(scenes: list[Scene], label: int) -> tuple[list[bool], list[int], list[int], list[float]]:
    """True or false for each detection that counts, by falling score, and its scene; the number of boxes to
    find in each scene; the scores."""
    ranked: list[tuple[float, int, int]] = []  # score, scene, box overlapped enough or -1
    ignored: list[list[bool]] = []
    for number, scene in enumerate(scenes):
        wanted = scene.truth.labels == label
        seen = scene.detections.labels == label
        ignored.append(scene.ignored[wanted].tolist())
        boxes, scores = scene.detections.boxes[seen], scene.detections.scores[seen]
        place = torch.full((len(boxes),), -1)
        if ignored[-1]:
            overlap, best = box_iou(boxes.double(), scene.truth.boxes[wanted].double()).max(dim=1)
            place = torch.where(overlap >= _IOU, best, -1)
        ranked += [(score, number, box) for score, box in zip(scores.tolist(), place.tolist(), strict=True)]
    ranked.sort(key=lambda row: -row[0])
    hits: list[bool] = []
    places: list[int] = []
    ordered: list[float] = []
    taken: set[tuple[int, int]] = set()
    for score, number, box in ranked:
        if box >= 0 and ignored[number][box]:
            continue
        hits.append(box >= 0 and (number, box) not in taken)
        places.append(number)
        ordered.append(score)
        taken.add((number, box))
    return hits, places, [sum(not flag for flag in flags) for flags in ignored], ordered


def _average(hits: np.ndarray[Any, np.dtype[np.bool_]], positives: int, method: str) -> float:
    true = np.cumsum(hits, dtype=np.int64)
    precision = true / np.arange(1, len(hits) + 1)
    if method == "all-point":
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        return float(envelope[hits].sum() / positives)
    # recall in whole numbers, because 0.1 * 3 > 0.3
    best = [precision[10 * true >= tenths * positives].max(initial=0.0) for tenths in range(11)]
    return float(np.mean(best))
