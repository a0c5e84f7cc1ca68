"""Reading pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from sj_lowlat.errors import InputError

__all__ = ["image_size", "read_image"]


SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Of files that a search in a folder takes for pictures."""
_FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")  # PIL's other readers are little used, and little tested
_SAFE_PIXELS = 2**24
_PIXELS_A_BYTE = 20  # of larger pictures: no photograph needs less than a twentieth of a byte
_WIDTH, _HEIGHT = 0x0100, 0x0101  # tags of TIFF
_ORIENTATION = 0x0112  # and of EXIF
_LYING = (5, 6, 7, 8)  # width and height are exchanged


def read_image(path: str | Path, size: tuple[float, float] | None = None) -> Tensor:
    """Read a picture (BMP, JPEG, PNG, TIFF, WebP) as RGB: upright, as its EXIF mark says; what is transparent
    shows white, 16 bits become 8.

    :param size: width and height that annotations belong to; a picture that has them only as it is stored is
        not turned
    :return: uint8 ``[3, H, W]``
    :raises FileNotFoundError: if there is no such file
    :raises InputError: if the file is not a whole picture, one of floating-point numbers, or has more than
        16.8 million pixels, 20 for each byte of the file
    """
    with _opened(path) as picture:
        stored = _upright_size(picture) != size and picture.size == size
        if not stored:
            ImageOps.exif_transpose(picture, in_place=True)  # else it copies upright ones, too
        return to_rgb(picture)


def to_rgb(picture: Image.Image) -> Tensor:
    """A picture of PIL as uint8 ``[3, H, W]``: on white where it is transparent, 16 bits become 8.

    :raises ValueError: if its pixels are floating-point numbers, or have more than 16 bits
    """
    eight = _eight_bits(picture)
    if eight.has_transparency_data:
        layer = eight.convert("RGBA")
        eight = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return pil_to_tensor(eight if eight.mode == "RGB" else eight.convert("RGB")).contiguous()


def image_size(path: str | Path) -> tuple[int, int]:
    """Width and height in pixels of the upright picture, from the file's header; raises as
    :func:`read_image`."""
    with _opened(path) as picture:
        return _upright_size(picture)


def _upright_size(picture: Image.Image) -> tuple[int, int]:
    width, height = picture.size
    tags = getattr(picture, "tag_v2", {})  # of a TIFF, whose size PIL gives as it is upright
    stored = (tags.get(_WIDTH, width), tags.get(_HEIGHT, height)) == picture.size
    turned = picture.getexif().get(_ORIENTATION) in _LYING
    return (height, width) if stored and turned else (width, height)


def _eight_bits(picture: Image.Image) -> Image.Image:
    """A picture of 16 bits in 8; PIL's own conversion would cut off all above 255."""
    if picture.mode == "F":
        raise ValueError(
            "its pixels are floating-point numbers, of which nobody knows the white: save 8 bits"
        )
    if not picture.mode.startswith("I"):
        return picture
    grey = np.asarray(picture)
    if grey.min() < 0 or grey.max() > 65535:
        raise ValueError("its pixels have 32 bits: save it with 8 or 16")
    deep = picture.mode != "I" or grey.max() > 255
    return Image.fromarray((grey // 257 if deep else grey).astype(np.uint8))


@contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no image at {path}: check the path")
    if not path.is_file():  # a FIFO would be waited for
        raise InputError(f"{path} is a folder or device: give a picture's file")
    try:
        with Image.open(path, formats=_FORMATS) as picture:
            pixels, bytes_ = math.prod(picture.size), path.stat().st_size
            if pixels > max(_SAFE_PIXELS, _PIXELS_A_BYTE * bytes_):
                raise ValueError(f"{picture.width} x {picture.height} px in {bytes_} bytes are no photograph")
            yield picture
    except Exception as error:  # PIL's readers raise whatever their parsers stumble over
        text = str(error) or type(error).__name__
        raise InputError(f"cannot read the image {path} ({text}): skip it or fix the file") from error
