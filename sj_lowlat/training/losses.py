"""Detection loss of YOLO heads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou, complete_box_iou_loss

from sj_lowlat.detect.heads import HeadSpec, boxes_of, check_specs, split_head
from sj_lowlat.training.assign import Targets, assign

BOX_GAIN = 5.0
"""Weight of the box term beside objectness and classes; CIoU lies in [0, 2], the others are sums of BCE."""
IGNORE_IOU = 0.7
"""A free cell that overlaps an object by more is not taught to be empty (darknet's ``ignore_thresh``)."""


def detection_loss(
    head_maps: Sequence[Tensor], specs: Sequence[HeadSpec], targets: Targets
) -> dict[str, Tensor]:
    """Box, objectness and class loss, each the mean over heads of a sum over cells per answering cell.

    Boxes: 1 - CIoU (Zheng et al. 2020, arXiv:1911.08287) times :data:`BOX_GAIN`. Objectness: BCE, 1 in
    answering cells, 0 elsewhere; free cells whose box has an IoU with an object above :data:`IGNORE_IOU`
    do not count. Classes: BCE summed over classes (cross-entropy in ``region`` heads). Each sum is divided by
    the number of answering cells of that head, at least one a picture, so that no head drowns another.

    :param head_maps: raw maps ``[N, A (5 + num_classes), H, W]``, one per spec
    :param targets: objects in pixels of the network input
    :return: scalars ``box``, ``objectness``, ``classes``; all 0 or positive
    :raises InputError: if maps and specs do not fit
    """
    check_specs(specs, head_maps)
    assignments = assign(targets, specs, [(m.shape[-2], m.shape[-1]) for m in head_maps])
    total = {name: torch.zeros((), device=head_maps[0].device) for name in ("box", "objectness", "classes")}
    for head_map, spec, assigned in zip(head_maps, specs, assignments, strict=True):
        raw = split_head(head_map, spec)
        boxes = boxes_of(raw, spec)
        weight = 1 / (max(len(assigned.cell), len(head_map)) * len(specs))
        owned = torch.zeros(raw.objectness.numel(), device=head_map.device)
        owned[assigned.cell] = 1
        free = (owned == 0) & (best_iou(boxes.detach(), targets).flatten() > IGNORE_IOU)
        objectness = F.binary_cross_entropy_with_logits(raw.objectness.flatten(), owned, reduction="none")
        total["objectness"] += objectness[~free].sum() * weight
        found = boxes.reshape(-1, 4)[assigned.cell]
        ciou = complete_box_iou_loss(found, targets.boxes[assigned.target], reduction="sum")
        total["box"] += BOX_GAIN * weight * ciou
        logits = raw.classes.reshape(-1, spec.num_classes)[assigned.cell]
        total["classes"] += weight * _class_loss(logits, targets.labels[assigned.target], spec)
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
