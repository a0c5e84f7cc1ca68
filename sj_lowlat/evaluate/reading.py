"""From networks to detections in pixels of the original images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from sj_lowlat.data import Letterbox
from sj_lowlat.detect import Detections, HeadSpec, detections_from_maps
from sj_lowlat.simulate import Readout


@torch.no_grad()
def run_ann(model: nn.Module, images: torch.Tensor) -> Any:
    training = model.training
    try:
        return model.eval()(images)
    finally:
        model.train(training)


def each_at_its_end(
    run: Iterable[Readout],
    specs: Sequence[HeadSpec],
    boxes: Sequence[Letterbox],
    thresholds: tuple[float, float, int],
) -> tuple[list[Detections], list[int]]:
    """Detections of every image at the read-out where it is done, or at the last one; and these steps."""
    records: dict[int, Detections] = {}
    ends: dict[int, int] = {}
    for read in run:
        going_on = [image for image in range(len(boxes)) if image not in ends]
        found = back(read.outputs, specs, boxes, thresholds)
        records.update({image: found[image] for image in going_on})
        ends.update({image: read.step for image in going_on if read.done[image]})
    return [records[image] for image in range(len(boxes))], [
        ends.get(image, read.step) for image in range(len(boxes))
    ]


def back(
    maps: Any, specs: Sequence[HeadSpec], boxes: Sequence[Letterbox], thresholds: tuple[float, float, int]
) -> list[Detections]:
    """Head maps -> detections in pixels of the original images."""
    found = detections_from_maps(maps, specs, *thresholds)
    return [
        Detections(box.to_image(each.boxes.cpu()), each.scores.cpu(), each.labels.cpu())
        for each, box in zip(found, boxes, strict=True)
    ]
