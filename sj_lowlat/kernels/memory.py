"""How the neurons lie in memory, which is all that the C++ kernels know of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class SpikeSums:
    """What a monitor needs to know of the spikes of ``[N, C, *]`` neurons, summed while they are made.

    :param active: steps in which each neuron fired, int32 ``[N, C, *]``
    :param net: sum of the spikes of each channel, int64 ``[C]``
    :param absolute: sum of their sizes, int64 ``[C]``
    """

    active: Tensor
    net: Tensor
    absolute: Tensor

    @classmethod
    def of(cls, v: Tensor) -> SpikeSums:
        """Sums of 0 for the neurons of ``v``."""
        per_channel = torch.zeros(2, v.shape[1], dtype=torch.int64, device=v.device)
        return cls(torch.zeros_like(v, dtype=torch.int32), *per_channel)

    def add_(self, spikes: Tensor) -> None:
        """Add spikes ``[T, N, C, *]``."""
        for spike in spikes:  # step by step: a copy of all steps would grow with T
            self.active += spike != 0
            whole = spike.to(torch.int64).movedim(1, 0).flatten(1)
            self.net += whole.sum(1)
            self.absolute += whole.abs().sum(1)


@dataclass(frozen=True)
class StepMemory:
    """How the neurons ``[N, *]`` of a step lie in memory: axes in any order, no gaps. Kernels see no axes."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, currents: Tensor, v: Tensor) -> StepMemory:
        """Like a step of the currents ``[T, N, *]``, else like V, else contiguous."""
        shape = tuple(v.shape)
        for strides in (currents.stride()[1:], v.stride()):
            if _without_gaps(shape, strides):
                return cls(shape, usual_strides(shape, strides))
        return cls(shape, torch.empty(shape, device="meta").stride())

    @property
    def size(self) -> int:
        """Neurons of a step."""
        return torch.Size(self.shape).numel()

    def empty(self, like: Tensor, dtype: torch.dtype | None = None, steps: int | None = None) -> Tensor:
        """``[N, *]`` or ``[steps, N, *]`` on the device of ``like``; by default of its dtype."""
        shape, strides = self.shape, self.strides
        if steps is not None:
            shape, strides = (steps, *shape), (self.size, *strides)
        return torch.empty_strided(shape, strides, dtype=dtype or like.dtype, device=like.device)

    def laid_out(self, tensor: Tensor) -> Tensor:
        """``[N, *]`` in this order: the tensor itself where it is so already, else a copy."""
        return tensor if self._fits(tensor.stride()) else self.empty(tensor).copy_(tensor)

    def laid_out_steps(self, tensor: Tensor) -> Tensor:
        """``[T, N, *]`` with each step in this order, itself or a copy; a constant stays one step long."""
        if self._fits(tensor.stride()[1:]):
            return tensor
        if len(tensor) and not tensor.stride(0):
            return self.laid_out(tensor[0]).expand_as(tensor)
        return self.empty(tensor, steps=len(tensor)).copy_(tensor)

    def channels(self) -> tuple[int, int]:
        """``(channels, inner)``: neuron i is of channel ``i // inner % channels``."""
        return (self.shape[1], max(1, self.strides[1])) if len(self.shape) > 1 else (1, 1)

    def per_channel(self, values: Tensor) -> tuple[Tensor, int, int]:
        """Thresholds as ``(flat, channels, inner)``: neuron i has ``flat[i // inner % channels]``."""
        if not values.dim():
            return values, 1, 1
        values = values.expand(self.shape)
        sizes = zip(self.shape, values.stride(), strict=True)
        axes = [axis for axis, (n, stride) in enumerate(sizes) if n > 1 and stride]
        if len(axes) > 1:
            return self.empty(values).copy_(values), self.size, 1
        if not axes:
            return values.as_strided((min(1, values.numel()),), (1,)), 1, 1
        (axis,) = axes
        own = values.as_strided((self.shape[axis],), (values.stride(axis),))
        return own, self.shape[axis], self.strides[axis]

    def _fits(self, strides: Sequence[int]) -> bool:
        return all(n == 1 or a == b for n, a, b in zip(self.shape, self.strides, strides, strict=True))


def usual_strides(shape: Sequence[int], strides: Sequence[int]) -> tuple[int, ...]:
    """The same memory with the strides that channels_last has: strides of axes of length 1 mean nothing, but
    torch goes by them."""
    if len(shape) == 4 and strides[1] == 1:
        _, channels, height, width = shape
        last = (height * width * channels, 1, width * channels, channels)
        if all(n == 1 or a == b for n, a, b in zip(shape, strides, last, strict=True)):
            return last
    return tuple(strides)


def _without_gaps(shape: Sequence[int], strides: Sequence[int]) -> bool:
    size = 1
    for stride, n in sorted((stride, n) for stride, n in zip(strides, shape, strict=True) if n != 1):
        if stride != size:
            return False
        size *= n
    return True
