"""From pictures to detections by one network."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from sj_lowlat.data import letterbox
from sj_lowlat.detect import Detections
from sj_lowlat.detect.detections import class_indices
from sj_lowlat.encoders import Encoder
from sj_lowlat.errors import InputError
from sj_lowlat.layers import is_spiking
from sj_lowlat.monitors import SpikeCount
from sj_lowlat.network import info_of, schedule_for
from sj_lowlat.schedule import Schedule

_SIZE = 416  # of a network that knows none
_ALL = 10_000  # detections before those of other classes are dropped


class DetectionRun:
    """Options of :meth:`~sj_lowlat.detector.Detector.detect`, checked; called with a batch of pictures."""

    def __init__(
        self,
        network: nn.Module,
        min_score: float = 0.25,
        classes: str | int | Sequence[str | int] | None = None,
        iou: float = 0.45,
        max_detections: int = 100,
        schedule: Schedule | str | int | None = None,
        resize: str = "letterbox",
        batch_size: int = 1,
        count_spikes: bool = False,
        stop: str | None = None,
        encoder: str | Encoder = "constant",
        seed: int = 0,
    ) -> None:
        if not 0 <= min_score <= 1:
            raise InputError(f"min_score is {min_score}; give a score in [0, 1]")
        if not 0 <= iou <= 1:
            raise InputError(f"iou is {iou}; give an overlap in [0, 1]")
        if max_detections < 1:
            raise InputError(f"max_detections is {max_detections}; give at least 1")
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; give at least 1 picture a pass")
        self.batch_size = batch_size
        self.network, self.info, self.resize = network, info_of(network), resize
        self.labels = None if classes is None else class_indices(classes, self.info.class_names)
        self.most = max_detections
        self.thresholds = (min_score, iou, max_detections if classes is None else _ALL)
        self.count_spikes = count_spikes
        self.spiking = is_spiking(network)
        self.options: dict[str, Any] = {}
        if self.spiking:
            plan = schedule_for(network, schedule)
            self.options = {"schedule": plan, "encoder": encoder, "seed": seed, "stop": stop}
        elif schedule is not None or stop is not None:
            raise InputError(
                "schedule and stop are for spiking networks: leave them out, or call convert first"
            )

    def __call__(self, batch: Sequence[tuple[str | None, Tensor]]) -> list[Detections]:
        """Detections of pictures."""
        from sj_lowlat.evaluation.predict import each_at_its_end, predict

        fitted = [letterbox(image, self.info.size or _SIZE, self.resize) for _, image in batch]
        images, boxes = torch.stack([image for image, _ in fitted]), [box for _, box in fitted]
        counting = SpikeCount(self.network) if self.count_spikes and self.spiking else None
        start = time.perf_counter()
        with counting or nullcontext():
            reads = predict(self.network, images, boxes, self.thresholds, **self.options)
            if self.options.get("stop") is not None:
                records, steps = each_at_its_end(reads)
            else:
                *_, read = reads
                records, steps = read.detections, [read.step] * len(batch)  # type: ignore[list-item]
        milliseconds = 1000 * (time.perf_counter() - start) / len(batch)
        spikes = counting.spikes() if counting else [None] * len(batch)
        found = []
        for (path, image), record, step, count in zip(batch, records, steps, spikes, strict=True):
            record = replace(record, image=image, path=path)
            record.steps, record.milliseconds, record.spikes = step, milliseconds, count
            if self.labels is not None:
                record = record.filter(classes=self.labels)[: self.most]
            found.append(record)
        return found
