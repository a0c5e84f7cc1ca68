"""The loop over time on the CPU in one pass over memory, compiled at its first use."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from sj_lowlat.errors import InputError
from sj_lowlat.kernels.cpp_build import build
from sj_lowlat.kernels.cpp_source import cpp_source
from sj_lowlat.kernels.fused import multi_step_fused
from sj_lowlat.kernels.memory import SpikeSums
from sj_lowlat.kernels.rule import FireRule
from sj_lowlat.kernels.source import Variant

# neurons times steps, below which a second thread costs more than it gives
_ONE_THREAD = 1 << 14


@cache
def available() -> bool:
    """Whether there is a C++ compiler that compiles the kernels."""
    return build(cpp_source(Variant(torch.float32))) is not None


def multi_step_cpp(
    currents: Tensor,
    v: Tensor,
    v_threshold: Tensor,
    rule: FireRule,
    count: Tensor | None = None,
    spike_dtype: torch.dtype | None = None,
    sums: SpikeSums | None = None,
) -> Tensor:
    """Run ``T`` steps of a layer of neurons on the CPU; see :func:`sj_lowlat.kernels.multi_step`.

    :raises InputError: if the tensors are elsewhere or there is no C++ compiler
    """
    return multi_step_fused(launch, currents, v, v_threshold, rule, count, spike_dtype, sums)


def launch(
    function: str, variant: Variant, size: int, arguments: Sequence[Any], device: torch.device
) -> None:
    """Run a function of the source; see :data:`sj_lowlat.kernels.fused.Launch`.

    :raises InputError: if the device is not the CPU or there is no C++ compiler
    """
    if device.type != "cpu":
        raise InputError(
            f'the kernel "cpp" runs on the CPU, the tensors are on {device}; choose the kernel "cupy" or '
            '"reference"'
        )
    steps = arguments[0]
    if size and steps:
        threads = 1 if size * steps < _ONE_THREAD else torch.get_num_threads()
        call(_library(variant), function, *arguments, threads)


@cache
def _library(variant: Variant) -> ctypes.CDLL:
    library = build(cpp_source(variant))
    if library is None:
        raise InputError(
            'the kernel "cpp" needs a C++ compiler, and none was found that compiles it: install g++ or '
            'clang++, or name one in CXX; or choose the kernel "reference"'
        )
    return library


def call(library: ctypes.CDLL, function: str, *arguments: Any) -> None:
    """Call a C function with tensors, whole numbers, floats and ``None`` for a null pointer."""
    getattr(library, function)(*map(_argument, arguments))


def _argument(value: Any) -> Any:
    if value is None or isinstance(value, Tensor):
        return ctypes.c_void_p(None if value is None else value.data_ptr())
    return ctypes.c_longlong(value) if isinstance(value, int) else ctypes.c_double(value)
