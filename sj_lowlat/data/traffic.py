"""Generated traffic, for machines without data: still images and short moving sequences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sj_lowlat.class_names import COCO_CLASSES, COCO_IDS
from sj_lowlat.data.sample import Sample, make_target
from sj_lowlat.data.traffic_scene import CLASS_NAMES, View, make_scene
from sj_lowlat.errors import InputError
from sj_lowlat.files import atomic_write, write_json

__all__ = ["MovingSequence", "TrafficDataset", "moving_sequence"]

_MIN_SIZE = 32
# drawing takes 10 ms, too long for every epoch; the first images are kept up to this size
_KEPT_BYTES = 256 * 2**20


class TrafficDataset:
    """Drawn street scenes with persons, bicycles, cars and buses.

    Shapes, colours, scale, overlap, background, light and noise vary. Item ``i`` depends on (seed, i, size)
    alone. Boxes bound what can be seen of an object; objects of which less than 30 % can be seen have none.

    :param size: side of the square images, in pixels
    :raises InputError: if ``length`` is not positive or ``size`` is below 32
    """

    class_names: tuple[str, ...] = CLASS_NAMES

    def __init__(self, length: int, size: int = 160, seed: int = 0) -> None:
        if length < 1:
            raise InputError(f"length {length} came: give at least 1 image")
        _check_size(size)
        self.length, self.size, self.seed = length, size, seed
        self._kept: dict[int, Sample] = {}
        self._room = _KEPT_BYTES // (3 * size * size)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        """Draw one sample, or give the one drawn before: do not change it in place.

        :raises IndexError: beyond the data set's length
        """
        if not 0 <= index < self.length:
            raise IndexError(f"index {index} of {self.length} traffic images")
        if index in self._kept:
            return self._kept[index]
        view = make_scene(_scene_seed(self.seed, index), self.size).render()
        sample = Sample.of(_to_tensor(view), make_target(view.boxes, view.labels, index))
        if len(self._kept) < self._room:
            self._kept[index] = sample
        return sample

    def write_coco(self, folder: str | Path) -> Path:
        """Write the images (``images/*.png``), then their instances JSON, into a new or existing folder.

        :return: the JSON, ``folder/instances.json``; category ids are COCO's
        """
        root = Path(folder)
        ids = [COCO_IDS[COCO_CLASSES.index(name)] for name in self.class_names]
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(self.length):
            sample, name = self[index], f"{index:06d}.png"
            with atomic_write(root / "images" / name) as temporary:
                Image.fromarray(sample.image.permute(1, 2, 0).numpy()).save(temporary)  # [H, W, 3]
            images.append({"id": index + 1, "file_name": name, "width": self.size, "height": self.size})
            for (x1, y1, x2, y2), label in zip(sample.boxes.tolist(), sample.labels.tolist(), strict=True):
                row = {"id": len(annotations) + 1, "image_id": index + 1, "category_id": ids[label]}
                size = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
                annotations.append({**row, **size, "iscrowd": 0, "segmentation": []})
        categories = [{"id": id_, "name": name} for id_, name in zip(ids, self.class_names, strict=True)]
        about = {"description": f"generated traffic, seed {self.seed}"}
        record = {"info": about, "images": images, "annotations": annotations, "categories": categories}
        write_json(root / "instances.json", record)
        return root / "instances.json"


@dataclass(frozen=True)
class MovingSequence:
    """A fixed camera's view of moving traffic.

    :param frames: uint8 ``[F, 3, H, W]``
    :param boxes: a frame's boxes, float32 ``[M, 4]`` xyxy in pixels
    :param labels: a frame's labels, int64 ``[M]``
    :param tracks: which object a box belongs to, int64 ``[M]``, the same number through the sequence
    """

    frames: Tensor
    boxes: list[Tensor]
    labels: list[Tensor]
    tracks: list[Tensor]
    class_names: tuple[str, ...] = CLASS_NAMES


def moving_sequence(seed: int, frames: int, size: int = 160) -> MovingSequence:
    """Let a scene's objects move at steady speeds; the light does not change and there is no noise.

    :param frames: how many, of ``size`` x ``size`` px
    :raises InputError: if ``frames`` is not positive or ``size`` is below 32
    """
    if frames < 1:
        raise InputError(f"frames {frames} came: give at least 1")
    _check_size(size)
    scene = make_scene(_scene_seed(seed, 0), size)
    views = [scene.render(frame, noise=False) for frame in range(frames)]
    targets = [make_target(view.boxes, view.labels, seed) for view in views]
    return MovingSequence(
        frames=torch.stack([_to_tensor(view) for view in views]),  # [F, 3, H, W]
        boxes=[target.boxes for target in targets],
        labels=[target.labels for target in targets],
        tracks=[torch.tensor(view.tracks, dtype=torch.int64) for view in views],
    )


def _check_size(size: int) -> None:
    if size < _MIN_SIZE:
        raise InputError(f"size {size} came: traffic needs at least {_MIN_SIZE} px to be recognised")


def _scene_seed(seed: int, index: int) -> int:
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0])


def _to_tensor(view: View) -> Tensor:
    return torch.from_numpy(view.image).permute(2, 0, 1).contiguous()  # [H, W, 3] -> [3, H, W]
