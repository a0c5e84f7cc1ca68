"""Pictures inside a page, as data: photos as JPEG, maps of counts as PNG with a palette."""

from __future__ import annotations

import base64
import io
import math

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

_GAP = 2  # pixels between tiles


def photo(image: Tensor, side: int = 1024) -> str:
    """A picture as the address of a JPEG, made smaller where it is larger than ``side``.

    :param image: uint8 ``[3, H, W]``
    """
    picture = to_pil_image(image.cpu())
    picture.thumbnail((side, side))
    return _address(picture, "jpeg", quality=85)


def tiles(maps: Tensor, most: float, side: int, columns: int, signed: bool) -> str:
    """Maps side by side as the address of a PNG, on one scale of colours, with clear gaps.

    :param maps: ``[C, h, w]``
    :param most: value of the last colour
    :param side: of a tile in pixels; small maps are repeated up to it
    :param signed: whether the first colour stands for ``-most``, not for 0
    """
    from matplotlib import colormaps

    share = (maps / most + 1) / 2 if signed else maps / most
    index = (1 + 254 * share.clamp(0, 1)).round().to(torch.uint8)  # [C, h, w]; 0 is clear
    longest = max(index.shape[1:])
    if longest > side:
        strides = torch.linspace(0, longest - 1, side).round().long()
        index = index[:, strides[strides < index.shape[1]]][:, :, strides[strides < index.shape[2]]]
    times = max(1, side // max(index.shape[1:]))
    index = index.repeat_interleave(times, 1).repeat_interleave(times, 2)
    count, height, width = index.shape
    columns = min(columns, count)
    sheet = torch.zeros(
        math.ceil(count / columns) * (height + _GAP), columns * (width + _GAP), dtype=torch.uint8
    )
    for place, tile in enumerate(index):
        top, start = place // columns * (height + _GAP), place % columns * (width + _GAP)
        sheet[top : top + height, start : start + width] = tile
    picture = Image.fromarray(sheet[:-_GAP, :-_GAP].contiguous().numpy())
    colours = colormaps["coolwarm" if signed else "viridis"](torch.linspace(0, 1, 255).numpy(), bytes=True)
    picture.putpalette([0, 0, 0, *colours[:, :3].flatten().tolist()])
    return _address(picture, "png", transparency=0, optimize=True)


def _address(picture: Image.Image, kind: str, **options: object) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
