"""The record of an average precision, and what its protocols share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from sj_lowlat.data.sample import DetectionDataset, Target, ground_truth
from sj_lowlat.detect.detections import Detections
from sj_lowlat.errors import InputError


@dataclass(frozen=True)
class APResult:
    """Average precision of a detector on a data set; fractions in [0, 1].

    :param map50: mean over the classes of AP at IoU 0.5
    :param map: mean over the classes and over IoU 0.50, 0.55, ... 0.95; None where the protocol has 0.5 only
    :param per_class: class name -> AP at IoU 0.5, for the classes that occur in the data
    :param protocol: which rules, in words
    """

    map50: float
    map: float | None
    per_class: dict[str, float]
    protocol: str
    images: int

    def to_json(self) -> dict[str, Any]:
        """A dict that ``json`` can write."""
        return asdict(self)

    def __str__(self) -> str:
        strict = "" if self.map is None else f", mAP {100 * self.map:.1f}"
        return f"mAP50 {100 * self.map50:.1f}{strict} ({self.protocol}, {self.images} images)"


@dataclass(frozen=True)
class Scene:
    """One image's truth and its detections, both in the data set's labels."""

    truth: Target
    detections: Detections

    @property
    def ignored(self) -> torch.Tensor:
        """Bool ``[M]``: crowd or difficult boxes, neither found nor missed."""
        return self.truth.crowd | self.truth.difficult


def pair_up(
    dataset: DetectionDataset, detections: Sequence[Detections], class_map: Mapping[int, int] | None
) -> tuple[list[Scene], list[int]]:
    """Check what ``coco_ap`` and ``voc_ap`` are given; return scenes, and the data set labels to score."""
    targets, class_count = ground_truth(dataset), len(dataset.class_names)
    if len(detections) != len(targets):
        raise InputError(
            f"{len(detections)} detection records for {len(targets)} images: give one each, in order"
        )
    table = dict(class_map) if class_map is not None else {label: label for label in range(class_count)}
    labels = sorted(set(table.values()))
    if not all(0 <= label < class_count for label in labels):
        raise InputError(f"class_map points at labels {labels}: the data set has {class_count}")
    scenes = []
    for target, found in zip(targets, detections, strict=True):
        mapped = torch.tensor([table.get(label, -1) for label in found.labels.tolist()], dtype=torch.int64)
        boxes, scores, keep = found.boxes.detach().cpu(), found.scores.detach().cpu(), mapped >= 0
        if class_map is None and not keep.all():
            raise InputError(
                f"a detection has the label {int(found.labels.cpu()[~keep][0])}, but the data set has the "
                f"labels 0 to {class_count - 1}: "
                "give class_map=match_classes(model.class_names, dataset.class_names)"
            )
        scenes.append(Scene(target, Detections(boxes[keep], scores[keep], mapped[keep])))
    wanted = torch.tensor(labels, dtype=torch.int64)
    if not any(torch.isin(scene.truth.labels[~scene.ignored], wanted).any() for scene in scenes):
        raise InputError("the data set has no box of any scored class: give one that has some")
    return scenes, labels
