"""NVIDIA's compilers take the CUDA source; they need no GPU."""

from __future__ import annotations

import ctypes
import ctypes.util
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from sj_lowlat.kernels.cuda_source import OPTIONS, cuda_source
from sj_lowlat.kernels.source import Variant

# what CuPy adds to the options of a RawKernel
CUPY_OPTIONS = ("-std=c++17", "-ftz=true", "--device-as-default-execution-space")
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
KINDS = (("linear", False), ("linear", True), ("leaky", True), ("imbalanced", False))
TRAINING = [Variant(dtype, counts=counts, training=True) for dtype in DTYPES for counts in (False, True)]
OTHER_SPIKES = [
    Variant(torch.float32, "leaky", True, spikes=torch.int8),
    Variant(torch.bfloat16, counts=True, spikes=torch.int8),
    Variant(torch.float32, counts=True, spikes=torch.bfloat16),
    Variant(torch.float32, spikes=torch.float16),
]
TABLES = [Variant(dtype, "table", True, rounds=2) for dtype in DTYPES]
TABLES += [Variant(torch.float32, "table", True, spikes=torch.int8, rounds=8)]
OTHER_RESETS = [Variant(dtype, hard_reset=True) for dtype in DTYPES]
OTHER_RESETS += [Variant(dtype, "leaky", True, powers=True) for dtype in DTYPES]
VARIANTS = [
    *OTHER_RESETS,
    *(Variant(dtype, *kind) for dtype in DTYPES for kind in KINDS),
    *TRAINING,
    *OTHER_SPIKES,
    *TABLES,
]


def _nvrtc_libraries() -> Iterator[str]:
    packages = Path(torch.__file__).parents[1] / "nvidia"  # torch brings it along
    yield from map(str, sorted(packages.glob("*/lib/libnvrtc.so.*[0-9]")))
    found = ctypes.util.find_library("nvrtc")
    if found:
        yield found


@pytest.fixture(scope="module")
def nvrtc() -> Callable[[str, str], bytes]:
    """NVRTC, with which CuPy compiles: source and architecture -> PTX (``compute_*``) or cubin (``sm_*``)."""
    for name in _nvrtc_libraries():
        try:
            library = ctypes.CDLL(name)
            break
        except OSError:
            continue
    else:
        pytest.skip("needs NVRTC, which comes with a CUDA build of torch")

    def compile_source(source: str, architecture: str) -> bytes:
        program, size = ctypes.c_void_p(), ctypes.c_size_t()
        text = source.encode()
        assert library.nvrtcCreateProgram(ctypes.byref(program), text, b"neurons.cu", 0, None, None) == 0
        options = [option.encode() for option in (*OPTIONS, *CUPY_OPTIONS, f"-arch={architecture}")]
        failed = library.nvrtcCompileProgram(
            program, len(options), (ctypes.c_char_p * len(options))(*options)
        )
        wanted = "ProgramLog" if failed else "CUBIN" if architecture.startswith("sm_") else "PTX"
        assert getattr(library, f"nvrtcGet{wanted}Size")(program, ctypes.byref(size)) == 0
        result = ctypes.create_string_buffer(size.value)
        assert getattr(library, f"nvrtcGet{wanted}")(program, result) == 0
        library.nvrtcDestroyProgram(ctypes.byref(program))
        assert not failed, result.value.decode()
        return result.raw

    return compile_source


# the assembler takes seconds for each
@pytest.mark.parametrize(
    "variant",
    [v for v in VARIANTS if v.target == "leaky" or (v.currents, v.training) == (torch.float32, False)],
    ids=str,
)
def test_the_assembler_takes_it(nvrtc: Callable[[str, str], bytes], variant: Variant) -> None:
    assert nvrtc(cuda_source(variant), "sm_90")[:4] == b"\x7fELF"


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_operation_on_the_membrane_rounds_once_and_keeps_subnormal_numbers(
    nvrtc: Callable[[str, str], bytes], variant: Variant
) -> None:
    ptx = nvrtc(cuda_source(variant), "compute_80").decode()
    (forward,) = (part for part in ptx.split(".entry")[1:] if part.split("(")[0].strip() == "neurons")
    instructions = set(re.findall(r"^\s+(?:@%p\d+ )?([a-z]\w*(?:\.\w+)+)", forward, re.MULTILINE))
    real = "f64" if variant.currents == torch.float64 else "f32"
    names = ("add",) if variant.hard_reset else ("add", "sub", *["mul"] * (variant.target != "table"))
    used = {f"{name}.rn.{real}" for name in names}
    assert used <= instructions
    assert not [name for name in instructions if name.startswith("fma.rn.f") or "approx" in name]
    # counts are compared, and whole numbers converted, as the compiler likes
    flushing = [
        name for name in instructions if ".ftz" in name and not name.startswith(("setp.", "cvt.", "neg."))
    ]
    assert not flushing
    assert f"cvt.rmi.ftz.{real}.{real}" not in instructions


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize("variant", [Variant(torch.float32, counts=True), Variant(torch.bfloat16)], ids=str)
def test_nvcc(tmp_path: Path, variant: Variant, architecture: str) -> None:
    nvcc = shutil.which("nvcc")
    if nvcc is None or subprocess.run([nvcc, "--version"], capture_output=True).returncode:
        pytest.skip("needs nvcc")
    path = tmp_path / "neurons.cu"
    path.write_text(cuda_source(variant))
    options = ["-cubin", f"-arch={architecture}", *OPTIONS, "-ftz=true", "-o", path.with_suffix(".cubin")]
    done = subprocess.run([nvcc, path, *options], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert path.with_suffix(".cubin").stat().st_size
