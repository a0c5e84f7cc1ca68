"""From the sections of a darknet cfg to layers that fit together."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from torch import nn

from sj_lowlat.detect import HeadSpec
from sj_lowlat.errors import InputError
from sj_lowlat.layers import SameMaxPool
from sj_lowlat.models.darknet_cfg import Section
from sj_lowlat.models.darknet_layers import (
    ACTIVATIONS,
    ConvBlock,
    DetectionHead,
    Product,
    Reorg,
    Route,
    Shortcut,
)
from sj_lowlat.models.detector import initialise, initialise_head


class Shape(NamedTuple):
    """What a layer puts out at the cfg's input size; 0 channels stand for a detection layer.

    ``size`` is the width. A pooled map has one cell, whatever the input."""

    channels: int
    size: int
    pooled: bool = False


class Plan:
    """Makes layers from sections one by one, following the shapes.

    Afterwards ``heads`` has the :class:`HeadSpec` of each detection layer, ``used`` the numbers of the layers
    whose outputs later layers take, and ``stride`` what the sides of an input must be multiples of.

    :raises InputError: if a section does not fit the ones before it
    """

    def __init__(self, net: Section) -> None:
        self.net, self.input_size, self.input_height = net, net.positive("width"), net.positive("height")
        self.channels = net.positive("channels", 3)
        self.shapes = [Shape(self.channels, self.input_size)]  # [0] is the input, [i + 1] layer i
        self.used: set[int] = set()
        self.heads: list[HeadSpec] = []
        self.last: nn.Module | None = None

    @property
    def stride(self) -> int:
        """Pixels of which the sides of an input must be multiples, so that every map has whole cells."""
        stride = math.lcm(*(self.input_size // shape.size for shape in self.shapes if not shape.pooled))
        if self.input_height % stride:
            raise self.net.error(f": height={self.input_height} is no multiple of the stride {stride}")
        return stride

    def add(self, section: Section) -> nn.Module:
        """The module of the next section."""
        before = self.shapes[-1]
        if not before.channels and section.kind != "route":
            raise section.error(" would take the output of a detection layer: put a [route] between them")
        layer, shape = getattr(self, f"_{section.kind}")(section, before)
        self.shapes.append(shape)
        self.last = layer
        return layer

    def _convolutional(self, section: Section, before: Shape) -> tuple[nn.Module, Shape]:
        size, stride = section.positive("size", 1), section.positive("stride", 1)
        filters, groups = section.positive("filters"), section.positive("groups", 1)
        padding = size // 2 if section.integer("pad", 0) else section.integer("padding", 0)
        if before.channels % groups or filters % groups:
            inputs = before.channels
            raise section.error(f": {groups} groups do not divide {inputs} inputs and {filters} filters")
        norm = bool(section.integer("batch_normalize", 0))
        shape = _strided(section, before, filters, stride, (before.size + 2 * padding - size) // stride + 1)
        conv = nn.Conv2d(before.channels, filters, size, stride, padding, groups=groups, bias=not norm)
        activation = section.options.get("activation", "logistic")  # darknet's own default
        initialise(conv, slope=0.1 if activation == "leaky" else 0.0)
        bn = nn.BatchNorm2d(filters) if norm else None
        return ConvBlock(conv, bn, _activation(section, activation)), shape

    def _maxpool(self, section: Section, before: Shape) -> tuple[nn.Module, Shape]:
        stride = section.positive("stride", 1)
        size = section.positive("size", stride)
        padding = section.integer("padding", size - 1)
        if not 0 <= padding < 2 * size:
            raise section.error(f": padding must be from 0 to {2 * size - 1}; got {padding}")
        cells = (before.size + padding - size) // stride + 1
        shape = _strided(section, before, before.channels, stride, cells)
        if size == stride and padding // 2 == 0:  # windows tile the map, padding is never reached
            return nn.MaxPool2d(size, stride), shape
        return SameMaxPool(size, stride, padding), shape

    def _upsample(self, section: Section, before: Shape) -> tuple[nn.Module, Shape]:
        stride = section.positive("stride", 2)
        cells = before.size * stride
        if self.input_size % cells:
            raise section.error(
                f" would make {cells} cells a side, which do not divide the network's "
                f"{self.input_size} pixels evenly"
            )
        return nn.Upsample(scale_factor=stride, mode="nearest"), Shape(before.channels, cells)

    def _reorg(self, section: Section, before: Shape) -> tuple[nn.Module, Shape]:
        stride, channels = section.positive("stride", 1), before.channels
        if channels % stride**2:
            raise section.error(f": reorg by {stride} cannot divide {channels} channels by {stride**2}")
        shape = _strided(section, before, channels * stride**2, stride, before.size // stride)
        return Reorg(stride), shape

    def _route(self, section: Section, before: Shape) -> tuple[nn.Module, Shape]:
        groups, group_id = section.positive("groups", 1), section.integer("group_id", 0)
        numbers = [self._source(section, source) for source in section.integers("layers")]
        shapes = [self.shapes[number + 1] for number in numbers]
        channels, sizes = [shape.channels for shape in shapes], [shape.size for shape in shapes]
        if len(set(sizes)) != 1:
            raise section.error(f" must join maps of one size; got sizes {sizes}")
        if not 0 <= group_id < groups or any(number % groups for number in channels):
            raise section.error(f": no slice group_id={group_id} of groups={groups} in {channels} channels")
        return Route(numbers, groups, group_id), Shape(sum(channels) // groups, sizes[0])

    def _dropout(self, section: Section, before: Shape) -> tuple[nn.Module, Shape]:
        (probability,) = section.floats("probability", (0.5,))
        if not 0 <= probability < 1:
            raise section.error(f": probability must be from 0 to below 1; got {probability}")
        return nn.Dropout(probability), before

    def _avgpool(self, section: Section, before: Shape) -> tuple[nn.Module, Shape]:
        return nn.AdaptiveAvgPool2d(1), Shape(before.channels, 1, pooled=True)

    def _scale_channels(self, section: Section, before: Shape) -> tuple[nn.Module, Shape]:
        return self._product(section, before)

    def _sam(self, section: Section, before: Shape) -> tuple[nn.Module, Shape]:
        return self._product(section, before)

    def _product(self, section: Section, before: Shape) -> tuple[nn.Module, Shape]:
        number = self._source(section, section.integer("from"))
        earlier = self.shapes[number + 1]
        if earlier.channels != before.channels or not (before.pooled or before.size == earlier.size):
            raise section.error(
                f" must multiply maps of one shape, or by one cell; got {earlier} and {before}"
            )
        return Product(number), earlier

    def _shortcut(self, section: Section, before: Shape) -> tuple[nn.Module, Shape]:
        number = self._source(section, section.integer("from"))
        earlier = self.shapes[number + 1]
        if earlier.size != before.size:
            raise section.error(f" must add two maps of one size; got {earlier} and {before}")
        return Shortcut(number, _activation(section, section.options.get("activation", "linear"))), before

    def _yolo(self, section: Section, before: Shape) -> tuple[nn.Module, Shape]:
        pairs = _pairs(section)
        if section.integer("num", len(pairs)) != len(pairs):
            raise section.error(f": num={section.options['num']}, but there are {len(pairs)} anchors")
        mask = section.integers("mask", tuple(range(len(pairs))))
        if not mask or not all(0 <= index < len(pairs) for index in mask):
            raise section.error(f": mask {mask} must choose among the {len(pairs)} anchors, counted from 0")
        (scale,) = section.floats("scale_x_y", (1.0,))
        options = {"scale_xy": scale, "new_coords": bool(section.integer("new_coords", 0))}
        return self._head(section, before, tuple(pairs[index] for index in mask), "yolo", **options)

    def _region(self, section: Section, before: Shape) -> tuple[nn.Module, Shape]:
        cell = self.input_size // before.size
        anchors = tuple((width * cell, height * cell) for width, height in _pairs(section))  # given in cells
        return self._head(section, before, anchors, "region")

    def _head(
        self,
        section: Section,
        before: Shape,
        anchors: tuple[tuple[float, float], ...],
        kind: str,
        **more: Any,
    ) -> tuple[nn.Module, Shape]:
        stride, classes = self.input_size // before.size, section.positive("classes", 20)
        try:
            spec = HeadSpec(tuple(anchors), stride, classes, kind, **more)
        except InputError as error:
            raise section.error(f": {error}") from error
        if before.channels != spec.channels:
            raise section.error(
                f": {len(anchors)} anchors and {spec.num_classes} classes need {spec.channels} "
                f"channels, but {before.channels} arrive: set filters={spec.channels} in the layer before"
            )
        if spec.new_coords and isinstance(self.last, ConvBlock) and isinstance(self.last[-1], nn.Sigmoid):
            del self.last._modules["act"]  # its sigmoids are part of the decoding
        if not isinstance(self.last, ConvBlock) or len(self.last) > 1:
            raise section.error(
                " must follow a [convolutional] with activation=linear (with new_coords=1: logistic) and "
                "without batch norm"
            )
        initialise_head(self.last.conv, spec)  # type: ignore[arg-type]
        self.heads.append(spec)
        return DetectionHead(), Shape(0, before.size)

    def _source(self, section: Section, source: int) -> int:
        """The number of the layer that a route or shortcut names, relative where negative."""
        number = section.number + source if source < 0 else source
        if not 0 <= number < section.number or not self.shapes[number + 1].channels:
            raise section.error(
                f" takes layer {source}, which is not an earlier layer with an output to take"
            )
        self.used.add(number)
        return number


def _strided(section: Section, before: Shape, channels: int, stride: int, size: int) -> Shape:
    if size * stride != before.size:
        raise section.error(
            f" makes {size} cells a side of {before.size}; with stride {stride} it must divide evenly: check "
            "pad and size, and that the input size is a multiple of the network's stride"
        )
    return Shape(channels, size, before.pooled)


def _activation(section: Section, name: str) -> nn.Module | None:
    if name == "linear":
        return None
    if name not in ACTIVATIONS:
        raise section.error(f": unknown activation {name!r}, there are linear, {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def _pairs(section: Section) -> list[tuple[float, float]]:
    numbers = section.floats("anchors")
    if not numbers or len(numbers) % 2:
        raise section.error(f": anchors must be pairs width,height; got {len(numbers)} numbers")
    return list(zip(numbers[::2], numbers[1::2], strict=True))
