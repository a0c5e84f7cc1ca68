"""The record of what a detector found in one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sj_lowlat.errors import InputError


@dataclass(eq=False)
class Detections:
    """Boxes found in one image; checked once, when made.

    To move boxes elsewhere (letterbox to image, say) use ``dataclasses.replace(detections, boxes=...)``.

    :param boxes: ``[M, 4]`` x1, y1, x2, y2 in pixels; kept as float32
    :param scores: ``[M]`` in [0, 1]; kept as float32
    :param labels: ``[M]`` class indices, 0 or more; kept as int64
    :raises InputError: if shapes, types or values are wrong
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        count = self.boxes.shape[0] if self.boxes.ndim else 0
        shapes = [tuple(part.shape) for part in (self.boxes, self.scores, self.labels)]
        if shapes != [(count, 4), (count,), (count,)]:
            raise InputError(f"boxes, scores, labels must be [M, 4], [M], [M]; got {shapes}")
        if self.labels.is_floating_point() or self.labels.is_complex() or self.labels.dtype == torch.bool:
            raise InputError(f"labels must be class indices of an integer type; got {self.labels.dtype}")
        self.boxes, self.scores, self.labels = self.boxes.float(), self.scores.float(), self.labels.long()
        if not torch.isfinite(self.boxes).all() or not (self.boxes[:, 2:] >= self.boxes[:, :2]).all():
            raise InputError("boxes must be finite with x2 >= x1 and y2 >= y1 (xyxy, not xywh)")
        if not ((self.scores >= 0) & (self.scores <= 1)).all() or not (self.labels >= 0).all():
            raise InputError("scores must lie in [0, 1] and labels be 0 or more")

    def __len__(self) -> int:
        return len(self.scores)

    def __str__(self) -> str:
        lines = [f"{len(self)} detection" + ("" if len(self) == 1 else "s")]
        for box, score, label in zip(self.boxes, self.scores.tolist(), self.labels.tolist(), strict=True):
            sides = " ".join(f"{side:.1f}" for side in box.tolist())
            lines.append(f"  class {label:3d}  score {score:.3f}  box {sides}")
        return "\n".join(lines)

    def filter(self, min_score: float) -> Detections:
        """Only the detections with a score of at least ``min_score``, in the same order."""
        chosen = self.scores >= min_score
        return Detections(self.boxes[chosen], self.scores[chosen], self.labels[chosen])

    def scaled(self, x: float, y: float | None = None) -> Detections:
        """Boxes multiplied by ``x`` across and ``y`` down (``x`` where not given).

        :raises InputError: if a factor is not positive
        """
        y = x if y is None else y
        if not (x > 0 and y > 0):
            raise InputError(f"boxes can be scaled by positive factors only; got {x} and {y}")
        return replace(self, boxes=self.boxes * self.boxes.new_tensor([x, y, x, y]))

    def to(self, device: torch.device | str) -> Detections:
        """The same record on another device."""
        return Detections(self.boxes.to(device), self.scores.to(device), self.labels.to(device))

    def to_dict(self, names: Sequence[str]) -> dict[str, list[Any]]:
        """The record as lists that JSON can hold: ``boxes``, ``scores``, ``labels`` and the class ``names``.

        :param names: class names, indexed by label
        :raises InputError: if a label has no name
        """
        labels = self.labels.tolist()
        boxes, scores = self.boxes.tolist(), self.scores.tolist()
        return {"boxes": boxes, "scores": scores, "labels": labels, "names": class_names_of(labels, names)}


def class_names_of(labels: Sequence[int], names: Sequence[str]) -> list[str]:
    """The name of each label; a label without one is refused."""
    if labels and max(labels) >= len(names):
        raise InputError(f"label {max(labels)} has no name: only {len(names)} class names were given")
    return [names[label] for label in labels]
