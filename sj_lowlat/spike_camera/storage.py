"""Where the bit planes of a stream are kept: packed or not, in a file or in memory."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sj_lowlat.errors import InputError

__all__ = ["BytePlanes", "FileBytes", "MemoryBytes", "PackedPlanes", "PlaneSource", "block_frames", "pack"]

Planes = NDArray[np.uint8]

# unpacked bytes at a time: fits the cache, and a minute of recording never has to fit the memory
_BLOCK_BYTES = 2 * 2**20
# so that a block's spikes can be added up in bytes
_BLOCK_FRAMES = 255


class PlaneSource(Protocol):
    """What a stream reads from."""

    @property
    def frames(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...

    def read(self, start: int, stop: int) -> Planes:
        """Frames ``start`` to ``stop`` as 0 and 1, uint8 ``[T, H, W]``."""
        ...


class FrameBytes(Protocol):
    """Frames as they are stored."""

    def read(self, start: int, stop: int) -> Planes:
        """The bytes of frames ``start`` to ``stop``, ``[T, bytes]``."""
        ...


@dataclass(frozen=True, eq=False)
class PackedPlanes:
    """Eight pixels a byte, least significant bit first; a frame starts with a byte.

    :param columns: stored pixels a row, of which the first ``width`` are picture
    :param flip: rows are stored from the bottom up
    """

    stored: FrameBytes
    frames: int
    height: int
    width: int
    columns: int
    flip: bool = False

    def read(self, start: int, stop: int) -> Planes:
        packed = self.stored.read(start, stop)
        bits = np.unpackbits(packed, axis=1, count=self.height * self.columns, bitorder="little")
        planes = bits.reshape(-1, self.height, self.columns)[:, :, : self.width]
        return planes[:, ::-1] if self.flip else planes


@dataclass(frozen=True, eq=False)
class BytePlanes:
    """One pixel a byte."""

    stored: FrameBytes
    frames: int
    height: int
    width: int

    def read(self, start: int, stop: int) -> Planes:
        planes = self.stored.read(start, stop).reshape(-1, self.height, self.width)
        check_binary(planes, start)
        return planes


@dataclass(frozen=True, eq=False)
class MemoryBytes:
    """:param array: ``[T, bytes]``"""

    array: Planes

    def read(self, start: int, stop: int) -> Planes:
        return self.array[start:stop]


@dataclass(frozen=True, eq=False)
class FileBytes:
    """A file's part that holds frames of ``frame_bytes`` from ``offset`` on."""

    path: Path
    frame_bytes: int
    offset: int = 0
    _state: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", self.path.absolute())
        object.__setattr__(self, "_state", _state(self.path.stat()))

    def read(self, start: int, stop: int) -> Planes:
        shape = (stop - start, self.frame_bytes)
        try:
            with self.path.open("rb") as file:
                # frames of a replaced file would be noise that looks like data
                if _state(os.fstat(file.fileno())) == self._state:
                    place = self.offset + start * self.frame_bytes
                    return np.fromfile(file, np.uint8, math.prod(shape), offset=place).reshape(shape)
        except (OSError, ValueError) as error:
            raise InputError(
                f"cannot read {self.path} ({error}): check the file and open it again"
            ) from error
        raise InputError(f"{self.path} has changed since it was opened: open it again")


def _state(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def block_frames(height: int, width: int) -> int:
    """How many frames of ``height`` x ``width`` pixels to unpack at a time."""
    return min(_BLOCK_FRAMES, max(1, _BLOCK_BYTES // (height * width)))


def pack(blocks: Iterable[Planes], frames: int, height: int, width: int) -> PackedPlanes:
    """Keep consecutive blocks in memory, one bit a pixel.

    :param blocks: uint8 ``[T, height, width]`` of 0 and 1, ``frames`` in all
    :raises InputError: for other values
    """
    packed = np.empty((frames, -(-height * width // 8)), np.uint8)
    at = 0
    for block in blocks:
        check_binary(block, at)
        rows = block.reshape(len(block), -1)
        packed[at : at + len(block)] = np.packbits(rows, axis=1, bitorder="little")
        at += len(block)
    return PackedPlanes(MemoryBytes(packed), frames, height, width, columns=width)


def check_binary(planes: Planes, first: int) -> None:
    """
    :param planes: uint8 ``[T, H, W]``
    :param first: number of the first frame
    :raises InputError: for values other than 0 and 1
    """
    if planes.max(initial=0) > 1:
        frame = int(np.argmax(planes.max(axis=(1, 2)) > 1))
        raise InputError(
            f"frame {first + frame} holds the value {planes[frame].max()}: spikes are 0 or 1; give bit "
            "planes, or (planes > 0) if any other value stands for a spike"
        )
