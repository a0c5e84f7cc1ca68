"""The loop over time on the CPU in one pass over memory, compiled at its first use."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from sj_lowlat.errors import InputError
from sj_lowlat.kernels.cpp_build import build
from sj_lowlat.kernels.cpp_source import cpp_source
from sj_lowlat.kernels.source import Variant

# neurons times steps, below which a second thread costs more than it gives
_ONE_THREAD = 1 << 14


class NoKernel(InputError):
    """A kernel that cannot be compiled; nothing has been changed."""


@cache
def available() -> bool:
    """Whether there is a C++ compiler that compiles the kernels."""
    return build(cpp_source(Variant(torch.float32)), "neurons") is not None


def launch(
    function: str, variant: Variant, size: int, arguments: Sequence[Any], device: torch.device
) -> None:
    """Run a function of the source; see :data:`sj_lowlat.kernels.fused.Launch`.

    :raises InputError: if the device is not the CPU
    :raises NoKernel: if there is no C++ compiler
    """
    if device.type != "cpu":
        raise InputError(
            f'the kernel "cpp" runs on the CPU, the tensors are on {device}; choose the kernel "cupy" or '
            '"reference"'
        )
    steps = arguments[0]
    if size and steps:
        threads = 1 if size * steps < _ONE_THREAD else torch.get_num_threads()
        call(cpp_source, variant, function, *arguments, threads)


def call(source: Callable[[Variant], str], variant: Variant, function: str, *arguments: Any) -> None:
    """Call a C function with tensors, whole numbers, floats and ``None`` for a null pointer.

    :param arguments: its last one is the number of threads
    :raises NoKernel: if there is no C++ compiler
    """
    compiled = _compiled(source, variant, function)
    if arguments[-1] > 1:
        _one_thread_in_forks()
    compiled(*map(_argument, arguments))


@cache
def _compiled(source: Callable[[Variant], str], variant: Variant, function: str) -> Callable[..., Any]:
    library = build(source(variant), function)
    if library is None:
        raise NoKernel(
            'the kernel "cpp" needs a C++ compiler, and none was found that compiles it: install g++ or '
            'clang++, or name one in CXX; or choose the kernel "reference"'
        )
    compiled: Callable[..., Any] = getattr(library, function)
    return compiled


@cache
def _one_thread_in_forks() -> None:
    """A forked child would wait for ever for OpenMP's threads, which it has not."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))


def _argument(value: Any) -> Any:
    if value is None or isinstance(value, Tensor):
        return ctypes.c_void_p(None if value is None else value.data_ptr())
    return ctypes.c_longlong(value) if isinstance(value, int) else ctypes.c_double(value)
