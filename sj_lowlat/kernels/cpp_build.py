"""C++ source -> functions in memory: compiled at the first use by the machine's compiler, then kept."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from sj_lowlat.kernels import cpp_cache

# no contraction; nobody reads errno or floating-point exceptions
_EXACT = ("-O3", "-w", "-fPIC", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
# a compiler may not know some of them
_FAST = ("-march=native", "-mprefer-vector-width=512", "-fopenmp")
_SECONDS = 60  # for what takes 0.3 s
_ROOM = 1 << 22  # bytes, more than a compiler writes here


class CannotCompile(Exception):
    """Why a compiler gives no kernel; no other folder would help."""


def compiler() -> str | None:
    """The C++ compiler: that of ``CXX``, or the first one that is found."""
    found = map(shutil.which, (os.environ.get("CXX", ""), "c++", "g++", "clang++"))
    return next((os.path.abspath(path) for path in found if path), None)


@cache
def build(source: str, function: str) -> ctypes.CDLL | None:
    """Compile C++ without includes and load it; ``None`` where that cannot be, and a warning says why.

    :param function: a name that the library must have
    """
    try:
        program = compiler()
        if program is None:
            raise CannotCompile("no C++ compiler was found (install g++ or clang++, or name one in CXX)")
        try:
            return _obtain(cpp_cache.folder(), program, source, function)
        except OSError as error:  # no home, not to be written to, full, or not for programs
            problem = error
        with tempfile.TemporaryDirectory(prefix="sj_lowlat-", ignore_cleanup_errors=True) as own:
            library = _obtain(Path(own), program, source, function)
        _warn(
            f"compiled kernels cannot be kept, so that each process compiles its own: {problem}; set "
            "XDG_CACHE_HOME to a folder of your own"
        )
        return library
    except (CannotCompile, OSError, subprocess.TimeoutExpired) as error:
        _warn(
            f'neurons run the slower kernel "reference", because none can be compiled: {error}; '
            "SJ_LOWLAT_KERNEL=reference chooses it without this warning"
        )
        return None


@cache
def _warn(sentence: str) -> None:
    """Once for all kernels."""
    warnings.warn(sentence, stacklevel=3)


def _obtain(place: Path, program: str, source: str, function: str) -> ctypes.CDLL:
    about = (source, *_EXACT, *_FAST, program, _version(program, place), _machine(), _openmp())
    key = hashlib.sha256(os.fsencode("\0".join(about))).hexdigest()[:24]
    for path in cpp_cache.kept(place, key):
        library = ctypes.CDLL(str(path))
        if hasattr(library, function):
            return library
        path.unlink()
    made = cpp_cache.keep(place, key, lambda work: _compile(program, source, work))
    library = ctypes.CDLL(str(made))
    if not hasattr(library, function):
        made.unlink()
        raise CannotCompile(f"{program} makes libraries without the functions in them")
    return library


def _compile(program: str, source: str, work: Path) -> Path:
    try:
        return _attempt(program, source, _FAST, work)
    except CannotCompile:
        return _attempt(program, source, [name for name in _FAST if _knows(program, name, work)], work)


def _knows(program: str, option: str, work: Path) -> bool:
    try:
        return bool(_attempt(program, "", [option], work))
    except CannotCompile:
        return False


def _attempt(program: str, source: str, options: Sequence[str], work: Path) -> Path:
    """In two steps: linked with -fopenmp it would bring a second pool of threads beside that of torch."""
    (work / "kernel.cpp").write_text(source, encoding="utf-8")
    library = work / "kernel.so"
    openmp = [_openmp()] if "-fopenmp" in options else []
    _run([program, "-c", *_EXACT, *options, "kernel.cpp", "-o", "kernel.o"], work)
    _run([program, "-shared", "kernel.o", *openmp, "-o", library.name], work)
    if not library.exists():
        raise CannotCompile(f"{program} ends without an error, and without a library")
    return library


def _run(command: Sequence[str], work: Path) -> str:
    """Run a compiler whose every file lies in ``work``; gives what it prints.

    :raises CannotCompile: if it fails
    :raises OSError: if it cannot be started, or there is no room for its files
    :raises subprocess.TimeoutExpired: if it takes too long
    """
    done = subprocess.run(
        command,
        cwd=work,
        env={**os.environ, "LC_ALL": "C", "TMPDIR": str(work)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_SECONDS,
    )
    said = done.stdout.decode(errors="replace").strip()
    if done.returncode:
        with tempfile.TemporaryFile(dir=work) as room:  # an OSError tells a full disk
            room.write(bytes(_ROOM))
        last = said.splitlines()[-1] if said else f"exit code {done.returncode}"
        raise CannotCompile(f"{command[0]} does not compile it ({last})")
    return said


@cache
def _version(program: str, place: Path) -> str:
    return _run([program, "--version"], place)


@cache
def _machine() -> str:
    """What ``-march=native`` depends on: a home may be shared by several machines."""
    flags = (line for line in _lines("/proc/cpuinfo") if line.startswith(("flags", "Features")))
    return next(flags, platform.machine() + platform.processor())


@cache
def _openmp() -> str:
    """The OpenMP that torch has loaded."""
    fields = (line.split(maxsplit=5) for line in _lines("/proc/self/maps"))
    paths = (found[5] for found in fields if len(found) == 6)
    known = ("libgomp", "libiomp", "libomp")
    return next((path for path in paths if Path(path).name.startswith(known)), "-lgomp")


def _lines(file: str) -> list[str]:
    """Lines of a file that not every system has."""
    try:
        return os.fsdecode(Path(file).read_bytes()).split("\n")
    except OSError:
        return []
