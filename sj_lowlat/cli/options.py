"""Options that verbs share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sj_lowlat.errors import InputError
from sj_lowlat.schedule import Schedule

if TYPE_CHECKING:
    from torch import nn

    from sj_lowlat.detect import Detections


@dataclass(frozen=True)
class RunOptions:
    """How a network is opened and run.

    :param schedule: how many time steps a spiking network runs: 4+2b4 is 4 steps with the picture, 2 more
        without it (flush), and up to 4 spikes of a neuron in a step (burst); 16+0p8 begins with 8 pre-steps,
        for neurons that correct their start (p8x3: three rounds of them);
        by default the network's own, else as many steps as it has levels
    :param time_steps: steps with the picture, instead of the schedule's
    :param flush: steps without the picture, in which spikes settle, instead of the schedule's
    :param levels: how finely the network was quantised (16 for the one that ships): the steps with the
        picture bring the charge of so many steps; by default the schedule's, else the network's levels
    :param burst: most spikes of a neuron in one step, instead of the schedule's
    :param encoder: how a picture comes in: constant (the same current in each step) or poisson (random
        spikes)
    :param seed: random seed (Poisson encoder, fresh weights)
    :param device: where to compute: auto (a GPU where there is one), cpu, cuda, cuda:1, ...
    """

    schedule: str | None = None
    time_steps: int | None = None
    flush: int | None = None
    levels: int | None = None
    burst: int | None = None
    encoder: Literal["constant", "poisson"] = "constant"
    seed: int = 0
    device: str = "auto"

    def open(self, model: str) -> tuple[nn.Module, Schedule | None]:
        """The network that a word names, and the schedule of its run: None if it is not spiking.

        :raises InputError: if a value is not possible, or given for a network that is not spiking
        """
        from sj_lowlat.layers import is_spiking
        from sj_lowlat.network import info_of, schedule_for
        from sj_lowlat.zoo import open_network

        network = open_network(model, spiking=True, seed=self.seed, device=self.device)
        given = {name: getattr(self, name) for name in ("time_steps", "flush", "levels", "burst")}
        changes = {name: value for name, value in given.items() if value is not None}
        if is_spiking(network):
            info = info_of(network)
            own = info.schedule if self.schedule is None else Schedule.parse(self.schedule)
            if own is None:
                changes = {"time_steps": info.levels, **changes}
            return network, schedule_for(network, own, **changes)
        if self.schedule is not None or changes:
            options = "schedule, time_steps, flush, levels and burst"
            raise InputError(f"{options} are for spiking networks: leave them out, or run convert first")
        return network, None


@dataclass(frozen=True)
class FindOptions:
    """What counts as found.

    :param min_score: minimum score to keep a detection, in [0, 1]
    :param classes: only these classes, by name or index, such as person,traffic light
    :param iou: overlap (intersection over union) above which the lower of two scores of a class goes
    :param max_detections: most detections in a picture, the best ones
    """

    min_score: float = 0.25
    classes: str | None = None
    iou: float = 0.45
    max_detections: int = 100

    def check(self) -> None:
        """Refuse scores that cannot be.

        :raises InputError: naming the value
        """
        if not 0 <= self.min_score <= 1:
            raise InputError(f"min_score is {self.min_score}; give a score in [0, 1]")

    def of_frames(self, found: Detections) -> Detections:
        """What counts among the detections of a frame of a video or a spike stream.

        :raises InputError: for another ``iou`` than the usual one, which is for pictures
        """
        if self.iou != FindOptions.iou:
            raise InputError(
                f"iou is {self.iou}; videos and spike streams take {FindOptions.iou}: leave it out"
            )
        classes = self.to_detect()["classes"]
        return found.filter(classes=classes)[: self.max_detections]

    def to_detect(self) -> dict[str, Any]:
        """Arguments of :meth:`~sj_lowlat.detector.Detector.detect`."""
        classes = None if self.classes is None else self.classes.split(",")
        return {**asdict(self), "classes": classes}


@dataclass(frozen=True)
class PrintOptions:
    """What is printed.

    :param json: results as JSON, one object a line, on standard output, and all else on standard error
    :param quiet: print nothing but errors (and JSON, where it is asked for)
    """

    json: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class StreamOptions:
    """How spike streams are read.

    :param height: rows of a .dat stream; by default 250
    :param width: columns of a .dat stream; by default 400
    :param columns: stored columns of a .dat stream, where the recorder pads rows (416 for 400)
    :param frame_rate: of a stream, in Hz
    :param window: frames of a stream that detections are computed from; more where there is little light,
        fewer where objects move fast
    :param every: frames of a stream between detections
    :param rate_at_white: spikes a frame of a white pixel; by default estimated from the stream
    """

    height: int | None = None
    width: int | None = None
    columns: int | None = None
    frame_rate: float = 20000.0
    window: int = 32
    every: int = 16
    rate_at_white: float | None = None


def check_output(output: Path, *sources: str | None) -> None:
    """Refuse to write results over what they are made from."""
    if any(source and Path(source).resolve() == output.resolve() for source in sources):
        raise InputError(f"output is {output}, which the command reads from: give another folder")


def finer_factors(text: str | None) -> dict[str, int]:
    """``"layers.0.act=4,layers.2.act=4"`` -> factors."""
    pairs = [part.split("=") for part in text.split(",")] if text else []
    try:
        factors = {name.strip(): int(factor) for name, factor in pairs}
    except ValueError:
        factors = {}
    if len(factors) < len(pairs):
        raise InputError(
            f"finer is {text!r:.200}; give factors such as layers.0.act=4,layers.2.act=4, each name once"
        )
    return factors
