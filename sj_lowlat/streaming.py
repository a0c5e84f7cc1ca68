"""Detection on endless spike streams: the state is carried over, detections come every few frames."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace

import torch
from torch import nn

from sj_lowlat.detect import Detections, detections_from_maps
from sj_lowlat.encoders import SlidingPlanes
from sj_lowlat.errors import InputError
from sj_lowlat.layers import SignedIFNode
from sj_lowlat.network import info_of, schedule_for
from sj_lowlat.schedule import Schedule
from sj_lowlat.simulation import simulate_steps
from sj_lowlat.spike_camera import SpikeStream

_SAMPLE = 400  # frames of a stream from which its brightness is taken


@dataclass(frozen=True)
class StreamDetections:
    """What was found after so many ``frames`` (``milliseconds`` in camera time); boxes in stream pixels."""

    frames: int
    milliseconds: float
    detections: Detections


def white_rate(stream: SpikeStream) -> float:
    """Spikes a frame of a white pixel, guessed: the 99.5th percentile of the first frames' rates."""
    rates = torch.from_numpy(stream.mean_rate(0, min(len(stream), _SAMPLE)))
    return max(float(rates.flatten().kthvalue(max(1, round(0.995 * rates.numel()))).values), 1e-3)


def detect_stream(
    snn: nn.Module,
    stream: SpikeStream,
    *,
    window: int = 32,
    every: int = 16,
    rate_at_white: float | None = None,
    schedule: Schedule | str | int | None = None,
    score_threshold: float = 0.25,
    **changes: int | None,
) -> Iterator[StreamDetections]:
    """Run a spiking network of signed neurons along a stream, without ever resetting it.

    Sliding window: at each step a frame is added and the one that leaves the window subtracted
    (:class:`~sj_lowlat.encoders.SlidingPlanes`); signed neurons follow. So every answer is that of the last
    ``window`` frames, as far as the counts have settled, which takes about as many steps as there are layers.
    A network takes one stream at a time: give each camera a copy (``copy.deepcopy``).

    :param snn: a detector from :func:`~sj_lowlat.conversion.convert`, of one or three input channels
    :param stream: its sides are filled up to multiples of the network's stride
    :param window: frames that an answer is made from; more in little light, fewer where things are fast
    :param every: frames from one answer to the next; the first comes when a window is full
    :param rate_at_white: spikes a frame of a white pixel; guessed by :func:`white_rate` if not given
    :param schedule: of which burst and charge count; the network's own by default
    :param score_threshold: detections score more than this
    :param changes: overrides of single fields of the schedule, such as ``burst=4``
    :return: the answers, as soon as they are known
    :raises InputError: for a stream shorter than the window, or neurons that cannot take spikes back
    """
    neurons = [module for module in snn.modules() if isinstance(module, SignedIFNode)]
    info = info_of(snn)
    if not neurons or not info.heads or info.input_shape is None:
        raise InputError("detect_stream needs a detector of signed neurons: convert(network) makes one")
    if not 1 <= window <= len(stream) or every < 1:
        raise InputError(
            f"window {window} and every {every} came for {len(stream)} frames: give a window of 1 to "
            "as many frames, and 1 or more frames between answers"
        )
    channels, stride = info.input_shape[0], info.stride
    height, width = (-(-side // stride) * stride for side in stream.shape[1:])
    blank = torch.zeros(1, channels, height, width)
    rate = white_rate(stream) if rate_at_white is None else rate_at_white
    run = simulate_steps(
        snn,
        blank,
        replace(schedule_for(snn, schedule, **changes), time_steps=window, flush=len(stream) - window),
        readout=range(window, len(stream) + 1, every),
        encoder=SlidingPlanes([stream], window, min(rate, 1.0)),
    )
    limits = torch.tensor([*stream.shape[:0:-1]] * 2)  # width, height, width, height
    with closing(run):
        for read in run:
            found = detections_from_maps(read.outputs, info.heads, score_threshold)[0].to("cpu")
            found = replace(found, boxes=found.boxes.clamp(min=0).minimum(limits), names=info.class_names)
            yield StreamDetections(read.step, 1000 * read.step / stream.frame_rate, found)
