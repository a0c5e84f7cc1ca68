"""Reading pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sj_lowlat.errors import InputError

__all__ = ["image_size", "read_image"]


def read_image(path: str | Path) -> Tensor:
    """Read a picture as RGB; grey and palette pictures are turned into RGB, an alpha channel is dropped.

    :param path: any file that PIL reads
    :return: uint8 ``[3, H, W]``
    :raises FileNotFoundError: if there is no such file
    :raises InputError: if the file is not a whole picture
    """
    try:
        with Image.open(path) as picture:
            pixels = np.array(picture.convert("RGB"))
    except FileNotFoundError:
        raise FileNotFoundError(f"no image at {path}: check the path") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            f"cannot read the image {path} ({error}): replace it or take it off the list"
        ) from error
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()  # [H, W, 3] -> [3, H, W]


def image_size(path: str | Path) -> tuple[int, int]:
    """Width and height in pixels, from the file's header.

    :param path: any file that PIL reads
    :raises InputError: if the file is not a picture
    """
    try:
        with Image.open(path) as picture:
            return picture.size
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(
            f"cannot read the image {path} ({error}): replace it or take it off the list"
        ) from error
