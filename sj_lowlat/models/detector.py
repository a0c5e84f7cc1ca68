"""Base of all detectors: metadata and first weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from sj_lowlat.class_names import COCO_CLASSES
from sj_lowlat.detect import HeadSpec
from sj_lowlat.errors import InputError
from sj_lowlat.network import NetworkInfo, WithInfo

OBJECTNESS = 0.01
"""Objectness of an untrained head: most cells hold nothing (the prior of RetinaNet, arXiv 1708.02002)."""


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
        names = names_of_classes(class_names, [spec.num_classes for spec in head_specs])
        self.info = NetworkInfo(head_specs, names, (in_channels, input_size, input_size), stride)
        self.build_config: dict[str, Any] = {}
        """What :func:`sj_lowlat.models.build` makes the same structure from; JSON can hold it."""


def names_of_classes(class_names: Sequence[str] | None, counts: Sequence[int]) -> tuple[str, ...]:
    """The names of a detector's classes: the given ones, or the COCO names, or numbers.

    :param counts: classes of each head
    :raises InputError: if heads differ, or names are not as many
    """
    if len(set(counts)) != 1:
        raise InputError(f"all heads must have the same classes; got {counts} classes")
    count = counts[0]
    if class_names is None:
        numbered = tuple(f"class {i}" for i in range(count))
        return COCO_CLASSES if count == len(COCO_CLASSES) else numbered
    if isinstance(class_names, str) or len(class_names) != count:
        many = repr(class_names) if isinstance(class_names, str) else f"{len(class_names)}: "
        first = "" if isinstance(class_names, str) else ", ".join(class_names[:5])
        raise InputError(
            f"class_names must be a list of {count} names, one per class of the network; got {many}{first}"
        )
    return tuple(class_names)


def initialise(conv: nn.Conv2d | nn.ConvTranspose2d, slope: float = 0.0) -> None:
    """He initialisation before a leaky ReLU of this slope (0: a ReLU)."""
    if isinstance(conv, nn.ConvTranspose2d):
        # an output sums in * k^2 / stride^2 products; torch's own fan_in takes axis 1, the outputs
        fan = conv.weight[:, 0].numel() / math.prod(conv.stride) / conv.groups
        nn.init.normal_(conv.weight, std=math.sqrt(2 / (1 + slope**2) / fan))
    else:
        nn.init.kaiming_normal_(conv.weight, slope, "fan_in", "leaky_relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def initialise_head(conv: nn.Conv2d, spec: HeadSpec) -> None:
    """Small weights, and a bias that lets the objectness start near :data:`OBJECTNESS`."""
    nn.init.normal_(conv.weight, std=0.01)
    bias = torch.zeros(len(spec.anchors), 5 + spec.num_classes)
    bias[:, 4] = -math.log(1 / OBJECTNESS - 1)
    conv.bias = nn.Parameter(bias.flatten())
