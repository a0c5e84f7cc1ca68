"""Where spikes are not zero: the part of a layer's input that a convolution has to read."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor

from sj_lowlat.kernels import cpp_kernel
from sj_lowlat.kernels.select import choose
from sj_lowlat.kernels.source import Variant

#: first and last row (exclusive), first and last column (exclusive)
Box = tuple[int, int, int, int]
NOTHING: Box = (0, 0, 0, 0)


def active_box(spikes: Tensor) -> Box:
    """The smallest box of rows and columns outside of which all images ``[N, C, H, W]`` are zero.

    It is found in one pass, which ends at once where there are spikes at the edges. Where no C++ kernel runs,
    and for memory that is not channels_last, the box is all of the input, unless that is empty.

    :return: ``NOTHING`` if there is no spike
    """
    _, channels, height, width = spikes.shape
    if not spikes.numel():
        return NOTHING
    here = spikes.device.type == "cpu" and spikes.is_contiguous(memory_format=torch.channels_last)
    if here and choose(spikes.device) == "cpp":
        box, size = torch.empty(4, dtype=torch.int64), channels * spikes.element_size()
        with suppress(cpp_kernel.NoKernel):
            geometry = len(spikes), height, width, size
            cpp_kernel.call(_source, Variant(torch.float32), "active", *geometry, spikes, box, 1)
            top, bottom, left, right = box.tolist()
            return top, bottom, left, right
    return 0, height, 0, width


def is_silent(spikes: Tensor) -> bool:
    """Whether a look at ``[N, C, H, W]`` in passing tells that there is no spike; ``False`` may be either."""
    return spikes.dim() == 4 and active_box(spikes) == NOTHING


def _source(_variant: Variant) -> str:
    return _ACTIVE


_ACTIVE = r"""
typedef long long index_t;
typedef unsigned char byte_t;

static bool zero(const byte_t* bytes, index_t size) {
    while (size > 0) {
        const index_t here = size < 1024 ? size : 1024;
        byte_t any = 0;
        for (index_t i = 0; i < here; ++i) any |= bytes[i];
        if (any) return false;
        bytes += here;
        size -= here;
    }
    return true;
}

// pixel: bytes of all channels of one; box: top, bottom, left, right
extern "C" void active(
    index_t images, index_t height, index_t width, index_t pixel, const byte_t* spikes, index_t* box, index_t)
{
    const index_t row = width * pixel, image = height * row;
    index_t top = height, bottom = 0, left = width, right = 0;
    for (index_t n = 0; n < images; ++n) {
        const byte_t* const start = spikes + n * image;
        index_t y = 0;
        while (y < top && zero(start + y * row, row)) ++y;
        top = y < top ? y : top;
        for (y = height; y > bottom && y > top && zero(start + (y - 1) * row, row);) --y;
        bottom = y > bottom && y > top ? y : bottom;
    }
    for (index_t n = 0; n < images; ++n)
        for (index_t y = top; y < bottom && (left > 0 || right < width); ++y) {
            const byte_t* const start = spikes + n * image + y * row;
            index_t x = 0;
            while (x < left && zero(start + x * pixel, pixel)) ++x;
            left = x < left ? x : left;
            for (x = width; x > right && zero(start + (x - 1) * pixel, pixel);) --x;
            right = x > right ? x : right;
        }
    const index_t found[4] = {top, bottom, left, right};
    for (int i = 0; i < 4; ++i) box[i] = bottom > top ? found[i] : 0;
}
"""
