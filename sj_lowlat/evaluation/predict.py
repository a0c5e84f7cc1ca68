"""From images to detections in pixels of the pictures that they come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from sj_lowlat.data import Letterbox
from sj_lowlat.detect import Detections, detections_from_maps
from sj_lowlat.layers import is_spiking
from sj_lowlat.network import heads_of, info_of
from sj_lowlat.record import evaluating
from sj_lowlat.simulation import simulate_steps


class Prediction(NamedTuple):
    """What was found at one read-out.

    :param step: steps in all, flush included; ``None`` for a network that is not spiking
    :param detections: one record an image
    :param done: of a run that may stop early: which images' detections are stable
    """

    step: int | None
    detections: list[Detections]
    done: tuple[bool, ...] = ()


@torch.no_grad()
def predict(
    model: nn.Module,
    images: torch.Tensor,
    boxes: Sequence[Letterbox],
    thresholds: tuple[float, float, int] = (0.005, 0.45, 100),
    **run: Any,
) -> Iterator[Prediction]:
    """Run a detector, spiking or not, on a batch, and decode its head maps.

    :param images: ``[N, C, S, S]`` in [0, 1]
    :param boxes: the letterbox of each image in the network's input
    :param thresholds: least score, overlap of the non-maximum suppression, most detections an image
    :param run: arguments of :func:`~sj_lowlat.simulation.simulate_steps`, for a spiking network
    :return: one prediction a read-out, as soon as it is known; boxes in pixels of the original pictures
    """
    specs, names, parameter = heads_of(model), info_of(model).class_names, next(model.parameters())
    images = images.to(device=parameter.device, dtype=parameter.dtype)

    def decoded(maps: Any) -> list[Detections]:
        found = detections_from_maps(maps, specs, *thresholds)
        return [
            Detections(box.to_image(each.boxes.cpu()), each.scores.cpu(), each.labels.cpu(), names)
            for each, box in zip(found, boxes, strict=True)
        ]

    if not is_spiking(model):
        with evaluating(model):
            maps = model(images)
        yield Prediction(None, decoded(maps))
        return
    for read in simulate_steps(model, images, **run):
        yield Prediction(read.step, decoded(read.outputs), read.done)


def each_at_its_end(reads: Iterator[Prediction]) -> tuple[list[Detections], list[int]]:
    """Detections of every image at the read-out where it is done, or at the last one; and these steps."""
    found: list[tuple[Detections, int, bool]] = []
    for read in reads:
        assert read.step is not None
        new = [(record, read.step, done) for record, done in zip(read.detections, read.done, strict=True)]
        found = [old if old[2] else now for old, now in zip(found or new, new, strict=True)]
    return [record for record, _, _ in found], [step for _, step, _ in found]
