"""When the detections of an image no longer change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torchvision.ops import box_iou

from sj_lowlat.detect.detections import Detections
from sj_lowlat.detect.head import Head
from sj_lowlat.detect.nms import detections_from_maps
from sj_lowlat.schedule import whole

SCORE = 0.25  # detections that score more are looked at
OVERLAP = 0.9  # of a box with itself one read-out before


def same_detections(before: Detections, after: Detections, overlap: float = OVERLAP) -> bool:
    """Whether two records of an image show the same objects: each box overlaps one of its class in the other.

    :param overlap: least intersection over union
    """
    if len(before) != len(after) or sorted(before.labels.tolist()) != sorted(after.labels.tolist()):
        return False
    alike = box_iou(before.boxes, after.boxes) >= overlap
    alike &= before.labels[:, None] == after.labels
    return bool(alike.any(0).all() and alike.any(1).all())


class StableDetections:
    """Follows the detections of a batch over the read-outs of a simulation.

    An image is done when its detections (above a score of 0.25) have been the same in the last ``reads + 1``
    read-outs: the same classes, with boxes that overlap by 0.9. An image without detections is never done.

    :param specs: the detector's ``head_specs``
    :param reads: read-outs without a change
    :raises InputError: if ``reads`` is not a whole number of at least 1
    """

    def __init__(self, specs: Sequence[Head], reads: int = 2) -> None:
        whole("stop_reads", reads, 1, "for instance 2")
        self.specs, self.reads = specs, reads
        self.stopped: list[int | None] = []  # step at which each image was done
        self._last: list[Detections] = []
        self._unchanged: list[int] = []

    def update(self, step: int, maps: Any) -> bool:
        """Take in the outputs of a read-out; whether every image is done."""
        found = detections_from_maps(maps, self.specs, SCORE)
        if not self._last:
            self.stopped, self._unchanged = [None] * len(found), [0] * len(found)
        for i, (before, after) in enumerate(zip(self._last, found, strict=False)):
            same = bool(len(after)) and same_detections(before, after)
            self._unchanged[i] = self._unchanged[i] + 1 if same else 0
            if self.stopped[i] is None and self._unchanged[i] >= self.reads:
                self.stopped[i] = step
        self._last = found
        return None not in self.stopped
