"""The record of an evaluation: average precision at every read-out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sj_lowlat.detect import Detections
from sj_lowlat.evaluation.ap import APResult
from sj_lowlat.evaluation.bootstrap import Difference, Interval
from sj_lowlat.evaluation.energy import EnergyReport
from sj_lowlat.evaluation.matches import Matches
from sj_lowlat.evaluation.per_class import ClassScores


@dataclass(frozen=True)
class CurvePoint:
    """Average precision at one latency.

    :param steps: every step until the read-out, flush included; ``None`` for a network that is not spiking
    :param interval: of mAP50, if it was asked for
    :param difference: of mAP50 to that of the network given for comparison
    """

    steps: int | None
    ap: APResult
    interval: Interval | None = None
    difference: Difference | None = None

    @property
    def name(self) -> str:
        """Kind of the network and steps, in words."""
        return "ANN" if self.steps is None else f"SNN, {self.steps} steps"


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Accuracy of a detector on a data set.

    :param points: one per read-out, ascending
    :param ann: accuracy of the network given for comparison, or ``None``
    :param energy: energy per image on the monitored images, for a spiking network
    :param rates: firing rates per layer on the same images (``FiringRateMonitor.to_json``)
    :param mean_steps: steps per image with early stopping (``stop``); ``points`` then holds one point, each
        image at its own last step
    :param settings: image size, thresholds, protocol, seed, versions, command, seconds
    :param failed: ``image`` (place in the data set) and ``error`` of each picture that cannot be read
    :param ann_interval: of ``ann``, if it was asked for
    :param detections: one record an image, if they are kept: by ``str(steps)`` of the point, and ``"beside"``
        for ``ann``
    :param classes: how well each class is found, at the last read-out
    :param matches: what that is counted from
    """

    points: tuple[CurvePoint, ...]
    ann: APResult | None
    energy: EnergyReport | None
    rates: dict[str, Any] | None
    settings: dict[str, Any]
    mean_steps: float | None = None
    failed: tuple[dict[str, Any], ...] = ()
    ann_interval: Interval | None = None
    detections: Mapping[str, list[Detections]] | None = None
    classes: ClassScores | None = None
    matches: Matches | None = None

    @property
    def final(self) -> APResult:
        """Average precision at the last read-out."""
        return self.points[-1].ap

    def curve(self) -> list[tuple[int, float]]:
        """``(steps, mAP50)`` of every read-out."""
        return [(point.steps or 0, point.ap.map50) for point in self.points]

    def to_json(self) -> dict[str, Any]:
        """A dict that ``json`` can write; without detections and matches."""
        return {
            "points": [
                {"steps": point.steps, **point.ap.to_json(), **_given(point.interval, point.difference)}
                for point in self.points
            ],
            "ann": {**self.ann.to_json(), **_given(self.ann_interval)} if self.ann else None,
            "energy": self.energy.to_json() if self.energy else None,
            "rates": self.rates,
            "classes": self.classes.to_json() if self.classes else None,
            "mean_steps": self.mean_steps,
            "failed": list(self.failed),
            "settings": self.settings,
        }

    def __repr__(self) -> str:
        points = ", ".join(f"{point.name}: {100 * point.ap.map50:.2f}" for point in self.points)
        return f"Evaluation({self.final.images} images; mAP50 in % {points})"

    def __str__(self) -> str:
        lines = []
        for point in self.points:
            lines.append(f"{point.name}: {point.ap}")
            if point.interval:
                lines.append(f"  mAP50 {point.interval}")
            if point.difference:
                lines.append(f"  less that of the ANN beside it: {point.difference}")
        if self.mean_steps is not None:
            lines.append(f"steps per image: {self.mean_steps:.2f}")
        if self.ann:
            lines.append(f"ANN beside it: {self.ann}")
        if self.ann_interval:
            lines.append(f"  mAP50 {self.ann_interval}")
        if self.energy:
            lines.append(str(self.energy))
        if self.failed:
            lines.append(f"{len(self.failed)} pictures cannot be read, and count as nothing found in them")
        return "\n".join(lines)


def _given(interval: Interval | None, difference: Difference | None = None) -> dict[str, Any]:
    pairs = {"interval": interval, "difference": difference}
    return {name: each.to_json() for name, each in pairs.items() if each}
