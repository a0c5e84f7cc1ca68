"""Pictures in whatever form a user has them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from sj_lowlat.data.folder import ImageFolderDataset
from sj_lowlat.data.images import read_image, to_rgb
from sj_lowlat.errors import InputError

__all__ = ["PictureLike", "each_picture", "to_picture"]

PictureLike: TypeAlias = str | os.PathLike[str] | Image.Image | np.ndarray | Tensor
"""A picture's file, a picture of PIL, an array ``[H, W, 3]`` or ``[H, W]``, or a tensor ``[3, H, W]``."""

_ONE = (str, os.PathLike, Image.Image, np.ndarray, Tensor)
_FORMS = (
    "give a file, a folder, a PIL picture, an array [H, W, 3] (RGB, uint8 or 0..1), a tensor [3, H, W] "
    "(uint8 or 0..1), or a list of these"
)


def to_picture(picture: PictureLike) -> Tensor:
    """A picture as uint8 ``[3, H, W]``, RGB.

    :param picture: a file; a picture of PIL (turned upright by its EXIF mark); an array ``[H, W, 3]``,
        ``[H, W, 4]`` (with alpha) or ``[H, W]``, in RGB (OpenCV's is BGR: give ``array[..., ::-1]``); or a
        tensor ``[3, H, W]`` or ``[1, H, W]``; arrays and tensors as uint8, or as floats in [0, 1]
    :raises FileNotFoundError: if there is no such file
    :raises InputError: if it is nothing of these
    """
    if isinstance(picture, str | os.PathLike):
        return read_image(Path(picture))
    if isinstance(picture, Image.Image):
        try:
            return to_rgb(ImageOps.exif_transpose(picture))
        except (OSError, SyntaxError, ValueError) as error:  # of files that are cut off, too
            raise InputError(f"the picture of PIL cannot be used: {error}") from error
    if isinstance(picture, np.ndarray):
        if picture.ndim != 2 and (picture.ndim != 3 or picture.shape[2] not in (1, 3, 4)):
            turn = "; transpose(1, 2, 0) of it" if picture.ndim == 3 and picture.shape[0] in (1, 3) else ""
            raise InputError(f"an array of shape {list(picture.shape)} is no picture: {_FORMS}{turn}")
        values = _bytes(torch.from_numpy(np.array(picture, order="C"))).numpy()
        return to_rgb(Image.fromarray(values[..., 0] if values.shape[2:] == (1,) else values))
    if isinstance(picture, Tensor):
        if picture.ndim != 3 or picture.shape[0] not in (1, 3):
            hint = "; permute(2, 0, 1) of it" if picture.ndim == 3 and picture.shape[2] in (1, 3) else ""
            hint = "; list(tensor) of it" if picture.ndim == 4 else hint
            raise InputError(f"a tensor of shape {list(picture.shape)} is no picture: {_FORMS}{hint}")
        return _bytes(picture.detach().cpu()).expand(3, -1, -1).contiguous()
    raise InputError(f"a {type(picture).__name__} is no picture: {_FORMS}")


def _bytes(values: Tensor) -> Tensor:
    """uint8, and floats in [0, 1] as uint8."""
    if values.dtype == torch.uint8:
        return values
    low, high = (float(values.min()), float(values.max())) if values.numel() else (0.0, 0.0)
    if not values.is_floating_point() or not (low >= 0 and high <= 1):
        raise InputError(
            f"pixels are {values.dtype} from {low:g} to {high:g}: give uint8, or floats in [0, 1]"
        )
    return (values * 255).round().to(torch.uint8)


def is_one_picture(pictures: object) -> bool:
    """Whether this is a single picture, and no list and no folder."""
    if isinstance(pictures, str | os.PathLike):
        return not os.path.isdir(pictures)
    return isinstance(pictures, _ONE) or not isinstance(pictures, Iterable)


def each_picture(pictures: PictureLike | Iterable[PictureLike]) -> Iterator[tuple[str | None, Tensor]]:
    """Read pictures one after another.

    :param pictures: one picture, a folder (with its subfolders), or several of both
    :return: path, if it is a file, and uint8 ``[3, H, W]``
    """
    many = isinstance(pictures, Iterable) and not isinstance(pictures, _ONE)
    for picture in pictures if many else [pictures]:  # type: ignore[union-attr]
        if not isinstance(picture, str | os.PathLike):
            yield None, to_picture(picture)  # type: ignore[arg-type]
            continue
        path = Path(picture)
        for file in ImageFolderDataset(path).images if path.is_dir() else [path]:
            yield str(file), read_image(file)
