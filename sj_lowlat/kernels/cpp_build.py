"""C++ source -> functions in memory: compiled at the first use by the machine's compiler, then kept."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from sj_lowlat.files import atomic_write

# no contraction; nobody reads errno or floating-point exceptions
_EXACT = ("-O3", "-w", "-fPIC", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
# best first: a compiler may not know some of them
_FAST = (
    ("-march=native", "-mprefer-vector-width=512", "-fopenmp"),
    ("-march=native", "-fopenmp"),
    ("-fopenmp",),
    (),
)


def compiler() -> str | None:
    """The C++ compiler: that of ``CXX``, or the first one that is found."""
    return next(filter(None, map(shutil.which, (os.environ.get("CXX", ""), "c++", "g++", "clang++"))), None)


def folder() -> Path:
    """Where compiled kernels are kept: below ``XDG_CACHE_HOME`` or ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sj_lowlat" / "kernels"


def _lines(file: str) -> list[str]:
    """Lines of a file that not every system has."""
    try:
        return Path(file).read_text().splitlines()
    except OSError:
        return []


@cache
def _machine() -> str:
    """What ``-march=native`` depends on: a home may be shared by several machines."""
    flags = (line for line in _lines("/proc/cpuinfo") if line.startswith(("flags", "Features")))
    return next(flags, platform.machine() + platform.processor())


@cache
def build(source: str) -> ctypes.CDLL | None:
    """Compile C++ without includes and load it; ``None`` where there is no compiler that takes it."""
    program = compiler()
    if program is None:
        return None
    return next(filter(None, (_build(program, source, options) for options in _FAST)), None)


def _build(program: str, source: str, options: tuple[str, ...]) -> ctypes.CDLL | None:
    what = "\n".join((source, program, *options, _openmp(), _machine()))
    name = hashlib.sha256(what.encode()).hexdigest()[:24] + ".so"
    for find_place in (folder, lambda: Path(_temporary().name)):
        try:
            place = find_place()
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not (place / name).exists():
                with atomic_write(place / name) as path:
                    _compile(program, source, options, path)
            return ctypes.CDLL(str(place / name))
        except subprocess.CalledProcessError:  # an option that this compiler does not know
            return None
        except (OSError, RuntimeError):  # no home, not to be written to, or not for programs
            continue
    return None


def _compile(program: str, source: str, options: tuple[str, ...], path: Path) -> None:
    """In two steps: linked with -fopenmp it would bring a second pool of threads beside that of torch."""
    with tempfile.TemporaryDirectory() as work:
        text, compiled = f"{work}/kernel.cpp", f"{work}/kernel.o"
        Path(text).write_text(source)
        for command in (
            [program, "-c", *_EXACT, *options, text, "-o", compiled],
            [program, "-shared", compiled, *([_openmp()] if "-fopenmp" in options else []), "-o", str(path)],
        ):
            subprocess.run(command, check=True, capture_output=True)


@cache
def _openmp() -> str:
    """The OpenMP that torch has loaded."""
    paths = (line.split()[-1] for line in _lines("/proc/self/maps"))
    known = ("libgomp", "libiomp", "libomp")
    return next((path for path in paths if Path(path).name.startswith(known)), "-lgomp")


@cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    """A folder of this process, where nobody else can leave a library; gone when it ends."""
    return tempfile.TemporaryDirectory(prefix="sj_lowlat-")
