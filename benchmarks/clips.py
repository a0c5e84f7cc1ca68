"""What a simulated spike camera sees: clips of traffic and photos, and pictures for training in low light."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inputs import Part, Photos, open_photos
from numpy.typing import NDArray

from sj_lowlat.data import DetectionDataset, Sample, Target, ground_truth, moving_sequence
from sj_lowlat.spike_camera import (
    SPIKE_CLASSES,
    Camera,
    SpikeDataset,
    encode_dataset,
    encode_traffic,
    to_grey,
    to_image,
    traffic_class,
)

TRAFFIC_SIZE = 160
HOLD = 32  # steps that a drawn frame of traffic stands still, unless it is fast
DARK = {"rate_at_white": 0.05, "photons": 50.0}  # mean rates of about 2 %
Light = NDArray[np.floating]


@dataclass(frozen=True)
class Condition:
    """What is recorded.

    :param source: generated traffic, or which photos
    :param camera: what differs from the default camera
    :param speed: of photos, in pixels a frame; of traffic, drawn frames a step
    """

    label: str
    source: str
    camera: dict[str, Any] = field(default_factory=dict)
    speed: float = 0.0

    @property
    def traffic(self) -> bool:
        """Whether persons and vehicles move by themselves, else the photo as a whole."""
        return self.source == "traffic"


CONDITIONS = {
    "traffic": Condition("traffic, daylight", "traffic", speed=1 / HOLD),
    "traffic-dark": Condition("traffic, little light", "traffic", DARK, 1 / HOLD),
    "traffic-fast": Condition("traffic, daylight, fast", "traffic", speed=1.0),
    "coco": Condition("COCO photos, daylight, slow", "coco", speed=0.02),
    "coco-dark": Condition("COCO photos, little light, slow", "coco", DARK, 0.02),
    "coco-fast": Condition("COCO photos, daylight, fast", "coco", speed=0.5),
    "voc": Condition("VOC photos, daylight, slow", "voc", speed=0.02),
}


def record(name: str, data: Path, output: Path, images: int, frames: int, size: int) -> SpikeDataset:
    """Encode a condition's clips, or open them; an interrupted recording goes on.

    :param name: of :data:`CONDITIONS`
    :param data: where the photos are
    :param images: at most so many clips
    :param frames: of each clip
    :param size: longer side of photos; traffic has its own
    """
    condition = CONDITIONS[name]
    folder = output / "clips" / f"{name}-{images}-{frames}"
    if condition.traffic:
        camera = Camera(frames=frames, size=TRAFFIC_SIZE, seed=1, **condition.camera)
        return SpikeDataset(encode_traffic(images, folder, camera, round(1 / condition.speed)))
    camera = Camera(frames=frames, size=size, **condition.camera)
    photos = with_traffic(open_photos(condition.source, data), images)
    return SpikeDataset(encode_dataset(photos, Path(f"{folder}-{size}"), camera, condition.speed))


def with_traffic(photos: Photos, count: int) -> DetectionDataset:
    """Photos with a person or a vehicle that counts, evenly spaced over all such."""
    names = photos.dataset.class_names

    def counts(target: Target) -> bool:
        labels = target.labels[~(target.crowd | target.difficult)].tolist()
        return any(traffic_class(names[label]) is not None for label in labels)

    wanted = [i for i, target in enumerate(ground_truth(photos.dataset)) if counts(target)]
    return replace(photos, dataset=Part(photos.dataset, wanted)).spaced(count).dataset


def mean_rate(data: SpikeDataset) -> float:
    """Spikes a pixel and frame, in percent."""
    rates = [float(data.clip(index).stream.mean_rate().mean()) for index in range(len(data))]
    return 100 * sum(rates) / len(rates)


def count_spikes(
    charge: Light, rate: float, photons: float, frames: int, random: np.random.Generator
) -> NDArray[np.int64]:
    r"""Spikes that a pixel of a noisy spike camera fires in some frames, without going through them.

    :math:`\lfloor V(0) + \mathrm{Poisson}(p\, r \sum_t I_t) / p \rfloor`, the sum of what
    :class:`~sj_lowlat.spike_camera.SpikeEncoder` adds up: sums of Poisson numbers are Poisson numbers.

    :param charge: the light summed over the frames, ``[H, W]``
    :param rate: r, spikes a frame of a white pixel
    :param photons: p, to the threshold
    :param frames: a pixel fires at most once in each
    """
    gathered = random.poisson(photons * rate * charge) / photons
    return np.minimum(np.floor(random.random(charge.shape) + gathered), frames).astype(np.int64)


@dataclass
class DimTraffic:
    """Generated traffic as the mean of few frames of a spike camera, in many lights.

    Item ``i`` depends on (seed, i) alone: scene ``i % scenes``, at a rate and through a window of its own,
    both drawn evenly on a logarithmic scale. Things stand still for :data:`HOLD` frames, as in the clips.

    :param scenes: how many; those of ``sj-lowlat encode --data traffic``
    :param draws: pictures of each scene
    :param rates: least and highest spikes a frame of a white pixel
    :param windows: fewest and most frames around the labelled moment
    :param photons: to the threshold
    """

    scenes: int = 400
    draws: int = 60
    size: int = TRAFFIC_SIZE
    rates: tuple[float, float] = (0.04, 0.6)
    windows: tuple[int, int] = (8, 256)
    photons: float = 50.0
    seed: int = 0
    class_names: tuple[str, ...] = SPIKE_CLASSES
    drawn: dict[int, tuple[NDArray[np.uint8], Target]] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.scenes * self.draws

    def __getitem__(self, index: int) -> Sample:
        random = np.random.default_rng([self.seed, index])
        rate, window = (_between(random, *limits) for limits in (self.rates, self.windows))
        frames = round(window)
        light, target = self._scene(index % self.scenes)
        counts = count_spikes(self._charge(light, frames), rate, self.photons, frames, random)
        return Sample.of(torch.from_numpy(to_image(counts / frames, 1 / rate)), target)

    def _scene(self, number: int) -> tuple[NDArray[np.uint8], Target]:
        """A scene's drawn frames, grey ``[F, H, W]``, and its boxes at the beginning of the middle one."""
        if number not in self.drawn:
            middle = -(-self.windows[1] // 2 // HOLD)
            sequence = moving_sequence(number, 2 * middle, self.size)
            names = [sequence.class_names[label] for label in sequence.labels[middle].tolist()]
            labels = {i: found for i, name in enumerate(names) if (found := traffic_class(name)) is not None}
            none = torch.zeros(len(labels), dtype=torch.bool)
            boxes, classes = sequence.boxes[middle][[*labels]], torch.tensor([*labels.values()]).long()
            target = Target(boxes, classes, none, none.clone(), number)
            grey = np.rint(255 * to_grey(sequence.frames)).astype(np.uint8)  # kept: 0.2 MB a scene
            self.drawn[number] = grey, target
        return self.drawn[number]

    def _charge(self, light: NDArray[np.uint8], frames: int) -> Light:
        """The light of the window's frames, summed up, ``[H, W]``."""
        start = len(light) * HOLD // 2 - frames // 2
        shown = np.bincount(np.arange(start, start + frames) // HOLD, minlength=len(light))
        return np.tensordot(shown / 255, light, 1)


def _between(random: np.random.Generator, low: float, high: float) -> float:
    """A number, even on a logarithmic scale."""
    return math.exp(random.uniform(math.log(low), math.log(high)))
