"""Detections drawn into their picture."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

from sj_lowlat.detect.detections import Detections, class_names_of
from sj_lowlat.detect.labels import place_labels
from sj_lowlat.errors import InputError
from sj_lowlat.files import atomic_write

JPEG: dict[str, Any] = {"quality": 95, "subsampling": 0}
"""How pictures are saved as JPEG: coarser colours would smear the labels."""
_GOLDEN_RATIO = 0.6180339887
_SMALLEST, _LARGEST = 9, 48  # letters, in pixels
_LEAST = 7  # of a label that does not fit into its picture
_PADDING = 2  # around the letters


def class_colour(label: int) -> tuple[int, int, int]:
    """The colour (red, green, blue, 0..255) of a class: the same in every picture, unlike its neighbours'."""
    red, green, blue = colorsys.hsv_to_rgb(label * _GOLDEN_RATIO % 1, 0.9, 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)


def _ink(colour: tuple[int, int, int]) -> str:
    """Black or white, whatever is read better on the colour."""
    red, green, blue = colour
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "white"


def draw(
    image: Tensor, detections: Detections, class_names: Sequence[str] | None = None, min_score: float = 0.25
) -> Tensor:
    """A copy of the image with boxes, class names and scores drawn in, the best on top.

    Labels lie above their boxes where there is room, else beside, inside the picture, and hide each other and
    heads as little as possible.

    :param image: uint8 ``[3, H, W]``
    :param detections: boxes in pixels of this image
    :param class_names: indexed by label; by default the detections' own
    :param min_score: detections below this score are left out
    :raises InputError: if the image is of another kind or a label has no name
    """
    _check_image(image)
    shown = detections.to("cpu").filter(min_score)
    if not len(shown):
        return image.clone()
    height, width = image.shape[1:]
    edges = torch.tensor([width - 1, height - 1, width - 1, height - 1])
    best_first = shown.scores.argsort(descending=True, stable=True)
    boxes = shown.boxes[best_first].clamp(min=0).minimum(edges).long()  # those that reach out stay visible
    labels = shown.labels[best_first].tolist()
    names = class_names_of(labels, shown.names if class_names is None else class_names)
    scored = zip(names, shown.scores[best_first].tolist(), strict=True)
    texts = [f"{name} {score:.2f}" for name, score in scored]
    size = min(max(_SMALLEST, min(height, width) // 30), _LARGEST)
    line = max(2, size // 6)
    picture = to_pil_image(image.cpu())
    canvas = ImageDraw.Draw(picture)
    for box, label in reversed([*zip(boxes.tolist(), labels, strict=True)]):
        colour = class_colour(label)
        if min(box[2] - box[0], box[3] - box[1]) > 4 * line:  # a thin line that shows on any background
            canvas.rectangle(box, outline=_ink(colour), width=line + 1)
        canvas.rectangle(box, outline=colour, width=line)
    fonts = [_font(text, size, width) for text in texts]
    bounds = [font.getbbox(text) for font, text in zip(fonts, texts, strict=True)]
    sizes = [(int(b[2] - b[0]) + 2 * _PADDING, int(b[3] - b[1]) + 2 * _PADDING) for b in bounds]
    corners = place_labels(sizes, boxes.numpy(), (width, height))
    rows = zip(texts, labels, fonts, bounds, sizes, corners, strict=True)
    for text, label, font, bound, (wide, high), (x, y) in reversed([*rows]):
        colour = class_colour(label)
        canvas.rectangle((x, y, x + wide - 1, y + high - 1), fill=colour)
        canvas.text((x + _PADDING - bound[0], y + _PADDING - bound[1]), text, fill=_ink(colour), font=font)
    return pil_to_tensor(picture).to(image.device)


def _font(text: str, size: int, width: int) -> Any:
    """The font for a text in a picture of this width, smaller than ``size`` where it would not fit."""
    font = ImageFont.load_default(size)
    while size > _LEAST and font.getbbox(text)[2] + 2 * _PADDING > width:
        size -= 1
        font = ImageFont.load_default(size)
    return font


def save_image(path: str | Path, image: Tensor) -> None:
    """Write an image as PNG or JPEG (quality 95), by the name's ending, whole or not at all.

    :param path: name ending in .png, .jpg or .jpeg
    :param image: uint8 ``[3, H, W]``
    :raises InputError: if the ending or the image is of another kind
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".png", ".jpg", ".jpeg"):
        raise InputError(f"pictures are saved as .png, .jpg or .jpeg; got {path}")
    _check_image(image)
    with atomic_write(path) as temporary:
        to_pil_image(image.cpu()).save(temporary, **({} if suffix == ".png" else JPEG))


def _check_image(image: Tensor) -> None:
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
        raise InputError(f"a picture must be uint8 [3, H, W]; got {image.dtype} {list(image.shape)}")
