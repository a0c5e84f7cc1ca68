"""The part of a convolution that spikes reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sj_lowlat.kernels.active import NOTHING, active_box

_CELLS = 8  # of the grid that parts lie on, in each direction: oneDNN compiles code for each new shape
#: share of the input beyond which all of it is taken
WORTH = 0.7


@dataclass(frozen=True)
class Span:
    """One direction of a window.

    :param start: first input
    :param stop: last input, exclusive
    :param out: first output
    """

    start: int
    stop: int
    out: int

    @classmethod
    def around(cls, first: int, last: int, length: int, geometry: tuple[int, int, int, int]) -> Span:
        """Inputs whose own convolution gives all outputs that read ``first`` to ``last`` (exclusive).

        Zeros lie around them, as the padding of a smaller convolution says. Output i reads
        ``s i - p, ..., s i - p + d (k - 1)``, so the first that reads ``first`` is
        ``ceil((first + p - d (k - 1)) / s)``, and the last one ``floor((last - 1 + p) / s)``. The part begins
        at a multiple of the stride, so that its outputs are outputs of the whole.

        :param geometry: kernel size k, stride s, padding p, dilation d
        """
        k, s, p, d = geometry
        cell = -(-length // _CELLS)
        first, last = first // cell * cell, min(length, -(-last // cell) * cell)
        reach = d * (k - 1)
        out = max(0, min(-(-(first + p - reach) // s), first // s, (length + 2 * p - reach - 1) // s))
        final = (last - 1 + p) // s
        stop = max(last, s * out + s * (final - out) - 2 * p + reach + 1)
        return cls(s * out, min(length, stop), out)


def convolve_active(
    conv: nn.Conv2d, x: Tensor, bias: Tensor | None, dense: Callable[[Tensor, Tensor | None], Tensor]
) -> Tensor:
    """A convolution of spikes that leaves out rows and columns at the edges where there are none.

    :param conv: with zero padding in numbers
    :param x: spikes ``[N, C, H, W]``
    :param dense: the convolution
    :return: what ``dense(x, bias)`` gives, in floats to the last bit or so: sums may run in another order
    """
    top, bottom, left, right = box = active_box(x)
    height, width = x.shape[2:]
    if (bottom - top) * (right - left) > WORTH * height * width:
        return dense(x, bias)
    layer: Any = conv
    kernel, stride, padding, dilation = layer.kernel_size, layer.stride, layer.padding, layer.dilation
    sides = [
        (length + 2 * p - d * (k - 1) - 1) // s + 1
        for length, k, s, p, d in zip((height, width), kernel, stride, padding, dilation, strict=True)
    ]
    shape = len(x), conv.out_channels, *sides
    dtype = conv.weight.dtype
    whole = torch.empty(shape, dtype=dtype, device=x.device, memory_format=torch.channels_last)
    whole.zero_() if bias is None else whole.copy_(bias.view(-1, 1, 1).expand(shape))
    if box == NOTHING:
        return whole
    vertical, horizontal = zip(kernel, stride, padding, dilation, strict=True)
    rows, columns = Span.around(top, bottom, height, vertical), Span.around(left, right, width, horizontal)
    part = dense(x[:, :, rows.start : rows.stop, columns.start : columns.stop], bias)
    below, beside = part.shape[2:]
    whole[:, :, rows.out : rows.out + below, columns.out : columns.out + beside] = part
    return whole
