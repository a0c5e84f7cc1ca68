"""Target assignment: which anchors and cells are responsible for which objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sj_lowlat.detect import HeadSpec

MAX_RATIO = 4.0
"""An anchor takes an object whose width and height are less than this factor away from its own."""


@dataclass(frozen=True)
class Targets:
    """The objects of a batch.

    :param boxes: ``[G, 4]`` xyxy, network pixels
    :param labels: ``[G]`` class indices
    :param image: ``[G]`` index of the picture in the batch
    """

    boxes: Tensor
    labels: Tensor
    image: Tensor


@dataclass(frozen=True)
class Assignment:
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
