"""YOLOv3-Tiny rebuilt of layers that a spiking network can have."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sj_lowlat.detect import HeadSpec
from sj_lowlat.models.darknet_layers import ConvBlock
from sj_lowlat.models.detector import Detector, initialise, initialise_head
from sj_lowlat.models.registry import register
from sj_lowlat.models.tiny_yolov3 import ANCHORS, MASKS, check_counts, scaled_width

# channels out of the layers in a row, 0 to 12; the last one, of kernel 1, feeds both heads
_TRUNK = (16, 16, 32, 32, 64, 64, 128, 128, 256, 256, 512, 1024, 256)
_HALVING = (1, 3, 5, 7, 9)


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
    Arguments as there.

    :raises InputError: if a value is out of range
    """
    net = SNNTinyYOLOv3(num_classes, width, class_names, input_size, in_channels)
    sizes = {"input_size": input_size, "in_channels": in_channels}
    kwargs = {"num_classes": num_classes, "width": width, "class_names": list(net.class_names), **sizes}
    net.build_config = {"builder": "snn_tiny_yolov3", "kwargs": kwargs}
    return net


class SNNTinyYOLOv3(Detector):
    """The network of :func:`snn_tiny_yolov3`, with its arguments; keys of ``layers`` are layer numbers."""

    def __init__(
        self,
        num_classes: int,
        width: float,
        class_names: Sequence[str] | None,
        input_size: int,
        in_channels: int,
    ) -> None:
        check_counts(num_classes, in_channels)
        specs = tuple(
            HeadSpec(tuple(ANCHORS[index] for index in mask), stride, num_classes)
            for mask, stride in zip(MASKS, (32, 16), strict=True)
        )
        super().__init__(specs, class_names, input_size, in_channels, stride=32)

        def block(before: int, after: int, size: int = 3, stride: int = 1) -> ConvBlock:
            return _with_relu(nn.Conv2d(before, after, size, stride, size // 2, bias=False))

        c128, c256, c512 = (scaled_width(channels, width) for channels in (128, 256, 512))
        self.layers = nn.ModuleDict()
        before = in_channels
        for number, channels in enumerate(_TRUNK):
            after, size = scaled_width(channels, width), 1 if number == 12 else 3
            self.layers[str(number)] = block(before, after, size, 2 if number in _HALVING else 1)
            before = after
        self.layers["13"] = block(c256, c512)
        self.layers["14"] = _head(c512, specs[0])
        self.layers["17"] = block(c256, c128, 1)
        self.layers["18"] = _with_relu(nn.ConvTranspose2d(c128, c128, 3, 2, 1, output_padding=1, bias=False))
        self.layers["20"] = block(c128 + c256, c256)
        self.layers["21"] = _head(c256, specs[1])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images ``[N, C, H, W]`` in [0, 1] to raw maps ``[N, 3 * (5 + K), H / s, W / s]``, s = 32 and 16.

        :raises InputError: if sides are not multiples of 32, or the channels differ
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
    initialise(conv)
    return ConvBlock(conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU())


def _head(channels: int, spec: HeadSpec) -> ConvBlock:
    conv = nn.Conv2d(channels, spec.channels, 1)
    initialise_head(conv, spec)
    return ConvBlock(conv, None, None)
