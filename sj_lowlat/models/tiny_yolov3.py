"""YOLOv3-Tiny as it was published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sj_lowlat.errors import InputError
from sj_lowlat.models.darknet_cfg import parse_cfg
from sj_lowlat.models.darknet_net import DarknetNet
from sj_lowlat.models.darknet_weights import load_darknet_weights
from sj_lowlat.models.registry import register

ANCHORS = ((10.0, 14.0), (23.0, 27.0), (37.0, 58.0), (81.0, 82.0), (135.0, 169.0), (344.0, 319.0))
"""(width, height) in pixels, from the published cfg."""
MASKS = ((3, 4, 5), (1, 2, 3))
"""Anchors of the stride-32 and the stride-16 head.

The published cfg says 0,1,2 for the latter, but the published weights were trained with 1,2,3: decoded with
0,1,2 they lose half their accuracy.
"""


def scaled_width(channels: int, width: float) -> int:
    """``channels * width``, to the nearest multiple of 8, at least 8.

    :raises InputError: if width is not above 0 and up to 4
    """
    if not 0 < width <= 4:
        raise InputError(
            f"width must be a factor of the channels, above 0 and up to 4, such as 0.5; got {width}"
        )
    return max(8, 8 * round(channels * width / 8))


def check_counts(num_classes: int, in_channels: int) -> None:
    """:raises InputError: if one is below 1 or above 10,000"""
    if not (1 <= num_classes <= 10_000 and 1 <= in_channels <= 10_000):
        raise InputError(
            f"num_classes and in_channels must be from 1 to 10,000; got {num_classes} and {in_channels}"
        )


@register
def tiny_yolov3(
    num_classes: int = 80,
    weights: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    input_size: int = 416,
    width: float = 1.0,
    in_channels: int = 3,
) -> DarknetNet:
    """YOLOv3-Tiny: leaky ReLU, max-pooling, nearest upsampling, heads at stride 32 and 16.

    Layers and state dict keys are those of ``yolov3-tiny.cfg``; the stride-16 head's mask is 1,2,3.

    :param weights: path of a darknet .weights file; fresh weights without it
    :param class_names: one name per class; by default the COCO names for 80 classes, else "class 0" ...
    :param input_size: side of the input in pixels, a multiple of 32
    :param width: factor of the channels, which are rounded to multiples of 8
    :param in_channels: channels of the images
    :raises FileNotFoundError: if the weights do not exist
    :raises InputError: if a value is out of range or the weights are of another network
    """
    check_counts(num_classes, in_channels)
    if input_size < 32 or input_size % 32:
        raise InputError(f"input_size must be a positive multiple of 32 pixels; got {input_size}")
    net = DarknetNet(parse_cfg(_cfg(num_classes, input_size, width, in_channels)), class_names)
    sizes = {"input_size": input_size, "width": width, "in_channels": in_channels}
    kwargs = {"num_classes": num_classes, "class_names": list(net.class_names), **sizes}
    net.build_config = {"builder": "tiny_yolov3", "kwargs": kwargs}
    if weights is not None:
        load_darknet_weights(net, weights)
    return net


def _cfg(num_classes: int, input_size: int, width: float, in_channels: int) -> str:
    anchors = ",".join(f"{w:g},{h:g}" for w, h in ANCHORS)

    def conv(channels: int, size: int = 3) -> str:
        shape = f"filters={scaled_width(channels, width)}\nsize={size}\nstride=1\npad=1"
        return f"[convolutional]\nbatch_normalize=1\n{shape}\nactivation=leaky\n"

    def pool(stride: int) -> str:
        return f"[maxpool]\nsize=2\nstride={stride}\n"

    def head(mask: tuple[int, ...]) -> str:
        filters, numbers = len(mask) * (5 + num_classes), ",".join(map(str, mask))
        return (
            f"[convolutional]\nfilters={filters}\nsize=1\nstride=1\npad=1\nactivation=linear\n"
            f"[yolo]\nmask={numbers}\nanchors={anchors}\nclasses={num_classes}\nnum={len(ANCHORS)}\n"
        )

    parts = [f"[net]\nwidth={input_size}\nheight={input_size}\nchannels={in_channels}\n"]
    for channels in (16, 32, 64, 128, 256):
        parts += [conv(channels), pool(2)]
    parts += [conv(512), pool(1), conv(1024), conv(256, size=1), conv(512), head(MASKS[0])]
    parts += ["[route]\nlayers=-4\n", conv(128, size=1), "[upsample]\nstride=2\n", "[route]\nlayers=-1,8\n"]
    parts += [conv(256), head(MASKS[1])]
    return "".join(parts)
