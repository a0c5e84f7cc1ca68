"""Random views of training pictures that a resumed run sees again."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.tv_tensors import BoundingBoxes, Image

from sj_lowlat.data.sample import DetectionDataset
from sj_lowlat.errors import InputError

__all__ = ["AugmentedDataset", "AugmentedSample", "train_transform"]

#: image float32 [3, S, S] in [0, 1]; boxes float32 [M, 4] xyxy in network pixels; labels int64 [M]
AugmentedSample = tuple[Tensor, Tensor, Tensor]

GREY = 0.5
SCALE = (0.6, 1.6)
JITTER = ((0.7, 1.3), (0.7, 1.3), (0.6, 1.4))
"""Least and largest factor of brightness, contrast and saturation."""
# less of a box than this no longer shows its object
_MIN_VISIBLE = 0.25
_MIN_SIDE = 2.0


def train_transform(size: int, scale: tuple[float, float] = SCALE) -> v2.Compose:
    """Colour, flip, and a square view at a random scale.

    The picture is resized to ``size`` times a random scale (aspect ratio kept), and a window of ``size`` px
    is placed at random: above 1 it is a crop, below 1 a zoom-out with grey around it.

    :param scale: smallest and largest, 1 being the plain letterbox
    :return: a transform of uint8 ``[3, H, W]`` images and their boxes; images become float32
        ``[3, size, size]`` in [0, 1]
    :raises InputError: if ``size`` or ``scale`` is not positive
    """
    if size < 1 or not 0 < scale[0] <= scale[1]:
        raise InputError(
            f"size {size} and scale {scale} came: give a positive size and 0 < smallest <= largest scale"
        )
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(*JITTER),
            _ScaleJitter((size, size), scale_range=scale, antialias=True),
            v2.ToDtype(torch.float32, scale=True),
            v2.RandomCrop(size, pad_if_needed=True, fill=GREY),
        ]
    )


class _ScaleJitter(v2.ScaleJitter):
    """Torchvision's, which rounds the short side of a very flat picture to nothing."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = super().make_params(flat_inputs)["size"]
        return {"size": (max(height, 1), max(width, 1))}


class AugmentedDataset:
    """A data set, labelled or not, seen through :func:`train_transform`.

    Item ``i`` depends on (seed, epoch, i) alone, in whichever process. Crowd boxes are left out; boxes are
    clipped to the view, and dropped if less than a quarter of them or under 2 px is left.
    """

    def __init__(
        self, dataset: DetectionDataset, size: int, seed: int = 0, scale: tuple[float, float] = SCALE
    ) -> None:
        self.dataset, self.size, self.seed, self.epoch = dataset, size, seed, 0
        self.class_names = dataset.class_names
        *colour_and_scale, self._crop = train_transform(size, scale).transforms
        self._colour_and_scale = v2.Compose(colour_and_scale)

    def set_epoch(self, epoch: int) -> None:
        """Choose the views; loader workers see it when the loader is iterated anew."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> AugmentedSample:
        """Image float32 ``[3, size, size]``, boxes float32 ``[M, 4]`` in its pixels, labels int64 ``[M]``."""
        sample = self.dataset[index]
        boxes, labels = sample.boxes[~sample.crowd], sample.labels[~sample.crowd]
        height, width = sample.image.shape[-2:]
        whole = BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width))
        key = np.random.SeedSequence([self.seed, self.epoch, index]).generate_state(1)[0]
        with torch.random.fork_rng(devices=[]):
            # not torch.manual_seed, which also reseeds every accelerator
            torch.default_generator.manual_seed(int(key))
            image, whole = self._colour_and_scale(Image(sample.image), whole)
            image, clipped = self._crop(image, whole)
        inside = clipped.as_subclass(Tensor)
        keep = _still_shown(whole.as_subclass(Tensor), inside)
        return image.as_subclass(Tensor), inside[keep], labels[keep]


def visible(boxes: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The boxes ``[M, 4]`` clipped to a square view, and which of them still show their object, ``[M]``."""
    inside = boxes.clamp(0, size)
    return inside, _still_shown(boxes, inside)


def _still_shown(whole: Tensor, inside: Tensor) -> Tensor:
    sides = inside[:, 2:] - inside[:, :2]
    area = (whole[:, 2:] - whole[:, :2]).prod(dim=1)
    return (sides.prod(dim=1) >= _MIN_VISIBLE * area) & (sides >= _MIN_SIDE).all(dim=1)
