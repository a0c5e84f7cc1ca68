"""Fit a picture of any size into a square network input, and bring boxes back."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from sj_lowlat.data.sample import check_image
from sj_lowlat.errors import InputError

__all__ = ["Letterbox", "letterbox"]

_GREY = 0.5
RESIZES = ("letterbox", "stretch")


@dataclass(frozen=True)
class Letterbox:
    """Where a picture lies in the network input.

    A point maps as ``x_network = x_image * scale_x + pad_x``. ``scale_x = resized_width / width`` differs
    from ``scale`` by the rounding to whole pixels, so that boxes follow the pixels exactly.

    :param scale: network pixels per image pixel, before rounding
    :param pad_x: columns left of the picture
    :param pad_y: rows above the picture
    :param width: in the picture's own pixels, like ``height``
    :param stretched: side of the network input that the picture fills, each axis scaled by itself; 0 for a
        picture that keeps its proportions
    """

    scale: float
    pad_x: int
    pad_y: int
    width: int
    height: int
    stretched: int = 0

    @classmethod
    def fit(cls, width: int, height: int, size: int, resize: str = "letterbox") -> Letterbox:
        """The letterbox that centres a picture in a square of side ``size``.

        :param resize: ``"stretch"`` fills the square, whatever the picture's proportions (AlexeyAB's darknet)
        :raises InputError: if a length is not positive, or there is no such way
        """
        if resize not in RESIZES:
            raise InputError(f"resize is {resize!r}, it must be one of {', '.join(RESIZES)}")
        if min(width, height, size) < 1:
            raise InputError(
                f"a picture of {width} x {height} cannot be fitted into {size} px: all must be at least 1"
            )
        scale = min(size / width, size / height)
        inner = cls(scale, 0, 0, width, height, size if resize == "stretch" else 0)
        pad_x, pad_y = (size - inner.resized_width) // 2, (size - inner.resized_height) // 2
        return replace(inner, pad_x=pad_x, pad_y=pad_y)

    @property
    def resized_width(self) -> int:
        """In network pixels."""
        return self.stretched or max(1, round(self.width * self.scale))

    @property
    def resized_height(self) -> int:
        """In network pixels."""
        return self.stretched or max(1, round(self.height * self.scale))

    def _affine(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        scale_x, scale_y = self.resized_width / self.width, self.resized_height / self.height
        return boxes.new_tensor([scale_x, scale_y] * 2), boxes.new_tensor([self.pad_x, self.pad_y] * 2)

    def to_network(self, boxes: Tensor) -> Tensor:
        """Image pixels -> network pixels, for float boxes ``[..., 4]``, x1 y1 x2 y2."""
        scale, pad = self._affine(boxes)
        return boxes * scale + pad

    def to_image(self, boxes: Tensor) -> Tensor:
        """Network pixels -> image pixels, the inverse of :meth:`to_network`, clipped to the picture."""
        scale, pad = self._affine(boxes)
        limit = boxes.new_tensor([self.width, self.height] * 2)
        return ((boxes - pad) / scale).clamp(min=boxes.new_zeros(4), max=limit)


def letterbox(image: Tensor, size: int, resize: str = "letterbox") -> tuple[Tensor, Letterbox]:
    """Resize a picture (bilinear, antialiased) so that its longer side is ``size``, and pad it with grey 0.5.

    :param resize: ``"stretch"``: resize it to ``size`` on both sides instead
    :return: float32 ``[3, size, size]`` in [0, 1], and where the picture lies in it
    :raises InputError: if ``image`` is not uint8 ``[3, H, W]`` or ``size`` is not positive
    """
    check_image(image)
    height, width = image.shape[-2:]
    box = Letterbox.fit(width, height, size, resize)
    rows, columns = box.resized_height, box.resized_width
    resized = F.resize(image, [rows, columns], antialias=True)
    square = torch.full((3, size, size), _GREY)
    square[:, box.pad_y : box.pad_y + rows, box.pad_x : box.pad_x + columns] = resized.float() / 255
    return square, box
