"""The records that every data set gives: a picture with its boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from sj_lowlat.errors import InputError

__all__ = ["DetectionDataset", "Sample", "Target", "ground_truth", "make_target", "target_of"]


@dataclass
class Target:
    """What is in a picture.

    :param boxes: float32 ``[M, 4]``, x1 y1 x2 y2 in pixels of the picture, whose top left corner is (0, 0)
    :param labels: int64 ``[M]``, index into the data set's ``class_names``
    :param crowd: bool ``[M]``, the box holds a group whose members have no boxes (COCO ``iscrowd``)
    :param difficult: bool ``[M]``, an object that VOC does not count
    :param image_id: the picture's name in its data set
    :raises InputError: if the shapes do not fit together
    """

    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    difficult: Tensor
    image_id: int | str

    def __post_init__(self) -> None:
        count = self.boxes.shape[0] if self.boxes.dim() else 0
        if self.boxes.shape != (count, 4):
            raise InputError(f"boxes have the shape {list(self.boxes.shape)}; give [M, 4] (x1 y1 x2 y2)")
        for name in ("labels", "crowd", "difficult"):
            shape = getattr(self, name).shape
            if shape != (count,):
                raise InputError(f"{name} has the shape {list(shape)} beside {count} boxes; give [{count}]")

    def __len__(self) -> int:
        return self.boxes.shape[0]


@dataclass
class Sample:
    """A picture and what is in it; the fields after ``image`` are those of :class:`Target`.

    :param image: uint8 ``[3, H, W]``, RGB
    :raises InputError: if the image is not uint8 ``[3, H, W]`` or the shapes do not fit together
    """

    image: Tensor
    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    difficult: Tensor
    image_id: int | str

    def __post_init__(self) -> None:
        check_image(self.image)
        Target(self.boxes, self.labels, self.crowd, self.difficult, self.image_id)

    @classmethod
    def of(cls, image: Tensor, target: Target) -> Sample:
        """Join a picture uint8 ``[3, H, W]`` and its target."""
        return cls(image, target.boxes, target.labels, target.crowd, target.difficult, target.image_id)

    @property
    def target(self) -> Target:
        """The sample without its picture."""
        return Target(self.boxes, self.labels, self.crowd, self.difficult, self.image_id)


@runtime_checkable
class DetectionDataset(Protocol):
    """Anything with a length, samples by index, and class names.

    ``target(index) -> Target`` is optional; :func:`ground_truth` then need not read the pictures.
    """

    @property
    def class_names(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


def check_image(image: Tensor) -> None:
    """:raises InputError: if ``image`` is not uint8 ``[3, H, W]``"""
    if image.dtype != torch.uint8 or image.dim() != 3 or image.shape[0] != 3 or 0 in image.shape:
        raise InputError(f"an image of {image.dtype} {list(image.shape)} came; give uint8 [3, H, W] (RGB)")


def make_target(
    boxes: Tensor | Sequence[Sequence[float]],
    labels: Sequence[int],
    image_id: int | str,
    crowd: Sequence[bool] = (),
    difficult: Sequence[bool] = (),
) -> Target:
    """A target of lists; without flags, no box is a crowd or difficult."""
    none = [False] * len(labels)
    return Target(
        torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(crowd or none, dtype=torch.bool),
        torch.tensor(difficult or none, dtype=torch.bool),
        image_id,
    )


def target_of(dataset: DetectionDataset, index: int) -> Target:
    """One of :func:`ground_truth`."""
    target = getattr(dataset, "target", None)
    return target(index) if callable(target) else dataset[index].target


def ground_truth(dataset: DetectionDataset) -> list[Target]:
    """All targets of a data set, in its order, without decoding pictures where the data set allows it."""
    return [target_of(dataset, index) for index in range(len(dataset))]
