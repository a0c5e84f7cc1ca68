"""What of a new frame is sent: changes beyond a dead zone; and when a run starts anew."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sj_lowlat.errors import InputError
from sj_lowlat.schedule import whole

__all__ = ["DeadZone", "is_cut"]


@dataclass(frozen=True)
class DeadZone:
    r"""Changes that are too small to be sent wait until they have grown.

    With s, the picture as the network knows it, and x, the new frame, a block B of pixels is sent,
    :math:`s \leftarrow x`, where :math:`\frac{1}{|B|} \sum_{B} |x - s| > threshold`; the mean is over its
    pixels and channels. Elsewhere s stays, and the difference waits: s is never further from x than that, and
    nothing is lost.

    :param threshold: grey value in [0, 1); 0 sends every change
    :param block: side of a block in pixels; 1 looks at each pixel alone
    :raises InputError: if one of them is not possible
    """

    threshold: float = 0.0
    block: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1:
            raise InputError(
                f"threshold is {self.threshold}, it must be a grey value in [0, 1), such as 0.02 (5 of 255)"
            )
        whole("block", self.block, 1, "1 for single pixels")

    def update(self, sent: Tensor, image: Tensor) -> Tensor:
        """The picture that the network is to know.

        :param sent: the one that it knows, ``[N, C, H, W]``
        :param image: the new frame, of the same shape
        """
        if not self.threshold:
            return image
        size = (image - sent).abs().mean(1, keepdim=True)
        if self.block > 1:
            # ceil_mode: the last blocks may be smaller, and their mean is over the pixels that they have
            blocks = F.avg_pool2d(size, self.block, ceil_mode=True)
            size = blocks.repeat_interleave(self.block, 2).repeat_interleave(self.block, 3)
            size = size[..., : image.shape[2], : image.shape[3]]
        return torch.where(size > self.threshold, image, sent)


def is_cut(sent: Tensor, image: Tensor, limit: float) -> bool:
    r"""Whether a frame shows something else, so that starting anew sends less than the change does.

    A picture of its own costs its contrast, a change its size:
    :math:`\sum |x - s| > limit \cdot \sum |x - \bar x|`, with the mean over the pixels of each channel. For
    two pictures that have nothing in common the left side is about 1.4 times the right one, or more.

    :param sent: the picture that the network knows, ``[N, C, H, W]``
    :param image: the new frame, of the same shape
    """
    contrast = (image - image.mean((-2, -1), keepdim=True)).abs().sum()
    return bool((image - sent).abs().sum() > limit * contrast)
