"""One picture through a spiking network, with everything watched that a report shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sj_lowlat.data import letterbox
from sj_lowlat.detect import Detections, draw
from sj_lowlat.encoders import Encoder
from sj_lowlat.errors import InputError
from sj_lowlat.evaluation.predict import predict
from sj_lowlat.monitors import SpikeRecorder, SynOpMonitor
from sj_lowlat.network import info_of
from sj_lowlat.schedule import Schedule


@dataclass(frozen=True)
class Reading:
    """One picture after a number of steps.

    :param step: steps in all, flush included
    :param detections: boxes in pixels of the picture
    :param spikes: of all neurons since the first step, whatever their sign; a burst of n counts n
    :param synops: accumulates that spikes caused since the first step
    :param macs: multiply-accumulates for analog input since the first step
    """

    step: int
    detections: Detections
    spikes: int
    synops: int
    macs: int


@dataclass(frozen=True)
class PictureRun:
    """What a spiking detector did for one picture.

    :param name: of the picture
    :param image: uint8 ``[3, H, W]``
    :param readings: at the steps that were asked for, ascending
    :param spikes: what its layers did in every step
    :param class_names: of the detector
    """

    name: str
    image: Tensor
    readings: tuple[Reading, ...]
    spikes: SpikeRecorder
    class_names: tuple[str, ...]

    def drawn(self, steps: Sequence[int] = (1, 2, 3, 6), min_score: float = 0.25) -> list[tuple[int, Tensor]]:
        """The picture with the boxes of some steps, those of ``steps`` that were read, and the last one.

        :return: (step, uint8 ``[3, H, W]``) pairs
        """
        last = self.readings[-1].step
        chosen = [reading for reading in self.readings if reading.step in steps or reading.step == last]
        return [
            (reading.step, draw(self.image, reading.detections, self.class_names, min_score=min_score))
            for reading in chosen
        ]


def shown_steps(schedule: Schedule, most: int = 12) -> tuple[int, ...]:
    """Steps of a schedule to look at: all of them, or the first six and others in growing strides.

    :param most: steps, at least 8
    """
    first, total = schedule.before + 1, schedule.total
    if total - first < most:
        return tuple(range(first, total + 1))
    early = range(first, first + 6)
    later = torch.logspace(0, 1, most - 5, base=(total - first + 1) / 6, dtype=torch.float64)[1:]
    return tuple(sorted({*early, *(first - 1 + round(6 * float(factor)) for factor in later)}))


def watch_picture(
    snn: nn.Module,
    image: Tensor,
    schedule: Schedule,
    *,
    name: str = "picture",
    steps: Sequence[int] | None = None,
    encoder: str | Encoder = "constant",
    seed: int = 0,
    min_score: float = 0.25,
    resize: str = "letterbox",
) -> PictureRun:
    """Run a spiking detector on a picture, and keep its spikes and its detections step by step.

    :param image: uint8 ``[3, H, W]``, of any size
    :param schedule: how the network is run, without pre-steps
    :param name: of the picture
    :param steps: at which detections are read; by default those of :func:`shown_steps`
    :param encoder: as of :func:`~sj_lowlat.simulation.simulate`, like ``seed``
    :param min_score: detections below this score are left out
    :param resize: as of :func:`~sj_lowlat.data.letterbox`
    :raises InputError: for a network that is no spiking detector, or what ``simulate`` refuses
    """
    info = info_of(snn)
    if schedule.pre:
        raise InputError(f"the schedule {schedule} has pre-steps, which cannot be watched: give one without")
    x, box = letterbox(image, info.size or 416, resize)
    steps = shown_steps(schedule) if steps is None else steps
    readings = []
    with SpikeRecorder(snn) as spikes, SynOpMonitor(snn) as operations:
        reads = predict(
            snn,
            x[None],
            [box],
            (min_score, 0.45, 100),
            schedule=schedule,
            readout=steps,
            encoder=encoder,
            seed=seed,
            chunk=1,  # potentials are known behind a pass
        )
        for read in reads:
            assert read.step is not None
            so_far = sum(spikes.spikes_per_step())
            readings.append(
                Reading(read.step, read.detections[0], so_far, operations.synops, operations.macs)
            )
    return PictureRun(name, image, tuple(readings), spikes, tuple(info.class_names))
