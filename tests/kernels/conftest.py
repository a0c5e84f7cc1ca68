"""The C++ kernels run on the CPU; the CUDA kernels on a GPU, and without one as plain C++.

The same source is compiled by the C++ compiler behind a header that stands for CUDA, and its threads run one
after another.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sj_lowlat.kernels import cpp_kernel, cupy_kernel
from sj_lowlat.kernels.cuda_source import cuda_source
from sj_lowlat.kernels.source import Variant

COMPILER = next(filter(None, map(shutil.which, ("g++", "clang++", "c++"))), None)

CUDA_AS_CPP = r"""
#define exp(a) __builtin_exp(a)  // no #include, which would take most of the compiler's time
#define floor(a) __builtin_floor(a)
#define __global__
#define __device__
#define __forceinline__ inline
struct Index { unsigned x; };
static Index gridDim, blockDim, blockIdx, threadIdx;
extern "C" void go_to(unsigned blocks, unsigned threads, unsigned block, unsigned thread) {
    gridDim.x = blocks, blockDim.x = threads, blockIdx.x = block, threadIdx.x = thread;
}
template <class To, class From> To bits_as(From from) {
    static_assert(sizeof(To) == sizeof(From), "");
    To to;
    __builtin_memcpy(&to, &from, sizeof to);
    return to;
}
static inline void atomicAdd(unsigned long long* sum, unsigned long long more) { *sum += more; }
static inline float __uint_as_float(unsigned bits) { return bits_as<float>(bits); }
static inline unsigned __float_as_uint(float a) { return bits_as<unsigned>(a); }
static inline double __longlong_as_double(long long bits) { return bits_as<double>(bits); }
static inline long long __double_as_longlong(double a) { return bits_as<long long>(a); }
static inline float float_of_half(unsigned short bits) { return bits_as<_Float16>(bits); }
static inline unsigned short half_of_float(float a) { return bits_as<unsigned short>((_Float16)a); }
"""


class LaunchAsCpp:
    """Stands for ``cupy_kernel.launch``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.grid = (2, 3)  # fewer threads than neurons
        self.libraries: dict[Variant, ctypes.CDLL] = {}

    def __call__(
        self, function: str, variant: Variant, size: int, arguments: Sequence, device: torch.device
    ) -> None:
        if variant not in self.libraries:
            self.libraries[variant] = self.compile(variant)
        library = self.libraries[variant]
        blocks, threads = self.grid
        values = [self.value(argument) for argument in arguments]
        for block in range(blocks if size else 0):
            for thread in range(threads):
                library.go_to(blocks, threads, block, thread)
                getattr(library, function)(*values)

    def compile(self, variant: Variant) -> ctypes.CDLL:
        path = self.folder / f"{len(self.libraries)}.cpp"
        path.write_text(CUDA_AS_CPP + cuda_source(variant))
        options = ["-O1", "-w", "-ffp-contract=off", "-shared", "-fPIC"]
        assert COMPILER is not None
        subprocess.run([COMPILER, *options, path, "-o", path.with_suffix(".so")], check=True)
        return ctypes.CDLL(path.with_suffix(".so"))

    @staticmethod
    def value(argument: Tensor | float | None) -> ctypes._SimpleCData:
        if argument is None or isinstance(argument, Tensor):
            return ctypes.c_void_p(None if argument is None else argument.data_ptr())
        return ctypes.c_longlong(argument) if isinstance(argument, int) else ctypes.c_double(argument)


@pytest.fixture(scope="session")
def cuda_as_cpp(tmp_path_factory: pytest.TempPathFactory) -> LaunchAsCpp:
    return LaunchAsCpp(tmp_path_factory.mktemp("cuda_as_cpp"))


@pytest.fixture(scope="module", params=["cupy as C++", "cupy", "cpp"])
def place(request: pytest.FixtureRequest, cuda_as_cpp: LaunchAsCpp) -> Iterator[tuple[str, str]]:
    """A device and the kernel that runs there."""
    if request.param == "cpp":
        if not cpp_kernel.available():
            pytest.skip("needs a C++ compiler")
        yield "cpu", "cpp"
    elif request.param == "cupy":
        if not cupy_kernel.available():
            pytest.skip("needs a GPU and CuPy")
        yield "cuda", "cupy"
    elif COMPILER is None:
        pytest.skip("needs a C++ compiler")
    else:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cupy_kernel, "launch", cuda_as_cpp)
            yield "cpu", "cupy"


@pytest.fixture(scope="module", params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest, cuda_as_cpp: LaunchAsCpp) -> Iterator[str]:
    """Where the CUDA kernels run: as C++ on the CPU, or on the GPU."""
    if request.param == "cuda":
        if not cupy_kernel.available():
            pytest.skip("needs a GPU and CuPy")
        yield "cuda"
        return
    if COMPILER is None:
        pytest.skip("needs a C++ compiler")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cupy_kernel, "launch", cuda_as_cpp)
        yield "cpu"
