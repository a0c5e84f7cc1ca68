"""Base of all detectors: layers and metadata."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from sj_lowlat.class_names import COCO_CLASSES
from sj_lowlat.detect import HeadSpec
from sj_lowlat.errors import InputError
from sj_lowlat.network import NetworkInfo, WithInfo


class Detector(WithInfo, nn.Module):
    """Base of the detectors: ``forward`` takes images and returns raw head maps.

    :param head_specs: what each map means, in the order of ``forward``'s outputs
    :param class_names: one name per class; if None, the COCO names for 80 classes, else "class 0" ...
    :param input_size: side of the images for which it is meant, in pixels
    :param stride: sides of images must be multiples of this, in pixels
    :raises InputError: if names, classes and sizes do not fit together
    """

    def __init__(
        self,
        head_specs: tuple[HeadSpec, ...],
        class_names: Sequence[str] | None,
        input_size: int,
        in_channels: int,
        stride: int,
    ) -> None:
        super().__init__()
        if input_size < stride or input_size % stride:
            raise InputError(f"input_size must be a positive multiple of {stride} pixels; got {input_size}")
        names = _names(class_names, [spec.num_classes for spec in head_specs])
        self.info = NetworkInfo(head_specs, names, (in_channels, input_size, input_size), stride)
        self.build_config: dict[str, Any] = {}
        """What :func:`sj_lowlat.models.build` makes the same structure from; JSON can hold it."""


def _names(class_names: Sequence[str] | None, counts: list[int]) -> tuple[str, ...]:
    if len(set(counts)) != 1:
        raise InputError(f"all heads must have the same classes; got {counts} classes")
    count = counts[0]
    if class_names is None:
        numbered = tuple(f"class {i}" for i in range(count))
        return COCO_CLASSES if count == len(COCO_CLASSES) else numbered
    if isinstance(class_names, str) or len(class_names) != count:
        raise InputError(f"class_names must be a list of {count} names, one per class; got {class_names!r}")
    return tuple(class_names)
