"""Class-wise non-maximum suppression, and the whole way from head maps to detections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torchvision
from torch import Tensor

from sj_lowlat.detect.decode import candidates
from sj_lowlat.detect.detections import Detections
from sj_lowlat.detect.head import Head, all_finite
from sj_lowlat.errors import InputError


def nms(
    boxes: Tensor,
    scores: Tensor,
    score_threshold: float = 0.005,
    iou_threshold: float = 0.45,
    max_detections: int = 100,
) -> Detections:
    """The best boxes of one image, of which no two of a class overlap more than ``iou_threshold``.

    Every (box, class) pair whose score is above the threshold is a candidate, so one box may answer for
    several classes.

    :param boxes: ``[M, 4]`` x1, y1, x2, y2
    :param scores: ``[M, K]`` one score per class
    :param score_threshold: candidates score more than this, in [0, 1]
    :param iou_threshold: overlap (intersection over union) above which the lower score goes, in [0, 1]
    :param max_detections: number of detections that are kept, the best ones; at least 1
    :return: :class:`Detections`, highest score first
    :raises InputError: if shapes or thresholds are wrong, or boxes or scores are not finite
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.ndim != 2 or len(scores) != len(boxes):
        raise InputError(f"nms takes [M, 4] and [M, K]; got {list(boxes.shape)} and {list(scores.shape)}")
    if not 0 <= score_threshold <= 1 or not 0 <= iou_threshold <= 1 or max_detections < 1:
        raise InputError(
            "nms needs score_threshold and iou_threshold in [0, 1] and max_detections of 1 or more; "
            f"got {score_threshold}, {iou_threshold} and {max_detections}"
        )
    if not all_finite(boxes) or not all_finite(scores):
        raise InputError("nms got boxes or scores that are NaN or infinite: check the head maps")
    boxes, scores = boxes.detach().float(), scores.detach().float()
    rows, labels = (scores > score_threshold).nonzero(as_tuple=True)
    values, order = scores[rows, labels].sort(descending=True, stable=True)
    rows, labels = rows[order], labels[order]
    # Suppression only ever looks at higher scores: the survivors of a prefix are the prefix of the survivors.
    prefix = 8 * max_detections
    while True:
        kept = _survivors(boxes[rows[:prefix]], values[:prefix], labels[:prefix], iou_threshold)
        if len(kept) >= max_detections or prefix >= len(rows):
            kept = kept[:max_detections]
            return Detections(boxes[rows[kept]], values[kept], labels[kept])
        prefix *= 4


def _survivors(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """Indices, ascending, of what is left after suppression within each class. Torchvision's ``batched_nms``
    shifts coordinates: classes then touch where they are negative, and huge boxes lose precision.
    """
    kept = [labels.new_zeros(0)]
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        kept.append(members[torchvision.ops.nms(boxes[members], scores[members], iou_threshold)])
    return torch.cat(kept).sort().values


@torch.no_grad()
def detections_from_maps(
    outputs: Any,
    heads: Sequence[Head],
    score_threshold: float = 0.005,
    iou_threshold: float = 0.45,
    max_detections: int = 100,
) -> list[Detections]:
    """Decode what a detector returned for a batch and suppress overlaps, image by image.

    Arguments and errors are those of :func:`~sj_lowlat.detect.decode` and :func:`nms`.

    :return: one :class:`Detections` per image, boxes in pixels of the network input
    """
    found = candidates(outputs, heads, score_threshold)
    return [nms(*image, score_threshold, iou_threshold, max_detections) for image in found]
