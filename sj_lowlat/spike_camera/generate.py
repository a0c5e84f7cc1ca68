"""Spike data sets from photographs that move, and from generated traffic."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from sj_lowlat.data import DetectionDataset, Target, moving_sequence
from sj_lowlat.errors import InputError
from sj_lowlat.files import write_json
from sj_lowlat.progress import one_run
from sj_lowlat.spike_camera.dataset import SPIKE_CLASSES, as_traffic
from sj_lowlat.spike_camera.encode import SpikeEncoder
from sj_lowlat.spike_camera.files import write_stream
from sj_lowlat.spike_camera.motion import Motion, moving_views, sequence_frames
from sj_lowlat.spike_camera.stream import SpikeStream

__all__ = ["Camera", "encode_dataset", "encode_traffic"]

_MULTIPLE = 8  # sides are multiples of it: .dat files hold whole bytes

# a clip's target, height and width, and light [T, H, W] in blocks
_Clip = tuple[Target, Sequence[int], Iterable[npt.NDArray[np.float32]]]


@dataclass(frozen=True)
class Camera:
    """How scenes are recorded.

    :param frames: of each clip; the boxes hold at frame ``frames // 2``
    :param size: longer side in pixels; the other keeps the aspect ratio, both to multiples of 8
    :param rate_at_white: spikes a frame of a white pixel, in (0, 1]
    :param photons: to the threshold, for shot noise; None for none
    :param frame_rate: in Hz, noted in the data set
    :param seed: of each pixel's start, of the noise and of the directions of motion
    :raises InputError: for fewer than 2 frames or a size below 32
    """

    frames: int = 256
    size: int = 416
    rate_at_white: float = 0.6
    photons: float | None = None
    frame_rate: float = 20000.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.frames < 2 or self.size < 32:
            raise InputError(
                f"frames {self.frames} and size {self.size} came: give at least 2 frames of 32 px"
            )


def encode_dataset(
    data: DetectionDataset,
    folder: str | Path,
    camera: Camera | None = None,
    speed: float = 0.0,
    shake: float = 0.0,
) -> Path:
    """Record every picture of a data set with a simulated spike camera: grey, moving as a whole.

    Each clip pans in a direction of its own, and is the picture itself at the labelled frame. Persons and
    vehicles keep their boxes. The same call resumes an interrupted one.

    :param folder: gets ``streams/*.dat`` and, when all are there, ``instances.json``
    :param camera: default: ``Camera()``
    :param speed: of the pan, px a frame
    :param shake: see :class:`~sj_lowlat.spike_camera.Motion`, px
    :return: the JSON
    :raises InputError: if a value cannot be, the folder was begun otherwise, or another run writes to it
    :raises OSError: if the folder cannot be written, or is removed meanwhile
    """
    camera = camera or Camera()
    if not speed >= 0 or not math.isfinite(speed):
        raise InputError(f"speed {speed} came: give px a frame, 0 or more")

    def clips() -> Iterator[_Clip]:
        for index in range(len(data)):
            sample = data[index]
            image, boxes = _resized(sample.image, sample.boxes, camera.size)
            angle = np.random.default_rng([camera.seed, index]).uniform(0, 2 * math.pi)
            pan = (speed * math.cos(angle), speed * math.sin(angle))
            motion = Motion(pan, shake=shake, seed=camera.seed + index)
            view = moving_views(image.numpy(), boxes.numpy(), motion, camera.frames)
            target = as_traffic(replace(sample.target, boxes=boxes), data.class_names)
            yield target, image.shape[1:], view.blocks()

    request = {"images": len(data), "classes": list(data.class_names), "speed": speed, "shake": shake}
    with one_run(Path(folder)):
        return _record(clips(), Path(folder), camera, request)


def encode_traffic(
    clips: int, folder: str | Path, camera: Camera | None = None, steps_per_frame: int = 32
) -> Path:
    """Record generated traffic, which moves by itself before a fixed camera; else as :func:`encode_dataset`.

    :param clips: how many; scenes follow from the camera's seed
    :param camera: default: ``Camera(size=160)``
    :param steps_per_frame: how long each drawn frame is held, see
        :func:`~sj_lowlat.spike_camera.sequence_frames`; 1 is very fast motion
    """
    camera = camera or Camera(size=160)
    if clips < 1 or camera.size % _MULTIPLE or steps_per_frame < 1:
        raise InputError(
            f"clips {clips}, size {camera.size} and steps_per_frame {steps_per_frame} came: give at least 1 "
            f"clip, a multiple of {_MULTIPLE} px, and at least 1 step"
        )

    def scenes() -> Iterator[_Clip]:
        for index in range(clips):
            drawn = -(-camera.frames // steps_per_frame)
            sequence = moving_sequence(camera.seed * 100_003 + index, drawn, camera.size)
            middle = camera.frames // 2 // steps_per_frame
            boxes, labels = sequence.boxes[middle], sequence.labels[middle]
            none = torch.zeros(len(labels), dtype=torch.bool)
            target = Target(boxes, labels, none, none, index)
            light = sequence_frames(sequence, steps_per_frame)[: camera.frames]
            yield as_traffic(target, sequence.class_names), light.shape[1:], [light]

    request = {"clips": clips, "source": "traffic", "steps_per_frame": steps_per_frame}
    with one_run(Path(folder)):
        return _record(scenes(), Path(folder), camera, request)


def _resized(image: Tensor, boxes: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """A picture ``[3, H, W]`` with longer side ``size`` and sides that are multiples of 8, and its boxes."""
    height, width = image.shape[-2:]
    scale = size / max(height, width)
    new = [max(_MULTIPLE, _MULTIPLE * round(side * scale / _MULTIPLE)) for side in (height, width)]
    factor = torch.tensor([new[1] / width, new[0] / height] * 2)
    return F.resize(image, new, antialias=True), boxes * factor


def _record(clips: Iterator[_Clip], folder: Path, camera: Camera, request: dict[str, Any]) -> Path:
    request = {**request, "camera": asdict(camera)}
    begun = _read_request(folder / "request.json")
    if begun and begun != request:
        changed = sorted(key for key in {*begun, *request} if begun.get(key) != request.get(key))
        raise InputError(
            f"{folder} was begun with another {', '.join(changed)}: give another folder, or the same request"
        )
    path = folder / "instances.json"
    if begun and _is_whole(path):
        return path
    write_json(folder / "request.json", request)
    recorded = {
        "frames": camera.frames,
        "frame": camera.frames // 2,
        "frame_rate": camera.frame_rate,
        "rate_at_white": camera.rate_at_white,
    }
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index, (target, (height, width), blocks) in enumerate(clips):
        name = f"streams/{index:06d}.dat"
        if not _holds(folder / name, camera.frames, height, width):
            encoder = SpikeEncoder(
                height,
                width,
                rate_at_white=camera.rate_at_white,
                photons=camera.photons,
                seed=camera.seed * 100_003 + index,
            )
            planes = np.concatenate([encoder.encode(block) for block in blocks])
            write_stream(folder / name, SpikeStream.from_planes(planes, camera.frame_rate))
        row = {
            "id": index + 1,
            "file_name": name,
            "width": width,
            "height": height,
            "source": target.image_id,
        }
        images.append(row | recorded)
        annotations += _annotations(target, index + 1, len(annotations) + 1)
    categories = [{"id": number, "name": name} for number, name in enumerate(SPIKE_CLASSES, 1)]
    if not all(_holds(folder / i["file_name"], i["frames"], i["height"], i["width"]) for i in images):
        raise OSError(f"streams in {folder} were removed meanwhile: give the same request again")
    record = {"info": request, "images": images, "annotations": annotations, "categories": categories}
    write_json(path, record)
    return path


def _annotations(target: Target, image: int, first: int) -> Iterator[dict[str, Any]]:
    """COCO's rows; what VOC calls difficult becomes crowd, COCO's word for neither found nor missed."""
    labels, ignored = target.labels.tolist(), (target.crowd | target.difficult).tolist()
    for number, (box, label, crowd) in enumerate(zip(target.boxes.tolist(), labels, ignored, strict=True)):
        x1, y1, x2, y2 = box
        yield {
            "id": first + number,
            "image_id": image,
            "category_id": label + 1,
            "iscrowd": int(crowd),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1),
            "segmentation": [],
        }


def _read_request(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}): remove it and begin again") from error


def _holds(stream: Path, frames: int, height: int, width: int) -> bool:
    """Whether all frames have been written."""
    return stream.exists() and stream.stat().st_size == frames * height * width // 8


def _is_whole(path: Path) -> bool:
    """Whether the JSON and all of its streams are there, so that no scene has to be drawn again."""
    if not path.exists():
        return False
    images = json.loads(path.read_text(encoding="utf-8"))["images"]
    return all(_holds(path.parent / i["file_name"], i["frames"], i["height"], i["width"]) for i in images)
