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


def scored_labels(targets: Sequence[Target], classes: int, class_map: Mapping[int, int] | None) -> list[int]:
    """The data set labels that are scored.

    :param classes: number of the data set's
    :param class_map: as for :func:`~sj_lowlat.evaluation.coco_ap`
    :raises InputError: if they are none of the data set's, or no box is to be found
    """
    labels = sorted(set(class_map.values())) if class_map is not None else list(range(classes))
    if not all(0 <= label < classes for label in labels):
        raise InputError(f"class_map points at labels {labels}: the data set has {classes}")
    wanted = torch.tensor(labels, dtype=torch.int64)
    if not any(torch.isin(t.labels[~(t.crowd | t.difficult)], wanted).any() for t in targets):
        raise InputError("the data set has no box of any scored class: give one that has some")
    return labels


def pair_up(
    dataset: DetectionDataset, detections: Sequence[Detections], class_map: Mapping[int, int] | None
) -> tuple[list[Scene], list[int]]:
    """Check what ``coco_ap`` and ``voc_ap`` are given; return scenes, and the data set labels to score."""
    targets, classes = ground_truth(dataset), len(dataset.class_names)
    if len(detections) != len(targets):
        raise InputError(
            f"{len(detections)} detection records for {len(targets)} images: give one each, in order"
        )
    labels = scored_labels(targets, classes, class_map)
    table = {label: label for label in labels} if class_map is None else class_map
    scenes = []
    for target, found in zip(targets, detections, strict=True):
        mapped = torch.tensor([table.get(label, -1) for label in found.labels.tolist()], dtype=torch.int64)
        boxes, scores, keep = found.boxes.detach().cpu(), found.scores.detach().cpu(), mapped >= 0
        if class_map is None and not keep.all():
            raise InputError(
                f"a detection has the label {int(found.labels.cpu()[~keep][0])}, but the data set has the "
                f"labels 0 to {classes - 1}: "
                "give class_map=match_classes(model.class_names, dataset.class_names)"
            )
        scenes.append(Scene(target, Detections(boxes[keep], scores[keep], mapped[keep])))
    return scenes, labels
