"""Reading pictures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from sj_lowlat.errors import InputError

__all__ = ["image_size", "read_image"]


def read_image(path: str | Path) -> Tensor:
    """Read a picture, in any format of PIL, as RGB; an alpha channel is dropped.

    :return: uint8 ``[3, H, W]``
    :raises FileNotFoundError: if there is no such file
    :raises InputError: if the file is not a whole picture
    """
    with _opened(path) as picture:
        return pil_to_tensor(picture.convert("RGB")).contiguous()


def image_size(path: str | Path) -> tuple[int, int]:
    """Width and height in pixels, from the file's header; raises as :func:`read_image`."""
    with _opened(path) as picture:
        return picture.size


@contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as picture:
            yield picture
    except FileNotFoundError:
        raise FileNotFoundError(f"no image at {path}: check the path") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            f"cannot read the image {path} ({error}): replace it or take it off the list"
        ) from error
