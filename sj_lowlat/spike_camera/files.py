"""Opening and writing spike streams, by the file's suffix."""

from __future__ import annotations

from collections.abc import Callable
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
    """Open a recording, whose frames are read and unpacked when they are asked for.

    - ``.dat``, as recorders write it, has no header. A frame is ``height`` x ``columns`` bits, least
      significant bit first, row by row from the bottom up. A size that does not divide into frames is
      refused, but a wrong geometry may divide it too: a 1000 x 1000 recording passes as ten times as many
      frames of 250 x 400.
    - ``.npy``: uint8 or bool ``[T, H, W]`` of 0 and 1, which is checked where it is read.
    - ``.npz``: such an array named ``spk``, else the only one with three axes. It is checked and packed into
      memory, one bit a pixel. Other arrays are not looked at; nothing is ever unpickled.

    :param path: the recording
    :param height: rows; default: 250 for ``.dat``, else the array's
    :param width: pixels a row; default: 400 for ``.dat``, else the array's
    :param columns: stored pixels a row of a ``.dat``, of which the first ``width`` are picture; default:
        ``width``
    :param frame_rate: frames a second, in Hz, which no format stores
    :param flip: turn the rows of a ``.dat``, stored from the bottom up, the right way up
    :raises InputError: if there is no such file, or its suffix, size, content or geometry is not allowed
    """
    file = Path(path)
    suffix = _known_suffix(file)
    if not file.is_file():
        raise InputError(
            f"{file} is {'a folder' if file.is_dir() else 'not there'}: give a recording's file "
            f"({', '.join(_SUFFIXES)})"
        )
    source: PlaneSource
    try:
        if suffix == ".dat":
            source = open_dat(file, Geometry.of(height, width, columns), flip)
        else:
            source = _ARRAYS[suffix][0](file)
            _check_asked(file, source, height, width, columns)
    except OSError as error:
        raise InputError(f"cannot read {file} ({error}): check the file and its permissions") from error
    return SpikeStream(source, frame_rate)


def write_stream(
    path: str | Path,
    stream: SpikeStream | NDArray[Any],
    columns: int | None = None,
    flip: bool = True,
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
    if suffix == ".dat":
        _, height, width = stream.shape
        geometry = Geometry.of(height, width, columns)
        with atomic_write(file) as temporary:
            write_dat(temporary, stream, geometry, flip)
        return
    _check_columns(file, columns)
    with atomic_write(file) as temporary:
        _ARRAYS[suffix][1](temporary, stream)


def _known_suffix(file: Path) -> str:
    suffix = file.suffix.lower()
    if suffix not in _SUFFIXES:
        raise InputError(
            f"{file} has the suffix {file.suffix!r}: give {', '.join(_SUFFIXES)}; rename a headerless "
            "recording to .dat"
        )
    return suffix


def _check_columns(file: Path, columns: int | None) -> None:
    if columns is not None:
        raise InputError(f"columns {columns} came with {file}: only .dat files pad their rows; leave it out")


def _check_asked(
    file: Path, source: PlaneSource, height: int | None, width: int | None, columns: int | None
) -> None:
    _check_columns(file, columns)
    asked = (source.height if height is None else height, source.width if width is None else width)
    if asked != (source.height, source.width):
        raise InputError(
            f"{file} holds frames of {source.height} x {source.width}, not {asked[0]} x {asked[1]}: leave "
            "height and width out"
        )
