"""From the sections of a darknet cfg to layers that fit together."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from sj_lowlat.detect import HeadSpec
from sj_lowlat.errors import InputError
from sj_lowlat.layers import SameMaxPool
from sj_lowlat.models.darknet_cfg import Section
from sj_lowlat.models.darknet_heads import region_spec, yolo_spec
from sj_lowlat.models.darknet_layers import (
    ACTIVATIONS,
    BinaryConv2d,
    ConvBlock,
    DetectionHead,
    LocalAvgPool,
    Product,
    Reorg,
    Reorg3d,
    Route,
    Shortcut,
)
from sj_lowlat.models.detector import initialise, initialise_head

MOST_VALUES = 2**29  # of a network, two gigabytes: the largest published one has 290 million
_MOST = 2**16  # pixels of a side, channels, filters


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

    :param most: values that its layers may hold; checked before they take memory
    :raises InputError: if a section does not fit the ones before it
    """

    def __init__(self, net: Section, most: int = MOST_VALUES) -> None:
        self.most = most
        self.net = net
        self.input_size, self.input_height = _bounded(net, "width"), _bounded(net, "height")
        self.channels = _bounded(net, "channels", 3)
        self.shapes = [Shape(self.channels, self.input_size)]  # [0] is the input, [i + 1] layer i
        self.used: set[int] = set()
        self.heads: list[HeadSpec] = []
        self.layers: list[nn.Module] = []

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
        self.layers.append(layer)
        return layer

    def _convolutional(self, section: Section, before: Shape) -> tuple[nn.Module, Shape]:
        size, stride, filters = _bounded(section, "size", 1), _stride(section), _bounded(section, "filters")
        binary = bool(section.integer("xnor", 0))
        groups = 1 if binary else section.positive("groups", 1)  # darknet has no binary groups
        padding = size // 2 if section.integer("pad", 0) else section.integer("padding", 0)
        dilation = 1 if size == 1 else section.positive("dilation", 1)
        if before.channels % groups or filters % groups:
            inputs = before.channels
            raise section.error(f": {groups} groups do not divide {inputs} inputs and {filters} filters")
        if dilation > 1 and 2 * padding != size - 1:
            raise section.error(f": dilation={dilation} needs pad=1 and an odd size; got size={size}")
        norm = bool(section.integer("batch_normalize", 0) or section.integer("cbn", 0))
        shape = _strided(section, before, filters, stride, (before.size + 2 * padding - size) // stride + 1)
        self._take(section, filters * (before.channels // groups * size**2 + 4))
        kind = BinaryConv2d if binary else nn.Conv2d
        padding *= dilation
        conv = kind(before.channels, filters, size, stride, padding, dilation, groups, bias=not norm)
        activation = section.options.get("activation", "logistic")  # darknet's own default
        initialise(conv, slope=0.1 if activation == "leaky" else 0.0)
        bn = nn.BatchNorm2d(filters) if norm else None
        if "share_index" in section.options:
            bn = self._share(section, conv, bn)
        return ConvBlock(conv, bn, _activation(section, activation)), shape

    def _take(self, section: Section, values: int) -> None:
        """Count the values of a layer; its last four a filter are those of a bias or batch norm."""
        self.most -= values
        if self.most < 0:
            raise section.error(
                f" brings the network to far more weights than its file holds, or than {MOST_VALUES}: check "
                "filters, size and channels"
            )

    def _share(self, section: Section, conv: nn.Conv2d, bn: nn.BatchNorm2d | None) -> nn.BatchNorm2d | None:
        """Give a convolution the weights of an earlier one; return the batch norm of that."""
        number = self._earlier(section, section.integer("share_index"))
        layers = dict(self.layers[number].named_children())
        twin = layers.get("conv")
        same = isinstance(twin, nn.Conv2d) and twin.weight.shape == conv.weight.shape
        if not same or ("bn" in layers) != (bn is not None):
            raise section.error(
                f" shares the weights of layer {number}, which is no convolution of the same sizes"
            )
        conv.weight, conv.bias = twin.weight, twin.bias  # type: ignore[assignment,union-attr]
        return layers.get("bn")  # type: ignore[return-value]

    def _maxpool(self, section: Section, before: Shape) -> tuple[nn.Module, Shape]:
        size, stride, padding, shape = self._windows(section, before, 2)
        if size == stride and padding // 2 == 0:  # windows tile the map, padding is never reached
            return nn.MaxPool2d(size, stride), shape
        return SameMaxPool(size, stride, padding), shape

    def _local_avgpool(self, section: Section, before: Shape) -> tuple[nn.Module, Shape]:
        size, stride, padding, shape = self._windows(section, before, 1)
        return LocalAvgPool(size, stride, padding), shape

    def _windows(self, section: Section, before: Shape, most: int) -> tuple[int, int, int, Shape]:
        """Size, stride and padding (less than ``most`` sizes) of a pool, and the shape that it makes."""
        stride = _stride(section)
        size = _bounded(section, "size", stride)
        padding = section.integer("padding", size - 1)
        if not 0 <= padding < most * size:
            raise section.error(f": padding must be from 0 to {most * size - 1}; got {padding}")
        cells = (before.size + padding - size) // stride + 1
        return size, stride, padding, _strided(section, before, before.channels, stride, cells)

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

    def _reorg3d(self, section: Section, before: Shape) -> tuple[nn.Module, Shape]:
        stride = section.positive("stride", 1)
        channels, cells = before.channels * stride**2, before.size // stride
        return Reorg3d(stride), _strided(section, before, channels, stride, cells)

    def _contrastive(self, section: Section, before: Shape) -> tuple[nn.Module, Shape]:
        return nn.Identity(), Shape(0, before.size)  # a loss, on what trackers read

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
        return self._head(section, before, yolo_spec)

    def _region(self, section: Section, before: Shape) -> tuple[nn.Module, Shape]:
        return self._head(section, before, region_spec)

    def _head(
        self, section: Section, before: Shape, spec_of: Callable[[Section, int], HeadSpec]
    ) -> tuple[nn.Module, Shape]:
        try:
            spec = spec_of(section, self.input_size // before.size)
        except InputError as error:
            raise error if str(section) in str(error) else section.error(f": {error}") from error
        if before.channels != spec.channels:
            raise section.error(
                f": {len(spec.anchors)} anchors and {spec.num_classes} classes need {spec.channels} "
                f"channels, but {before.channels} arrive: set filters={spec.channels} in the layer before"
            )
        last = self.layers[-1] if self.layers else None
        if spec.new_coords and isinstance(last, ConvBlock) and isinstance(last[-1], nn.Sigmoid):
            del last._modules["act"]  # its sigmoids are part of the decoding
        if not isinstance(last, ConvBlock) or len(last) > 1:
            raise section.error(
                " must follow a [convolutional] with activation=linear (with new_coords=1: logistic) and "
                "without batch norm"
            )
        initialise_head(last.conv, spec)  # type: ignore[arg-type]
        self.heads.append(spec)
        return DetectionHead(), Shape(0, before.size)

    def _source(self, section: Section, source: int) -> int:
        """The number of the layer whose output a section takes, relative where negative."""
        number = self._earlier(section, source)
        if not self.shapes[number + 1].channels:
            raise section.error(f" takes layer {source}, a detection layer, which has no output to take")
        self.used.add(number)
        return number

    def _earlier(self, section: Section, source: int) -> int:
        """The number of an earlier layer, relative where negative."""
        number = section.number + source if source < 0 else source
        if not 0 <= number < section.number:
            raise section.error(f" takes layer {source}, which is no earlier layer")
        return number


def _bounded(section: Section, key: str, default: int | None = None) -> int:
    """As :meth:`Section.positive`, and not more than any network needs."""
    number = section.positive(key, default)
    if number > _MOST:
        raise section.error(f": option {key} must be at most {_MOST}; got {number}")
    return number


def _stride(section: Section) -> int:
    """The stride of both directions."""
    along = [section.integer(f"stride_{axis}", 0) for axis in "xy"]
    strides = {number if number > 0 else section.positive("stride", 1) for number in along}
    if len(strides) > 1:
        raise section.error(f": strides of x and y that differ are not supported; got {sorted(strides)}")
    return strides.pop()


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
