"""mAP50 of a network while it trains, on a few pictures."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sj_lowlat.conversion import convert
from sj_lowlat.data import DetectionDataset, Part, collate, spaced
from sj_lowlat.data.sample import Sample, ground_truth
from sj_lowlat.detect import Detections
from sj_lowlat.errors import InputError
from sj_lowlat.evaluation.ap import scored_labels
from sj_lowlat.evaluation.predict import predict
from sj_lowlat.evaluation.protocols import class_map_of, score
from sj_lowlat.network import info_of
from sj_lowlat.schedule import Schedule

_BATCH = 8


class Validator:
    """mAP50 (COCO's) of a network on pictures from all over a data set: ``score`` of a
    :class:`~sj_lowlat.training.Validation`.

    Classes are matched by name. In pictures that cannot be read nothing is found.

    :param network: that will be trained
    :param images: number of pictures, evenly spaced; 0 for all
    :param size: side of the network's input in pixels, by default the network's
    :param schedule: score the spiking network that a Quant ANN is converted to, at this schedule: what a
        training with the same ``schedule`` (:class:`~sj_lowlat.training.FinetuneConfig`) is for
    :param neuron: of that spiking network
    :raises InputError: if ``images`` is negative, ``schedule`` is not a schedule, or the pictures have no
        object of the network's classes
    """

    def __init__(
        self,
        network: nn.Module,
        dataset: DetectionDataset,
        images: int = 100,
        size: int | None = None,
        schedule: str | None = None,
        neuron: str = "signed",
    ) -> None:
        if images < 0:
            raise InputError(f"{images} pictures to validate on came: give 1 or more, or 0 for all")
        self.data = Part(dataset, spaced(len(dataset), images or len(dataset)))
        self.size = int(size or info_of(network).size or 416)
        self.run: dict[str, Any] = {} if schedule is None else {"schedule": Schedule.parse(schedule)}
        self.neuron = neuron
        self.class_map = class_map_of(network, dataset)
        scored_labels(ground_truth(self.data), len(dataset.class_names), self.class_map)

    def __len__(self) -> int:
        return len(self.data)

    def __call__(self, network: nn.Module) -> float:
        """mAP50, a fraction."""
        network = convert(network, neuron=self.neuron) if self.run else network
        found: list[Detections] = []
        for first in range(0, len(self.data), _BATCH):
            places = range(first, min(first + _BATCH, len(self.data)))
            samples = {place: sample for place in places if (sample := self._read(place)) is not None}
            seen = iter(self._detect(network, list(samples.values())))
            found += [next(seen) if place in samples else _NOTHING for place in places]
        return score(self.data, found, class_map=self.class_map).map50

    def _detect(self, network: nn.Module, samples: list[Sample]) -> list[Detections]:
        if not samples:
            return []
        images, boxes, _ = collate(samples, self.size)
        return next(predict(network, images, boxes, **self.run)).detections

    def _read(self, place: int) -> Sample | None:
        try:
            return self.data[place]
        except (InputError, OSError):
            return None


_NOTHING = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
