"""The loop over time on a GPU in one CUDA kernel, through CuPy; no copies between torch and CuPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from sj_lowlat.errors import InputError
from sj_lowlat.kernels.cuda_source import OPTIONS, Variant, cuda_source
from sj_lowlat.kernels.reference import multi_step_reference
from sj_lowlat.kernels.rule import FireRule

_THREADS = 256
_MOST_BLOCKS = 2**16  # beyond that a thread takes several neurons


@dataclass
class SpikeSums:
    """What a monitor needs to know of the spikes, summed while they are made; int32 ``[N, *]``.

    :param active: steps in which each neuron fired
    :param net: sum of its spikes
    :param absolute: sum of their sizes
    """

    active: Tensor
    net: Tensor
    absolute: Tensor

    @classmethod
    def of(cls, v: Tensor) -> SpikeSums:
        """Sums of 0 for the neurons of ``v``."""
        return cls(*(torch.zeros_like(v, dtype=torch.int32) for _ in range(3)))

    def add_(self, spikes: Tensor) -> None:
        """Add spikes ``[T, N, *]``."""
        for spike in spikes:
            self.active += spike != 0
            self.net += spike.int()
            self.absolute += spike.abs().int()


@dataclass(frozen=True)
class StepMemory:
    """How the neurons of a step lie in memory, without gaps; kernels see memory and no axes.

    :param shape: ``[N, *]``
    :param strides: of its axes, in any order
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, currents: Tensor, v: Tensor) -> StepMemory:
        """Like a step of the currents ``[T, N, *]``, else like V, else contiguous."""
        shape = tuple(v.shape)
        for strides in (currents.stride()[1:], v.stride()):
            if _without_gaps(shape, strides):
                return cls(shape, strides)
        return cls(shape, torch.empty(shape, device="meta").stride())

    @property
    def size(self) -> int:
        """Neurons of a step."""
        return torch.Size(self.shape).numel()

    def empty(self, like: Tensor, dtype: torch.dtype | None = None, steps: int | None = None) -> Tensor:
        """``[N, *]`` or ``[steps, N, *]`` on the device of ``like``, and of its dtype if none is given."""
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

    def per_channel(self, values: Tensor) -> tuple[Tensor, int, int]:
        """Thresholds as ``(flat, channels, inner)``: neuron i has ``flat[i // inner % channels]``."""
        values = values.expand(self.shape)
        sizes = zip(self.shape, values.stride(), strict=True)
        axes = [axis for axis, (n, stride) in enumerate(sizes) if n > 1 and stride]
        if len(axes) > 1:
            return self.empty(values).copy_(values), self.size, 1
        for axis in set(range(values.dim())).difference(axes):
            values = values.narrow(axis, 0, min(1, self.shape[axis]))
        return values.flatten(), values.numel(), self.strides[axes[0]] if axes else 1

    def _fits(self, strides: Sequence[int]) -> bool:
        return all(n == 1 or a == b for n, a, b in zip(self.shape, self.strides, strides, strict=True))


def _without_gaps(shape: Sequence[int], strides: Sequence[int]) -> bool:
    size = 1
    for stride, n in sorted((stride, n) for stride, n in zip(strides, shape, strict=True) if n != 1):
        if stride != size:
            return False
        size *= n
    return True


@cache
def available() -> bool:
    """Whether CuPy can be imported, sees a GPU and can compile for it."""
    if not torch.cuda.is_available():
        return False
    try:
        import cupy

        cupy.RawKernel('extern "C" __global__ void nothing() {}', "nothing").compile()
    except Exception:  # not installed, for another CUDA, without NVRTC: each has an error of its own
        return False
    return True


def multi_step_cupy(
    currents: Tensor,
    v: Tensor,
    v_threshold: Tensor,
    rule: FireRule,
    count: Tensor | None = None,
    sums: SpikeSums | None = None,
) -> Tensor:
    """Run ``T`` steps of a layer of neurons on a GPU; see :func:`sj_lowlat.kernels.multi_step`.

    V must be float32 for float32, float16 and bfloat16 currents and float64 for float64; anything else goes
    to the reference.

    :param sums: if given, the spikes are added to it
    :raises InputError: if the tensors are not on one GPU or CuPy is not installed
    """
    count = count if rule.kind == "signed" else None
    variant = variant_for(currents, v, v_threshold, rule, count)
    if variant is None:
        spikes = multi_step_reference(currents, v, v_threshold, rule, count)
        if sums is not None:
            sums.add_(spikes)
        return spikes
    memory = StepMemory.of(currents, v)
    written = [v, count, *((None,) * 3 if sums is None else (sums.active, sums.net, sums.absolute))]
    laid_out = [None if tensor is None else memory.laid_out(tensor) for tensor in written]
    spikes = run_neurons(variant, memory, currents, v_threshold, rule, laid_out)
    for tensor, copy in zip(written, laid_out, strict=True):
        if tensor is not None and copy is not None and copy is not tensor:
            tensor.copy_(copy)
    return spikes


def variant_for(
    currents: Tensor,
    v: Tensor,
    v_threshold: Tensor,
    rule: FireRule,
    count: Tensor | None,
    training: bool = False,
) -> Variant | None:
    """The variant of the kernels for these tensors, or ``None``.

    :raises InputError: if currents and states lie on different devices
    """
    state = [v] if count is None else [v, count]
    for tensor in state:
        if tensor.device != currents.device:
            raise InputError(
                f"currents are on {currents.device}, the state of the neurons is on {tensor.device}; "
                "move both to one GPU"
            )
    membrane = Variant.membrane_of(currents.dtype)
    # by a threshold on the CPU torch divides in another way
    if v_threshold.device != v.device or any(t.dtype != membrane for t in (*state, v_threshold)):
        return None
    if training and (rule.slope or rule.burst > 1):
        return None
    return Variant.of(currents.dtype, rule, training)


def run_neurons(
    variant: Variant,
    memory: StepMemory,
    currents: Tensor,
    v_threshold: Tensor,
    rule: FireRule,
    written: Sequence[Tensor | None],
    potentials: Tensor | None = None,
) -> Tensor:
    """Launch the forward kernel.

    :param written: V, count and the three :class:`SpikeSums`, laid out in ``memory``; updated
    :param potentials: in training V before firing is written there, ``[T, N, *]``
    :return: spikes
    """
    rows = memory.laid_out_steps(currents)
    spikes = memory.empty(currents, steps=len(currents))
    thresholds, channels, inner = memory.per_channel(v_threshold)
    # by torch, as in the reference: on a GPU it divides by a number in two roundings
    lows = memory.per_channel(v_threshold / rule.slope)[0] if rule.slope else None
    v, count, *sums = written
    arguments = (
        *(len(rows), memory.size, rows, rows.stride(0), v, count),
        *(thresholds, lows, channels, inner, highest_count(rule), float(rule.burst)),
        *(spikes, potentials, *sums),
    )
    launch("neurons", variant, memory.size, arguments, currents.device)
    return spikes


def highest_count(rule: FireRule) -> float:
    """``max_count`` as the kernels take it."""
    return float("inf") if rule.max_count is None else float(rule.max_count)


def launch(
    function: str, variant: Variant, size: int, arguments: Sequence[Any], device: torch.device
) -> None:
    """Run a function of the source on ``size`` neurons, on torch's current stream.

    :param arguments: tensors, numbers, and ``None`` for a null pointer
    :raises InputError: if the device is no GPU or CuPy is not installed
    """
    if device.type != "cuda":
        raise InputError(
            f'the kernel "cupy" runs on a GPU, the tensors are on {device}; move the network and its input '
            'to "cuda", or choose the kernel "reference"'
        )
    kernel = _compiled(function, variant)
    if not size:
        return
    import cupy

    values = [a.data_ptr() if isinstance(a, Tensor) else 0 if a is None else a for a in arguments]
    blocks = min(-(-size // _THREADS), _MOST_BLOCKS)
    with cupy.cuda.Device(device.index), _current_stream(device):
        kernel((blocks,), (_THREADS,), tuple(values))


@cache
def _compiled(function: str, variant: Variant) -> Any:
    """The kernel, which CuPy compiles at its first use on each device and keeps on disk."""
    try:
        import cupy
    except ImportError as error:
        raise InputError(
            'the kernel "cupy" needs CuPy for the CUDA of torch (see torch.version.cuda): '
            'pip install "sj-lowlat[cuda12]" or "sj-lowlat[cuda13]"; or choose the kernel "reference"'
        ) from error
    return cupy.RawKernel(cuda_source(variant), function, OPTIONS)


def _current_stream(device: torch.device) -> Any:
    import cupy

    stream = torch.cuda.current_stream(device)
    if hasattr(cupy.cuda.Stream, "from_external") and hasattr(stream, "__cuda_stream__"):
        return cupy.cuda.Stream.from_external(stream)
    return cupy.cuda.ExternalStream(stream.cuda_stream, device.index)  # deprecated in CuPy 14
