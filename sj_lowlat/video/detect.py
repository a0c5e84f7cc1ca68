"""Detection in videos: an answer for every frame, and only changes are sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from sj_lowlat.data import Letterbox, letterbox
from sj_lowlat.detect import Detections, detections_from_maps
from sj_lowlat.errors import InputError
from sj_lowlat.evaluation.energy import AC_PJ, MAC_PJ
from sj_lowlat.network import info_of, schedule_for
from sj_lowlat.schedule import Schedule, whole
from sj_lowlat.video.carry import CarriedRun, Usage
from sj_lowlat.video.changes import DeadZone, is_cut

__all__ = ["FrameDetections", "detect_video"]


@dataclass(frozen=True)
class FrameDetections:
    """What was found in a frame, and what it cost.

    :param frame: number of the frame, from 0
    :param detections: boxes in pixels of the frame
    :param steps: time steps that the frame took
    :param fresh: whether the run started anew with it
    :param milliseconds: time that it took, decoding of the video left out
    :param spikes: spikes per neuron, a burst of n counts n
    :param events: spikes per neuron, a burst counts one
    :param energy: energy of the arithmetic, as a share of the ANN's for one frame (45 nm, 32 bit, see
        :class:`~sj_lowlat.evaluation.EnergyReport`; of the first layer the changed pixels count); 0 if
        operations were not counted
    """

    frame: int
    detections: Detections
    steps: int
    fresh: bool
    milliseconds: float
    spikes: float
    events: float
    energy: float


def detect_video(
    snn: nn.Module,
    frames: Iterable[Tensor | None],
    *,
    steps_per_frame: int = 2,
    start_steps: int | None = None,
    carry: bool = True,
    dead_zone: DeadZone | float = 0.0,
    cut: float | None = 1.0,
    rederive_every: int = 1000,
    score_threshold: float = 0.25,
    resize: str = "letterbox",
    operations: bool = True,
    schedule: Schedule | str | int | None = None,
    **changes: int | None,
) -> Iterator[FrameDetections]:
    """Run a spiking detector along a video, its state carried over from frame to frame.

    The input of a frame is what changed since the one before (:class:`~sj_lowlat.video.CarriedRun`), so where
    nothing moves, nothing is sent. A network takes one video at a time: give each camera a copy
    (``copy.deepcopy``). Memory is constant, whatever the number of frames.

    :param snn: a detector from :func:`~sj_lowlat.conversion.convert`, of one or three input channels
    :param frames: uint8 ``[3, H, W]``, such as :func:`~sj_lowlat.video.open_frames` gives; ``None`` for a
        frame that was lost, at which the network settles further
    :param steps_per_frame: time steps of a frame; 1 to 4 are usual
    :param start_steps: of a frame with which the run starts anew; by default as many as the schedule has
    :param carry: ``False`` starts anew with every frame, each of ``steps_per_frame`` steps, to compare with
    :param dead_zone: changes that are not sent yet, or a threshold for single pixels
    :param cut: start anew where the change of the picture is more than ``cut`` times its contrast
        (:func:`~sj_lowlat.video.is_cut`); ``None`` for never
    :param rederive_every: frames after which potentials are computed anew, which bounds their rounding
    :param score_threshold: detections score more than this
    :param resize: how frames fit the network's square input, see :func:`~sj_lowlat.data.letterbox`
    :param operations: whether to count operations, for the energy
    :param schedule: of which charge, burst and, for ``start_steps``, steps count; by default the
        network's own
    :param changes: overrides of single fields of the schedule, such as ``burst=8``
    :return: one record a frame, as soon as it is known; frames lost before the first one have none
    :raises InputError: for a network or numbers that are not possible
    """
    info, plan = info_of(snn), schedule_for(snn, schedule, **changes)
    if not info.heads or info.size is None or info.input_shape is None:
        raise InputError("detect_video needs a detector with known heads and input: see convert")
    start = plan.total if start_steps is None else start_steps
    zone = dead_zone if isinstance(dead_zone, DeadZone) else DeadZone(dead_zone)
    for name, value in {
        "steps_per_frame": steps_per_frame,
        "start_steps": start,
        "rederive_every": rederive_every,
    }.items():
        whole(name, value, 1, "for instance 2")
    if cut is not None and not cut > 0:
        raise InputError(f"cut is {cut}, it must be above 0, such as 1.0, or None to never start anew")
    run = CarriedRun(snn, plan, operations)
    fit = _Fit(info.size, info.input_shape[0], resize)

    def answers() -> Iterator[FrameDetections]:
        sent: Tensor | None = None
        box: Letterbox | None = None
        with run:
            for number, frame in enumerate(frames):
                began = perf_counter()
                fresh = False
                if frame is not None:
                    before = box
                    image, box = fit(frame)
                    # borders of the letterbox change with the size of the frames
                    fresh = sent is None or not carry or box != before
                    fresh = fresh or (cut is not None and is_cut(sent, image, cut))  # type: ignore[arg-type]
                    sent = image if fresh or sent is None else zone.update(sent, image)
                    steps = start if fresh and carry else steps_per_frame
                    outputs = run.show(sent, steps, fresh)
                elif box is None:
                    continue
                else:
                    outputs = run.settle(steps_per_frame)
                usage = run.take_usage()
                found = detections_from_maps(outputs, info.heads, score_threshold)[0].to("cpu")
                found = Detections(
                    box.to_image(found.boxes), found.scores, found.labels, tuple(info.class_names)
                )
                if carry and number % rederive_every == rederive_every - 1:
                    run.rederive()
                took = 1000 * (perf_counter() - began)
                yield FrameDetections(number, found, usage.steps, fresh, took, *_shares(usage))

    return answers()


def _shares(usage: Usage) -> tuple[float, float, float]:
    """Spikes and events per neuron, and energy over that of the ANN."""
    neurons, ann = max(usage.neurons, 1), usage.ann_macs * MAC_PJ
    energy = usage.macs * MAC_PJ + usage.acs * AC_PJ
    return usage.spikes / neurons, usage.events / neurons, energy / ann if ann else 0.0


class _Fit:
    """Frames into the network's input, ``[1, C, S, S]``."""

    def __init__(self, size: int, channels: int, resize: str) -> None:
        self.size, self.channels, self.resize = size, channels, resize

    def __call__(self, frame: Any) -> tuple[Tensor, Letterbox]:
        image, box = letterbox(frame, self.size, self.resize)
        if self.channels == 1:  # BT.601, as Pillow's grey
            image = (image * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0, keepdim=True)
        return image[None], box
