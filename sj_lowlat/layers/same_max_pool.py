"""Darknet's max-pool."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class SameMaxPool(nn.MaxPool2d):
    """Darknet's max-pool, which pads the odd row and column below and to the right.

    So size 2 with stride 1 keeps the map's size.

    :param size: side of the window
    :param stride: step of the window
    :param padding: rows (and columns) added in all, ``size - 1`` in darknet unless the cfg says otherwise
    """

    def __init__(self, size: int, stride: int, padding: int) -> None:
        super().__init__(size, stride)
        self.before = padding // 2
        self.after = padding - self.before

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to ``[N, C, (H + padding - size) // stride + 1, likewise]``."""
        sides = (self.before, self.after, self.before, self.after)
        return super().forward(F.pad(x, sides, value=float("-inf")))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, before={self.before}, after={self.after}"
