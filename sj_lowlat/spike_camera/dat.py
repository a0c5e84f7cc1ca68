"""The headerless ``.dat`` files of spike cameras."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sj_lowlat.errors import InputError
from sj_lowlat.spike_camera.storage import FileBytes, PlaneSource
from sj_lowlat.spike_camera.stream import SpikeStream

__all__ = ["Geometry", "open_dat", "write_dat"]


@dataclass(frozen=True)
class Geometry:
    """A stored frame of ``height`` rows of ``columns`` bits, the first ``width`` of which are picture.

    :raises InputError: for sides below 1, fewer columns than ``width`` or a frame that is no whole bytes
    """

    height: int = 250
    width: int = 400
    columns: int = 400

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise InputError(f"frames of {self.height} x {self.width} came: give sides of at least 1 pixel")
        if self.columns < self.width:
            raise InputError(
                f"columns {self.columns} came for pictures {self.width} wide: give the stored pixels a row, "
                "at least width"
            )
        if self.height * self.columns % 8:
            padded = -(-self.columns // 8) * 8
            raise InputError(
                f"frames of {self.height} x {self.columns} bits came: .dat frames must be whole bytes; "
                f"height * columns must be a multiple of 8, as with columns={padded}"
            )

    @classmethod
    def of(cls, height: int | None, width: int | None, columns: int | None) -> Geometry:
        """The geometry that was asked for; the usual camera's if nothing was.

        :raises InputError: as the class, or if one of ``height`` and ``width`` came alone
        """
        if height is None and width is None:
            height, width = cls.height, cls.width
        elif height is None or width is None:
            raise InputError(f"height {height} and width {width} came: give both or neither")
        return cls(height, width, width if columns is None else columns)

    @property
    def frame_bytes(self) -> int:
        return self.height * self.columns // 8

    def __str__(self) -> str:
        padded = f", columns={self.columns}" if self.columns != self.width else ""
        return f"height={self.height}, width={self.width}{padded}"


_KNOWN = (Geometry(), Geometry(columns=416), Geometry(1000, 1000, 1000))


def open_dat(file: Path, geometry: Geometry, flip: bool) -> PlaneSource:
    """With ``flip``, rows are stored from the bottom up.

    :raises InputError: if the file's size is not a positive multiple of a frame's
    """
    size, frame = file.stat().st_size, geometry.frame_bytes
    if not size:
        raise InputError(f"{file} is empty: record or copy it again")
    if size % frame:
        raise InputError(_misfit(file, size, geometry))
    stored = FileBytes(file, frame)
    return PlaneSource(stored, size // frame, geometry.height, geometry.width, geometry.columns, flip)


def write_dat(file: Path, stream: SpikeStream, geometry: Geometry, flip: bool) -> None:
    """Write a stream of the geometry's size; with ``flip``, its rows from the bottom up."""
    padding = ((0, 0), (0, 0), (0, geometry.columns - geometry.width))
    with file.open("wb") as output:
        for block in stream.blocks():
            rows = np.pad(block[:, ::-1] if flip else block, padding)
            packed = np.packbits(rows.reshape(len(block), -1), axis=1, bitorder="little")
            output.write(packed.tobytes())


def _misfit(file: Path, size: int, asked: Geometry) -> str:
    frames, left = divmod(size, asked.frame_bytes)
    message = (
        f"{file} has {size} bytes; with {asked} a frame has {asked.frame_bytes}: "
        f"{frames} whole frames and {left} bytes are left over. "
    )
    # the asked width as other recorders store it, and the known cameras
    lengths = [asked.width, *(-(-asked.width // padding) * padding for padding in (16, 32, 64))]
    rows = [Geometry(asked.height, asked.width, c) for c in lengths if asked.height * c % 8 == 0]
    fitting = [str(other) for other in dict.fromkeys([*rows, *_KNOWN]) if size % other.frame_bytes == 0]
    if fitting:
        message += f"Its size would fit {'; or '.join(fitting)}: pass these if the camera is such a one. "
    else:
        known = "; ".join(map(str, _KNOWN))
        message += f"No known camera fits ({known}): give the camera's own height and width. "
    cut = f"the last {left} bytes are an unfinished frame; in a copy, cut them off: truncate -s -{left} COPY"
    short = "not even one frame is whole; record or copy it again"
    return message + "If the geometry is right, the file is truncated: " + (cut if frames else short)
