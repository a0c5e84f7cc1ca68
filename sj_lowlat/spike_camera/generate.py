"""Spike data sets from photographs that move, and from generated traffic."""

from __future__ import annotations

import hashlib
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
from sj_lowlat.errors import FOREIGN, InputError
from sj_lowlat.files import read_json, write_json
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

    :param folder: gets ``streams/*.dat``, their sums in ``streams.sha256`` and, when all are there,
        ``instances.json``
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
    begun, sums = _read_request(folder / "request.json"), _Sums(folder)
    if begun and begun != request:
        changed = sorted(key for key in {*begun, *request} if begun.get(key) != request.get(key))
        raise InputError(
            f"{folder} was begun with another {', '.join(changed)}: give another folder, or the same request"
        )
    path = folder / "instances.json"
    if not begun:
        sums.forget()
    if begun and _is_whole(path, sums):
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
        if not sums.holds(name):
            encoder = SpikeEncoder(
                height,
                width,
                rate_at_white=camera.rate_at_white,
                photons=camera.photons,
                seed=camera.seed * 100_003 + index,
            )
            planes = np.concatenate([encoder.encode(block) for block in blocks])
            write_stream(folder / name, SpikeStream.from_planes(planes, camera.frame_rate))
            sums.add(name)
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
    if not all((folder / image["file_name"]).is_file() for image in images):
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
    if not path.exists():
        return {}
    request = read_json(path, "what encode wrote, or remove it and begin again")
    if not isinstance(request, dict):
        raise InputError(f"{path} is damaged: remove it and begin again")
    return request


def _is_whole(path: Path, sums: _Sums) -> bool:
    """Whether the JSON and all of its streams are there, so that no scene has to be drawn again."""
    try:
        names = [image["file_name"] for image in read_json(path, "an instances JSON")["images"]]
    except (FileNotFoundError, *FOREIGN):
        return False
    return all(isinstance(name, str) and sums.holds(name) for name in names)


class _Sums:
    """Which streams of a folder are whole: their SHA-256 in ``streams.sha256``, as ``sha256sum -c`` reads it.

    A file's size alone does not tell who wrote it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "streams.sha256"
        lines = self.path.read_bytes().decode("ascii", "replace").splitlines() if self.path.exists() else []
        self._known = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}

    def holds(self, name: str) -> bool:
        stream = self.folder / name
        return name in self._known and stream.is_file() and _sha256(stream) == self._known[name]

    def add(self, name: str) -> None:
        self._known[name] = _sha256(self.folder / name)
        with self.path.open("a", encoding="ascii") as file:
            file.write(f"{self._known[name]}  {name}\n")

    def forget(self) -> None:
        self._known = {}
        self.path.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
