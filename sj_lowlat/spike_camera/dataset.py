"""Spike streams with boxes: COCO's JSON beside one stream file for each clip."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sj_lowlat.data import CocoDataset, Sample, Target
from sj_lowlat.errors import InputError
from sj_lowlat.spike_camera.files import open_stream
from sj_lowlat.spike_camera.reconstruct import tfp, to_image
from sj_lowlat.spike_camera.stream import SpikeStream

__all__ = ["SPIKE_CLASSES", "SpikeDataset", "SpikeSample", "as_traffic", "traffic_class"]

#: what spike data sets tell apart
SPIKE_CLASSES = ("person", "vehicle")

_VEHICLES = frozenset(["bicycle", "car", "motorbike", "motorcycle", "bus", "truck", "train"])


def _whole(value: Any, least: int = 1) -> bool:
    return type(value) is int and value >= least


def _positive(value: Any, most: float = math.inf) -> bool:
    return type(value) in (int, float) and 0 < value <= most and math.isfinite(value)


#: field of an image -> whether a value can be
_FITS: dict[str, Callable[[Any], bool]] = {
    "width": _whole,
    "height": _whole,
    "frames": _whole,
    "frame": partial(_whole, least=0),
    "frame_rate": _positive,
    "rate_at_white": partial(_positive, most=1.0),
}


def traffic_class(name: str) -> int | None:
    """Index in :data:`SPIKE_CLASSES` of a class of COCO, VOC or the generated traffic; None for others."""
    if name in SPIKE_CLASSES:
        return SPIKE_CLASSES.index(name)
    return 1 if name in _VEHICLES else None


def as_traffic(target: Target, class_names: Sequence[str]) -> Target:
    """A target's persons and vehicles; ``class_names`` are those of its labels."""
    classes = [traffic_class(class_names[label]) for label in target.labels.tolist()]
    kept = torch.tensor([found is not None for found in classes], dtype=torch.bool)
    labels = torch.tensor([found for found in classes if found is not None], dtype=torch.int64)
    return Target(target.boxes[kept], labels, target.crowd[kept], target.difficult[kept], target.image_id)


@dataclass(frozen=True)
class SpikeSample:
    """A clip of a spike camera and what is in it at one of its frames.

    :param frame: number of the frame at which the boxes hold
    :param target: boxes in pixels of the stream, labels in :data:`SPIKE_CLASSES`
    :param rate_at_white: spikes a frame of a white pixel
    """

    stream: SpikeStream
    frame: int
    target: Target
    rate_at_white: float


class SpikeDataset:
    """Clips of a spike camera with boxes.

    The JSON is COCO's; an image's ``file_name`` is a stream, and it has four more fields: ``frames``,
    ``frame`` (at which the boxes hold), ``frame_rate`` in Hz, and ``rate_at_white``. ``dataset[i]`` is a grey
    picture, the mean of the frames around the labelled one.

    :param streams: the folder of the JSON's ``file_name`` entries; by default that of the JSON
    :param window: frames that a picture is made of, odd; by default as many as lie evenly around the label
    :raises FileNotFoundError: if a file is missing
    :raises InputError: if the JSON is not that of a spike data set
    """

    class_names: tuple[str, ...] = SPIKE_CLASSES

    def __init__(
        self, annotations: str | Path, streams: str | Path | None = None, window: int | None = None
    ) -> None:
        self.records = CocoDataset(annotations, Path(annotations).parent if streams is None else streams)
        self.window = window
        for record in self.records.images:
            missing = [name for name in _FITS if name not in record]
            wrong = [
                f"{name} {record[name]!r:.50}"
                for name, fits in _FITS.items()
                if name in record and not fits(record[name])
            ]
            if missing or wrong:
                what = f"no {', '.join(missing)}" if missing else ", ".join(wrong)
                raise InputError(
                    f"{annotations}: image {record['id']} has {what}: give a spike data set such as "
                    "sj-lowlat encode writes"
                )
            if record["frame"] >= record["frames"]:
                raise InputError(
                    f"{annotations}: image {record['id']} has boxes at frame {record['frame']} of "
                    f"{record['frames']}, counted from 0: correct it"
                )
        if self.records.class_names != SPIKE_CLASSES:
            raise InputError(
                f"{annotations} has the classes {', '.join(self.records.class_names)}, a spike data set has "
                f"{', '.join(SPIKE_CLASSES)}"
            )

    def __len__(self) -> int:
        return len(self.records)

    def target(self, index: int) -> Target:
        """What is in a clip at its labelled frame; the clip is not read."""
        return self.records.target(index)

    def clip(self, index: int) -> SpikeSample:
        """A clip, whose planes are read when asked for.

        :raises InputError: if the stream is not what the JSON says
        """
        record = self.records.images[index]
        path = self.records.file(record)
        size = {"height": record["height"], "width": record["width"]} if path.suffix == ".dat" else {}
        stream = open_stream(path, **size, frame_rate=record["frame_rate"])
        shape = (record["frames"], record["height"], record["width"])
        if stream.shape != shape:
            raise InputError(f"{path} holds frames, height, width of {stream.shape}, its JSON says {shape}")
        return SpikeSample(stream, record["frame"], self.target(index), record["rate_at_white"])

    def picture(self, index: int, rebuild: Callable[[SpikeSample], Any]) -> Sample:
        """A clip as a grey picture.

        :param rebuild: gives rates ``[H, W]`` in spikes a frame, e.g. :func:`~sj_lowlat.spike_camera.tfi`
        """
        clip = self.clip(index)
        image = torch.from_numpy(to_image(rebuild(clip), 1 / clip.rate_at_white))
        return Sample.of(image, clip.target)

    def __getitem__(self, index: int) -> Sample:
        """A clip as a grey picture, three equal channels, by :func:`~sj_lowlat.spike_camera.tfp`."""
        return self.picture(index, self._mean)

    def _mean(self, clip: SpikeSample) -> Any:
        around = 2 * min(clip.frame, len(clip.stream) - 1 - clip.frame) + 1
        length = around if self.window is None else self.window
        return tfp(clip.stream.window(clip.frame, length).planes(), length // 2, length)

    def subset(self, indices: Sequence[int]) -> SpikeDataset:
        """The same data set with only the clips at ``indices``."""
        part = copy(self)
        part.records = self.records.subset(indices)
        return part
