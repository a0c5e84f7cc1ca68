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
    :param images: how many images were scored
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
    """One image's truth and its detections, both in the data set's labels.

    :param ignored: bool ``[M]``, crowd or difficult: neither found nor missed
    """

    truth: Target
    detections: Detections

    @property
    def ignored(self) -> torch.Tensor:
        return self.truth.crowd | self.truth.difficult


def pair_up(
    dataset: DetectionDataset, detections: Sequence[Detections], class_map: Mapping[int, int] | None
) -> tuple[list[Scene], list[int]]:
    """Check the input of :func:`~sj_lowlat.evaluation.coco_ap`, and translate the detections' labels.

    :return: the scenes, and the data set labels to score
    :raises InputError: if counts or labels do not fit, or there is nothing to find
    """
    targets, class_count = ground_truth(dataset), len(dataset.class_names)
    if len(detections) != len(targets):
        raise InputError(
            f"{len(detections)} detection records for {len(targets)} images: give one an image, in order"
        )
    table = dict(class_map) if class_map is not None else {label: label for label in range(class_count)}
    if not all(0 <= label < class_count for label in table.values()):
        raise InputError(
            f"class_map points at labels {sorted(set(table.values()))}: the data set has {class_count}"
        )
    scenes = [
        Scene(target, _translate(found, table, class_map is None))
        for target, found in zip(targets, detections, strict=True)
    ]
    labels = sorted(set(table.values()))
    wanted = torch.tensor(labels)
    if not any(torch.isin(scene.truth.labels[~scene.ignored], wanted).any() for scene in scenes):
        raise InputError(
            "the data set has no box of any scored class: an average precision needs at least one"
        )
    return scenes, labels


def _translate(found: Detections, table: Mapping[int, int], strict: bool) -> Detections:
    labels = [table.get(label, -1) for label in found.labels.tolist()]
    if strict and -1 in labels:
        wrong = found.labels.tolist()[labels.index(-1)]
        raise InputError(
            f"a detection has the label {wrong}, but the data set has the labels 0 to {len(table) - 1}: "
            "give class_map=match_classes(model.class_names, dataset.class_names)"
        )
    mapped = torch.tensor(labels, dtype=torch.int64)
    keep = mapped >= 0
    return Detections(found.boxes.detach().cpu()[keep], found.scores.detach().cpu()[keep], mapped[keep])
