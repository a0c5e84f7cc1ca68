"""Detections drawn into their picture."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

from sj_lowlat.detect.detections import Detections, class_names_of
from sj_lowlat.errors import InputError
from sj_lowlat.files import atomic_write

_GOLDEN_RATIO = 0.6180339887


def class_colour(label: int) -> tuple[int, int, int]:
    """The colour (red, green, blue, 0..255) of a class: the same in every picture, unlike its neighbours'."""
    red, green, blue = colorsys.hsv_to_rgb(label * _GOLDEN_RATIO % 1, 0.9, 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw(
    image: Tensor, detections: Detections, class_names: Sequence[str], min_score: float = 0.25
) -> Tensor:
    """A copy of the image with boxes, class names and scores drawn in, the best on top.

    :param image: uint8 ``[3, H, W]``
    :param detections: boxes in pixels of this image
    :param min_score: detections below this score are left out
    :raises InputError: if the image is of another kind or a label has no name
    """
    _check_image(image)
    shown = detections.to("cpu").filter(min_score)
    if not len(shown):
        return image.clone()
    best_last = shown.scores.argsort(stable=True)
    height, width = image.shape[1:]
    edges = torch.tensor([width - 1, height - 1, width - 1, height - 1])
    boxes = shown.boxes[best_last].clamp(min=0).minimum(edges)  # keeps labels of boxes that reach out visible
    labels = shown.labels[best_last].tolist()
    scored = zip(class_names_of(labels, class_names), shown.scores[best_last].tolist(), strict=True)
    texts = [f"{name} {score:.2f}" for name, score in scored]
    size = max(12, min(height, width) // 32)
    line = max(2, size // 6)
    picture, font = to_pil_image(image.cpu()), ImageFont.load_default(size)
    canvas = ImageDraw.Draw(picture)
    for box, label, text in zip(boxes.long().tolist(), labels, texts, strict=True):
        colour = red, green, blue = class_colour(label)
        bright = 0.299 * red + 0.587 * green + 0.114 * blue > 140
        canvas.rectangle(box, outline=colour, width=line)
        corner = box[0] + line + 1, box[1] + line + 1
        left, top, right, bottom = canvas.textbbox(corner, text, font=font)
        canvas.rectangle((left - 1, top - 1, right + 1, bottom + 1), fill=colour)
        canvas.text(corner, text, fill="black" if bright else "white", font=font)
    return pil_to_tensor(picture).to(image.device)


def save_image(path: str | Path, image: Tensor) -> None:
    """Write an image as PNG or JPEG, by the name's ending, whole or not at all.

    :param path: name ending in .png, .jpg or .jpeg
    :param image: uint8 ``[3, H, W]``
    :raises InputError: if the ending or the image is of another kind
    """
    if Path(path).suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise InputError(f"pictures are saved as .png, .jpg or .jpeg; got {path}")
    _check_image(image)
    with atomic_write(path) as temporary:
        to_pil_image(image.cpu()).save(temporary)


def _check_image(image: Tensor) -> None:
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
        raise InputError(f"a picture must be uint8 [3, H, W]; got {image.dtype} {list(image.shape)}")
