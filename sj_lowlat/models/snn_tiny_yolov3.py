"""YOLOv3-Tiny rebuilt of layers that a spiking network can have."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sj_lowlat.detect import HeadSpec
from sj_lowlat.errors import InputError
from sj_lowlat.models.darknet_layers import ConvBlock
from sj_lowlat.models.detector import Detector
from sj_lowlat.models.initialise import initialise, initialise_head
from sj_lowlat.models.registry import register
from sj_lowlat.models.tiny_yolov3 import ANCHORS, MASKS, scaled_width

# (number, channels in, channels out, kernel, stride) of the layers in a row; 12 feeds both heads
_TRUNK = (
    (0, 0, 16, 3, 1),
    (1, 16, 16, 3, 2),
    (2, 16, 32, 3, 1),
    (3, 32, 32, 3, 2),
    (4, 32, 64, 3, 1),
    (5, 64, 64, 3, 2),
    (6, 64, 128, 3, 1),
    (7, 128, 128, 3, 2),
    (8, 128, 256, 3, 1),
    (9, 256, 256, 3, 2),
    (10, 256, 512, 3, 1),
    (11, 512, 1024, 3, 1),
    (12, 1024, 256, 1, 1),
)


@register
def snn_tiny_yolov3(
    num_classes: int = 80,
    width: float = 1.0,
    class_names: Sequence[str] | None = None,
    input_size: int = 416,
    in_channels: int = 3,
) -> SNNTinyYOLOv3:
    """SNN-Tiny-YOLOv3: :func:`tiny_yolov3` with every layer replaced by one that can spike.

    Max-pools are convolutions of stride 2 (the one of stride 1 is dropped), the upsampling is a transposed
    convolution, leaky ReLUs are ReLUs; heads and anchors are the same. 9,786,734 parameters at 80 classes.

    :param num_classes: number of classes
    :param width: factor of the channels, which are rounded to multiples of 8
    :param class_names: one name per class; the COCO names for 80 classes, else numbered, if not given
    :param input_size: side of the input in pixels, a multiple of 32
    :param in_channels: channels of the images
    :raises InputError: if a value is out of range
    """
    net = SNNTinyYOLOv3(num_classes, width, class_names, input_size, in_channels)
    net.build_config = {
        "builder": "snn_tiny_yolov3",
        "kwargs": {
            "num_classes": num_classes,
            "width": width,
            "class_names": list(net.class_names),
            "input_size": input_size,
            "in_channels": in_channels,
        },
    }
    return net


class SNNTinyYOLOv3(Detector):
    """The network of :func:`snn_tiny_yolov3`; keys of ``layers`` are its layer numbers.

    Parameters as there.
    """

    def __init__(
        self,
        num_classes: int,
        width: float,
        class_names: Sequence[str] | None,
        input_size: int,
        in_channels: int,
    ) -> None:
        if num_classes < 1 or in_channels < 1:
            raise InputError(
                f"num_classes and in_channels must be 1 or more; got {num_classes} and {in_channels}"
            )
        specs = tuple(
            HeadSpec(tuple(ANCHORS[index] for index in mask), stride, num_classes)
            for mask, stride in zip(MASKS, (32, 16), strict=True)
        )
        super().__init__(specs, class_names, input_size, in_channels, stride=32)

        def block(before: int, after: int, size: int, stride: int = 1) -> ConvBlock:
            conv = nn.Conv2d(before, scaled_width(after, width), size, stride, size // 2, bias=False)
            return _with_relu(conv)

        def wide(channels: int) -> int:
            return scaled_width(channels, width)

        layers = {
            str(number): block(wide(before) if before else in_channels, after, size, stride)
            for number, before, after, size, stride in _TRUNK
        }
        layers["13"] = block(wide(256), 512, 3)
        layers["14"] = _head(wide(512), specs[0])
        layers["17"] = block(wide(256), 128, 1)
        layers["18"] = _with_relu(
            nn.ConvTranspose2d(wide(128), wide(128), 3, 2, 1, output_padding=1, bias=False)
        )
        layers["20"] = block(wide(128) + wide(256), 256, 3)
        layers["21"] = _head(wide(256), specs[1])
        self.layers = nn.ModuleDict(layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Raw head maps of a batch of images.

        :param x: ``[N, C, H, W]`` in [0, 1]; sides multiples of 32
        :return: maps ``[N, 3 * (5 + K), H / 32, W / 32]`` and ``[N, 3 * (5 + K), H / 16, W / 16]``
        :raises InputError: if the shape does not fit
        """
        self.check_input(x)
        layers = self.layers
        for number in range(9):
            x = layers[str(number)](x)
        fine = x  # [N, 256, H / 16, W / 16]
        for number in range(9, 13):
            x = layers[str(number)](x)
        coarse_map = layers["14"](layers["13"](x))
        x = torch.cat((layers["18"](layers["17"](x)), fine), 1)
        return coarse_map, layers["21"](layers["20"](x))


def _with_relu(conv: nn.Conv2d | nn.ConvTranspose2d) -> ConvBlock:
    block = ConvBlock(conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU())
    initialise(block)
    return block


def _head(channels: int, spec: HeadSpec) -> ConvBlock:
    conv = nn.Conv2d(channels, spec.channels, 1)
    initialise_head(conv, spec)
    return ConvBlock(conv, None, None)
