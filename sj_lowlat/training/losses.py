"""Detection loss of YOLO heads, and which of their cells answer for which objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou, complete_box_iou_loss

from sj_lowlat import distributed
from sj_lowlat.detect.heads import HeadSpec, boxes_of, check_specs, split_head

BOX_GAIN = 5.0
"""Weight of the box term beside objectness and classes; CIoU lies in [0, 2], the others are sums of BCE."""
IGNORE_IOU = 0.7
"""A free cell that overlaps an object by more is not taught to be empty (darknet's ``ignore_thresh``)."""
MAX_RATIO = 4.0
"""An anchor takes an object whose width and height are less than this factor away from its own."""


class Targets(NamedTuple):
    """The objects of a batch.

    :param boxes: ``[G, 4]`` xyxy, network pixels
    :param labels: ``[G]`` class indices
    :param image: ``[G]`` index of the picture in the batch
    """

    boxes: Tensor
    labels: Tensor
    image: Tensor


class Assignment(NamedTuple):
    """The cells of one head that are responsible for an object: ``P`` distinct ones, ascending.

    :param cell: ``[P]`` index into the flattened ``[N, A, H, W]``
    :param target: ``[P]`` index of the object
    """

    cell: Tensor
    target: Tensor


def assign(targets: Targets, specs: Sequence[HeadSpec], grids: Sequence[tuple[int, int]]) -> list[Assignment]:
    """Give each object to anchors, in the cell that holds its centre.

    An anchor takes the object if ``max(w/aw, aw/w, h/ah, ah/h) < 4``; the anchor with the best IoU of shapes
    over all heads always does. A cell claimed by several objects goes to the one that fits its anchor best.

    :param grids: (H, W) of each head map
    :return: one assignment per head
    """
    device = targets.boxes.device
    size = (targets.boxes[:, 2:] - targets.boxes[:, :2]).clamp(min=1e-6)  # [G, 2]
    centre = (targets.boxes[:, 2:] + targets.boxes[:, :2]) / 2
    anchors = torch.tensor([a for spec in specs for a in spec.anchors], device=device)  # [A of all heads, 2]
    ratio = size[:, None] / anchors
    overlap = torch.minimum(size[:, None], anchors).prod(-1)
    fit = overlap / (size.prod(-1)[:, None] + anchors.prod(-1) - overlap)  # [G, A of all heads] IoU of shapes
    takes = torch.maximum(ratio, 1 / ratio).amax(-1) < MAX_RATIO
    takes |= torch.zeros_like(takes).scatter_(1, fit.argmax(1, keepdim=True), True)
    result, first = [], 0
    for spec, (height, width) in zip(specs, grids, strict=True):
        count = len(spec.anchors)
        target, anchor = takes[:, first : first + count].nonzero(as_tuple=True)
        column = (centre[target, 0] / spec.stride).long().clamp(0, width - 1)
        row = (centre[target, 1] / spec.stride).long().clamp(0, height - 1)
        cell = ((targets.image[target] * count + anchor) * height + row) * width + column
        # best fit first, then by cell: the first of each run of equal cells is the winner
        order = fit[target, first + anchor].argsort(descending=True, stable=True)
        order = order[cell[order].argsort(stable=True)]
        cell, target = cell[order], target[order]
        winner = torch.ones_like(cell, dtype=torch.bool)
        winner[1:] = cell[1:] != cell[:-1]
        result.append(Assignment(cell[winner], target[winner]))
        first += count
    return result


def detection_loss(
    head_maps: Sequence[Tensor], specs: Sequence[HeadSpec], targets: Targets
) -> dict[str, Tensor]:
    """Box, objectness and class loss, each the mean over heads of a sum over cells per answering cell.

    Boxes: 1 - CIoU (Zheng et al. 2020, arXiv:1911.08287) times :data:`BOX_GAIN`. Objectness: BCE, 1 in
    answering cells, 0 elsewhere; free cells whose box has an IoU with an object above :data:`IGNORE_IOU`
    do not count. Classes: BCE summed over classes (cross-entropy in ``region`` heads). Each sum is divided by
    the number of answering cells of that head, at least one a picture, so that no head drowns another. Where
    several processes share a batch, cells and pictures of all are counted: the losses sum up to the batch's.

    :param head_maps: raw maps ``[N, A (5 + num_classes), H, W]``, one per spec
    :param targets: objects in pixels of the network input
    :return: scalars ``box``, ``objectness``, ``classes``; all 0 or positive
    :raises InputError: if maps and specs do not fit
    """
    check_specs(specs, head_maps)
    assignments = assign(targets, specs, [(m.shape[-2], m.shape[-1]) for m in head_maps])
    total = {name: torch.zeros((), device=head_maps[0].device) for name in ("box", "objectness", "classes")}
    for head_map, spec, (cell, target) in zip(head_maps, specs, assignments, strict=True):
        raw = split_head(head_map, spec)
        boxes = boxes_of(raw, spec)
        weight = 1 / (max(distributed.totals(len(cell), len(head_map))) * len(specs))
        owned = torch.zeros(raw.objectness.numel(), device=head_map.device)
        owned[cell] = 1
        free = (owned == 0) & (best_iou(boxes.detach(), targets).flatten() > IGNORE_IOU)
        objectness = F.binary_cross_entropy_with_logits(raw.objectness.flatten(), owned, reduction="none")
        total["objectness"] += objectness[~free].sum() * weight
        found = boxes.reshape(-1, 4)[cell]
        ciou = complete_box_iou_loss(found, targets.boxes[target], reduction="sum")
        total["box"] += BOX_GAIN * weight * ciou
        logits = raw.classes.reshape(-1, spec.num_classes)[cell]
        total["classes"] += weight * _class_loss(logits, targets.labels[target], spec)
    return total


def best_iou(boxes: Tensor, targets: Targets) -> Tensor:
    """Highest IoU of each box ``[N, A, H, W, 4]`` with an object of its picture, 0 where there is none."""
    best = torch.zeros(boxes.shape[:-1], device=boxes.device)
    for i in range(len(boxes)):
        objects = targets.boxes[targets.image == i]
        if len(objects):
            best[i] = box_iou(boxes[i].reshape(-1, 4), objects).amax(1).view_as(best[i])
    return best


def _class_loss(logits: Tensor, labels: Tensor, spec: HeadSpec) -> Tensor:
    if spec.kind == "region":
        return F.cross_entropy(logits, labels, reduction="sum")
    truth = F.one_hot(labels, spec.num_classes).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, truth, reduction="sum")
