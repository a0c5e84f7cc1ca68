"""Spike streams in numpy's files, read and written a block of frames at a time."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from sj_lowlat.errors import InputError
from sj_lowlat.spike_camera.storage import FileBytes, Planes, PlaneSource, block_frames, pack
from sj_lowlat.spike_camera.stream import SpikeStream

__all__ = ["open_npy", "open_npz", "write_npy", "write_npz"]

Shape = tuple[int, ...]

_MEMBER = "spk.npy"
_LONGEST_HEADER = 2**14  # bytes; numpy itself refuses more than 10,000
_SAFE_BYTES = 2**27  # in memory
_TIMES_THE_FILE = 10  # spikes of little light, one bit a pixel, are not smaller when compressed


def open_npy(file: Path) -> PlaneSource:
    """:raises InputError: if the file is not uint8 or bool ``[T, H, W]``, or ends too soon"""
    with file.open("rb") as handle:
        start = io.BytesIO(handle.read(_LONGEST_HEADER))
    frames, height, width = _planes_shape(str(file), *_header(str(file), start))
    offset = start.tell()
    wanted, size = offset + frames * height * width, file.stat().st_size
    if size < wanted:
        raise InputError(f"{file} has {size} bytes of {wanted}: it is truncated; save or copy it again")
    planes = PlaneSource(FileBytes(file, height * width, offset), frames, height, width)
    planes.read(0, 1)  # find grey values now, not in the middle of a run
    return planes


def open_npz(file: Path) -> PlaneSource:
    """:raises InputError: if neither ``spk`` nor the only array with three axes is 0 and 1, or for damage"""
    try:
        with zipfile.ZipFile(file) as archive:
            name = _spikes_member(file, archive)
            what = f"{name.removesuffix('.npy')} in {file}"
            with archive.open(name) as member:
                start = io.BytesIO(member.read(_LONGEST_HEADER))
                frames, height, width = _planes_shape(what, *_header(what, start))
                wanted, size = frames * height * width, archive.getinfo(name).file_size - start.tell()
                if size != wanted:
                    raise InputError(f"{what} has {size} bytes of {wanted}: save or copy it again")
                _check_memory(file, what, max(wanted // 8, height * width))
                member.seek(start.tell())
                return pack(_blocks(member, frames, height, width), frames, height, width)
    except (InputError, OSError):
        raise
    except Exception as error:  # zipfile lets out those of zlib, lzma, struct, ...
        text = str(error) or type(error).__name__
        raise InputError(f"{file} is damaged or no .npz ({text}): save or copy it again") from error


def _check_memory(file: Path, what: str, wanted: int) -> None:
    """Refuse what would take far more memory than the file."""
    size = file.stat().st_size
    if wanted > max(_SAFE_BYTES, _TIMES_THE_FILE * size):
        raise InputError(
            f"{what} would take {wanted} bytes of memory, the file has {size}: save it as .npy or .dat, of "
            "which only frames that are asked for are read"
        )


def write_npy(file: Path, stream: SpikeStream) -> None:
    """Write uint8 ``[T, H, W]``."""
    with file.open("wb") as output:
        _write_planes(output, stream)


def write_npz(file: Path, stream: SpikeStream) -> None:
    """Write uint8 ``[T, H, W]``, compressed, as ``spk``."""
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(_MEMBER, "w", force_zip64=True) as output,
    ):
        _write_planes(output, stream)


def _write_planes(output: IO[bytes], stream: SpikeStream) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": stream.shape}
    npy.write_array_header_1_0(output, header)
    for block in stream.blocks():
        output.write(block.tobytes())


def _header(what: str, handle: IO[bytes]) -> tuple[Shape, bool, np.dtype]:
    """Shape, order and type; unlike np.load, before any memory is taken."""
    try:
        version = npy.read_magic(handle)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
        if read is not None:
            return read(handle)
    except Exception as error:  # numpy evaluates the header
        text = str(error) or type(error).__name__
        raise InputError(f"{what} is no .npy array ({text}): save it again with numpy.save") from error
    raise InputError(f"{what} has the .npy version {version}: save it again as uint8 with numpy.save")


def _planes_shape(what: str, shape: Shape, fortran_order: bool, dtype: np.dtype) -> Shape:
    if dtype not in (np.uint8, np.bool_) or len(shape) != 3 or min(shape) < 1:
        raise InputError(
            f"{what} is {dtype} of the shape {list(shape)}: give uint8 or bool [T, H, W] of 0 and 1, with at "
            'least one frame and one pixel (planes.astype("uint8"))'
        )
    if fortran_order:
        raise InputError(
            f"{what} is stored in Fortran order, whose frames lie scattered: save "
            "numpy.ascontiguousarray(planes)"
        )
    return shape


def _spikes_member(file: Path, archive: zipfile.ZipFile) -> str:
    names = [name for name in archive.namelist() if name.endswith(".npy")]
    if _MEMBER in names:
        return _MEMBER

    def axes(name: str) -> int:
        with archive.open(name) as member:
            return len(_header(f"{name} in {file}", io.BytesIO(member.read(_LONGEST_HEADER)))[0])

    found = [name for name in names if axes(name) == 3]
    if len(found) != 1:
        keys = ", ".join(name.removesuffix(".npy") for name in names) or "no array"
        raise InputError(
            f"{file} holds {keys}, {len(found)} of them with three axes: name the planes [T, H, W] spk "
            "(numpy.savez_compressed(path, spk=planes))"
        )
    return found[0]


def _blocks(member: IO[bytes], frames: int, height: int, width: int) -> Iterator[Planes]:
    step = block_frames(height, width)
    for at in range(0, frames, step):
        shape = (min(step, frames - at), height, width)
        data = member.read(math.prod(shape))
        if len(data) < math.prod(shape):
            raise EOFError("the array ends too soon")
        yield np.frombuffer(data, np.uint8).reshape(shape)
