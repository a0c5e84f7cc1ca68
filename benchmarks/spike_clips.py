"""The clips of Table 3: generated traffic and photos before a simulated spike camera."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from inputs import Part, Photos, coco_photos, voc_photos

from sj_lowlat.data import DetectionDataset
from sj_lowlat.data.sample import Target, ground_truth
from sj_lowlat.spike_camera import Camera, SpikeDataset, encode_dataset, encode_traffic, traffic_class

TRAFFIC_SIZE = 160
HOLD = 32  # steps that a drawn frame of traffic stands still, unless it is fast
DARK = {"rate_at_white": 0.05, "photons": 50.0}  # mean rates of about 2 %
PHOTOS: dict[str, Callable[[Path], Photos]] = {"coco": coco_photos, "voc": voc_photos}


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
    photos = with_traffic(PHOTOS[condition.source](data), images)
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
