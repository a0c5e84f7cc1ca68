"""Max-pooling of spike counts, step by step: one pass over memory where it can be had."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor, nn

from sj_lowlat.kernels import cpp_kernel
from sj_lowlat.kernels.active import is_silent
from sj_lowlat.kernels.cpp_source import pool_source
from sj_lowlat.kernels.select import choose
from sj_lowlat.kernels.source import Variant

_CPP_DTYPES = (torch.float32, torch.bfloat16, torch.int8)


def pool_counts(spikes: Tensor, count: Tensor, sent: Tensor, pool: nn.Module) -> Tensor:
    """Send on what the maxima of the counts change by: M(t) - M(t - 1), with M(t) the pool of the counts.

    :param spikes: ``[T, N, *]``
    :param count: net spikes of every input ``[N, *]``, float32 or float64; updated in place
    :param sent: net spikes sent so far, of the shape of ``pool(count)``; updated in place
    :return: spikes ``[T, N, *]`` of the dtype of ``spikes``
    """
    side = _side(pool, spikes, count, sent) if choose(spikes.device) == "cpp" else 0
    if side:
        with suppress(cpp_kernel.NoKernel):
            return _pool_cpp(spikes, count, sent, side)
    outputs = []
    for spike in spikes:
        pooled = pool(count.add_(spike))
        outputs.append((pooled - sent).to(spikes.dtype))
        sent.copy_(pooled)
    return torch.stack(outputs)


def gate_spikes(spikes: Tensor, count: Tensor, pool: nn.Module) -> Tensor:
    """Let the spikes of each window's input with the highest count pass, the first of equals.

    :param spikes: ``[T, N, *]``
    :param count: net spikes of every input ``[N, *]``, float32 or float64; updated in place
    :return: spikes ``[T, N, *]`` of the dtype of ``spikes``
    """
    side = _side(pool, spikes, count) if choose(spikes.device) == "cpp" else 0
    if side:
        with suppress(cpp_kernel.NoKernel):
            return _pool_cpp(spikes, count, None, side)
    return torch.stack([gate_step(spike, count.add_(spike), pool) for spike in spikes])


def gate_step(spikes: Tensor, count: Tensor, pool: nn.Module) -> Tensor:
    """One step of :func:`gate_spikes`: the derivative of the maxima in the direction of the spikes, that is
    the spikes of the inputs that are the maxima.

    :param spikes: ``[N, *]``
    :param count: net spikes of every input, those of this step included
    """
    moved = spikes.to(count.dtype)
    if torch.is_inference_mode_enabled():  # where older versions of torch give zeros for the derivative
        with torch.inference_mode(False):
            return _passed(moved.clone(), count.clone(), pool).to(spikes.dtype)
    return _passed(moved, count, pool).to(spikes.dtype)


def _passed(spikes: Tensor, count: Tensor, pool: nn.Module) -> Tensor:
    passed: Tensor = torch.func.jvp(pool, (count,), (spikes,))[1]
    return passed


def _side(pool: nn.Module, spikes: Tensor, *states: Tensor) -> int:
    """Side of square windows that cover the input once; 0 if they do not, or for tensors without a kernel."""
    if type(pool) is not nn.MaxPool2d or spikes.dim() != 5 or spikes.dtype not in _CPP_DTYPES:
        return 0
    pairs = (pool.kernel_size, pool.stride, pool.padding, pool.dilation)
    sides, strides, padding, dilation = ((v, v) if isinstance(v, int) else tuple(v) for v in pairs)
    plain = padding == (0, 0) and dilation == (1, 1) and not pool.return_indices
    side = int(sides[0])
    whole = all(length % side == 0 for length in spikes.shape[3:])
    if not plain or not whole or not sides == strides == (side, side):
        return 0
    tensors = (spikes.flatten(0, 1), *states)
    last = all(tensor.is_contiguous(memory_format=torch.channels_last) for tensor in tensors)
    return side if last and {state.dtype for state in states} == {torch.float32} else 0


def _pool_cpp(spikes: Tensor, count: Tensor, sent: Tensor | None, side: int) -> Tensor:
    steps, batch, channels = spikes.shape[:3]
    height, width = (length // side for length in spikes.shape[3:])
    shape = (steps * batch, channels, height, width)
    out = torch.empty(shape, dtype=spikes.dtype, memory_format=torch.channels_last)
    if is_silent(spikes.flatten(0, 1)):  # no maximum changes
        return out.zero_().unflatten(0, (steps, batch))
    arguments = (steps, batch * height, width, channels, side, spikes, count, sent, out)
    variant = Variant(torch.float32, spikes=spikes.dtype)
    cpp_kernel.call(pool_source, variant, "pool", *arguments, torch.get_num_threads())
    return out.unflatten(0, (steps, batch))
