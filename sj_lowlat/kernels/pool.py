"""Max-pooling of spike counts, step by step: one pass over memory where it can be had."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from sj_lowlat.kernels import cpp_kernel
from sj_lowlat.kernels.cpp_build import build
from sj_lowlat.kernels.cpp_source import pool_source
from sj_lowlat.kernels.select import choose
from sj_lowlat.kernels.source import Variant

_CPP_DTYPES = (torch.float32, torch.bfloat16, torch.int8)


def pool_counts(spikes: Tensor, count: Tensor, sent: Tensor, pool: nn.Module) -> Tensor:
    """Send on what the maxima of the counts change by: M(t) - M(t - 1), with M(t) the pool of the counts.

    :param spikes: ``[T, N, *]``
    :param count: net spikes of every input ``[N, *]``, float32 or float64; updated in place
    :param sent: net spikes sent so far, updated in place; of the shape of what ``pool`` makes of ``count``
    :param pool: the max-pool
    :return: spikes ``[T, N, *]`` of the dtype of ``spikes``
    """
    side = _side(pool, spikes)
    if side and choose(spikes.device) == "cpp" and _fit(spikes, count, sent):
        return _pool_cpp(spikes, count, sent, side)
    return _pool_reference(spikes, count, sent, pool)


def _pool_reference(spikes: Tensor, count: Tensor, sent: Tensor, pool: Callable[[Tensor], Tensor]) -> Tensor:
    outputs = []
    for spike in spikes:
        pooled = pool(count.add_(spike))
        outputs.append((pooled - sent).to(spikes.dtype))
        sent.copy_(pooled)
    return torch.stack(outputs)


def _side(pool: nn.Module, spikes: Tensor) -> int:
    """Side of square windows that cover the input once; 0 if they do not."""
    if type(pool) is not nn.MaxPool2d or spikes.dim() != 5:
        return 0
    pairs = (pool.kernel_size, pool.stride, pool.padding, pool.dilation)
    sides, strides, padding, dilation = (v if isinstance(v, tuple) else (v, v) for v in pairs)
    plain = padding == (0, 0) and dilation == (1, 1) and not pool.return_indices
    side = int(sides[0])
    whole = all(length % side == 0 for length in spikes.shape[3:])
    return side if plain and whole and sides == strides == (side, side) else 0


def _fit(spikes: Tensor, count: Tensor, sent: Tensor) -> bool:
    tensors = spikes.flatten(0, 1), count, sent
    return spikes.dtype in _CPP_DTYPES and all(
        t.is_contiguous(memory_format=torch.channels_last) and t.dtype in (spikes.dtype, torch.float32)
        for t in tensors
    )


def _pool_cpp(spikes: Tensor, count: Tensor, sent: Tensor, side: int) -> Tensor:
    steps, batch, channels = spikes.shape[:3]
    height, width = sent.shape[2:]
    out = torch.empty(
        (steps * batch, channels, height, width), dtype=spikes.dtype, memory_format=torch.channels_last
    )
    shape = (steps, batch * height, width, channels, side)
    cpp_kernel.call(_library(spikes.dtype), "pool", *shape, spikes, count, sent, out, torch.get_num_threads())
    return out.unflatten(0, (steps, batch))


@cache
def _library(dtype: torch.dtype) -> ctypes.CDLL:
    library = build(pool_source(Variant(torch.float32, spikes=dtype)))
    assert library is not None  # kernel "cpp" is available
    return library
