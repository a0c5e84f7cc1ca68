"""Opening and writing spike streams, by the file's suffix."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from sj_lowlat.errors import InputError
from sj_lowlat.files import atomic_write
from sj_lowlat.spike_camera.arrays import open_npy, open_npz, write_npy, write_npz
from sj_lowlat.spike_camera.dat import Geometry, open_dat, write_dat
from sj_lowlat.spike_camera.storage import PlaneSource
from sj_lowlat.spike_camera.stream import SpikeStream

__all__ = ["open_stream", "write_stream"]

_ARRAYS: dict[str, tuple[Callable[[Path], PlaneSource], Callable[[Path, SpikeStream], None]]] = {
    ".npy": (open_npy, write_npy),
    ".npz": (open_npz, write_npz),
}
_SUFFIXES = (".dat", *_ARRAYS)


def open_stream(
    path: str | Path,
    height: int | None = None,
    width: int | None = None,
    columns: int | None = None,
    frame_rate: float = 20000.0,
    flip: bool = True,
) -> SpikeStream:
    """Open a recording; its frames are read and unpacked when asked for.

    - ``.dat``, as recorders write it, has no header. A frame is ``height`` x ``columns`` bits, least
      significant bit first, row by row from the bottom up. A size that is not whole frames is refused, but a
      wrong geometry may divide it too: a 1000 x 1000 recording passes as ten times as many of 250 x 400.
    - ``.npy``: uint8 or bool ``[T, H, W]`` of 0 and 1, checked when read.
    - ``.npz``: such an array named ``spk``, else the only one with three axes, checked and packed into
      memory, one bit a pixel. Nothing is ever unpickled.

    :param height: rows; default: 250 for ``.dat``, else the array's
    :param width: pixels a row; default: 400 for ``.dat``, else the array's
    :param columns: stored pixels a row of a ``.dat``, of which the first ``width`` are picture; default:
        ``width``
    :param frame_rate: frames a second, in Hz, which no format stores
    :param flip: turn the rows of a ``.dat``, stored from the bottom up, the right way up
    :raises InputError: if the file is not there, or its suffix, size, content or geometry does not fit
    """
    file = Path(path)
    suffix = _known_suffix(file)
    if not file.is_file():
        raise InputError(
            f"{file} is {'a folder' if file.is_dir() else 'not there'}: give a recording's file "
            f"({', '.join(_SUFFIXES)})"
        )
    try:
        if suffix == ".dat":
            return SpikeStream(open_dat(file, Geometry.of(height, width, columns), flip), frame_rate)
        source = _ARRAYS[suffix][0](file)
    except OSError as error:
        raise InputError(f"cannot read {file} ({error}): check the file and its permissions") from error
    _refuse_columns(file, columns)
    stored = (source.height, source.width)
    asked = tuple(own if side is None else side for side, own in zip((height, width), stored, strict=True))
    if asked != stored:
        raise InputError(
            f"{file} holds frames of {stored[0]} x {stored[1]}, not {asked[0]} x {asked[1]}: leave height "
            "and width out"
        )
    return SpikeStream(source, frame_rate)


def write_stream(
    path: str | Path, stream: SpikeStream | NDArray[Any], columns: int | None = None, flip: bool = True
) -> None:
    """Write a recording that :func:`open_stream` reads back, given the same geometry and ``flip``.

    The file is whole or absent; memory does not grow with the stream. The frame rate is not stored.

    :param path: ``.dat``, ``.npy`` or ``.npz``; its folder is created
    :param stream: a stream, or planes of 0 and 1, uint8 or bool ``[T, H, W]``
    :param columns: stored pixels a row of a ``.dat``, padded with 0; default: the stream's width
    :param flip: store the rows of a ``.dat`` from the bottom up, as recorders do
    :raises InputError: for another suffix, other values, no frames, ``columns`` that are too few or not for a
        ``.dat``, or frames that are no whole bytes in a ``.dat``
    :raises OSError: if the folder cannot be written
    """
    file = Path(path)
    suffix = _known_suffix(file)
    if not isinstance(stream, SpikeStream):
        stream = SpikeStream.from_planes(stream)
    if len(stream) == 0:
        raise InputError("a stream without frames came: give at least one frame")
    write: Callable[[Path, SpikeStream], None]
    if suffix == ".dat":
        write = partial(write_dat, geometry=Geometry.of(*stream.shape[1:], columns), flip=flip)
    else:
        _refuse_columns(file, columns)
        write = _ARRAYS[suffix][1]
    with atomic_write(file) as temporary:
        write(temporary, stream)


def _known_suffix(file: Path) -> str:
    suffix = file.suffix.lower()
    if suffix not in _SUFFIXES:
        raise InputError(
            f"{file} has the suffix {file.suffix!r}: give {', '.join(_SUFFIXES)}; rename a headerless "
            "recording to .dat"
        )
    return suffix


def _refuse_columns(file: Path, columns: int | None) -> None:
    if columns is not None:
        raise InputError(f"columns {columns} came with {file}: only .dat files pad their rows; leave it out")
