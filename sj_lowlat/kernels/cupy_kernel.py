"""The loop over time on a GPU in one CUDA kernel, through CuPy; no copies between torch and CuPy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from sj_lowlat.errors import InputError
from sj_lowlat.kernels.cuda_source import OPTIONS, cuda_source
from sj_lowlat.kernels.source import Variant

_THREADS = 256
_MOST_BLOCKS = 2**16  # beyond that a thread takes several neurons


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


def launch(
    function: str, variant: Variant, size: int, arguments: Sequence[Any], device: torch.device
) -> None:
    """Run a function of the source on torch's current stream; see :data:`sj_lowlat.kernels.fused.Launch`.

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
