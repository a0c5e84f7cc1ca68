"""Layers in train mode that look at a whole batch, where each process has a part of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from sj_lowlat import distributed

_DROPOUTS = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d)


class WholeBatch(TorchFunctionMode):
    """Context manager: networks compute on their part what one process would compute on the whole batch.

    Batch norms take their statistics over all processes (:class:`torch.nn.SyncBatchNorm` does it on GPUs
    only), and dropout takes its part of the batch's random numbers. Other layers that draw random numbers or
    mix pictures are left as they are.

    :param batch_size: pictures in all processes, shared as :func:`~sj_lowlat.distributed.share` says
    """

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self.batch_size = batch_size

    def __torch_function__(
        self, function: Callable[..., Any], _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is F.batch_norm:
            return batch_norm(*args, **kwargs)
        if function in _DROPOUTS:
            return self._dropout(function, *args, **kwargs)
        return function(*args, **kwargs)

    def _dropout(
        self,
        function: Callable[..., Tensor],
        x: Tensor,
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
    ) -> Tensor:
        own = distributed.share(self.batch_size)
        if not training or len(x) != len(own):
            return function(x, p, training, inplace)
        ones = torch.empty_like(x[:1]).expand(self.batch_size, *x.shape[1:])
        ones = torch.ones_like(ones, memory_format=_memory_format(x))
        return x * function(ones, p, training)[own.start : own.stop]


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``torch.nn.functional.batch_norm``, in training over all processes, with one message each way."""
    if not training:
        return F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    var, mean = torch.var_mean(wide, [axis for axis in range(x.dim()) if axis != 1], correction=0)
    var, mean, own = var.double(), mean.double(), x.numel() // x.shape[1]
    # in float64, where the square of the mean can be taken from the mean of the squares
    sums = torch.cat((own * mean, own * (var + mean.square()), mean.new_full((1,), own)))
    *moments, count = distributed.total(sums).split([len(mean), len(mean), 1])
    mean, square = (moment / count for moment in moments)
    var = (square - mean.square()).clamp_min(0)
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((var * count / (count - 1)).to(running_var.dtype), momentum)
    shape = [1, -1] + [1] * (x.dim() - 2)
    scale = (var + eps).rsqrt() * (1 if weight is None else weight)
    out = (wide - mean.to(wide.dtype).view(shape)) * scale.to(wide.dtype).view(shape)
    return (out if bias is None else out + bias.view(shape)).to(x.dtype)


def _memory_format(x: Tensor) -> torch.memory_format:
    """That of ``x``, in which random numbers are drawn."""
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format
