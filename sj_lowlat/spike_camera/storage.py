"""Where the bit planes of a stream are kept: packed or not, in a file or in memory."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sj_lowlat.errors import InputError

__all__ = ["FileBytes", "PlaneSource", "block_frames", "pack"]

Planes = NDArray[np.uint8]

# unpacked bytes at a time: fits the cache, however long the recording
_BLOCK_BYTES = 2 * 2**20
# a block's spikes can be added up in bytes
_BLOCK_FRAMES = 255


class FileBytes:
    """Frames of ``frame_bytes`` in a file, from byte ``offset`` on; slices are read like an array's."""

    def __init__(self, path: Path, frame_bytes: int, offset: int = 0) -> None:
        self.path, self.frame_bytes, self.offset = path.absolute(), frame_bytes, offset
        self.state = _state(path.stat())

    def __getitem__(self, part: slice) -> Planes:
        shape = (part.stop - part.start, self.frame_bytes)
        try:
            with self.path.open("rb") as file:
                # frames of a replaced file would be noise that looks like data
                if _state(os.fstat(file.fileno())) == self.state:
                    place = self.offset + part.start * self.frame_bytes
                    return np.fromfile(file, np.uint8, math.prod(shape), offset=place).reshape(shape)
        except (OSError, ValueError) as error:
            raise InputError(
                f"cannot read {self.path} ({error}): check the file and open it again"
            ) from error
        raise InputError(f"{self.path} has changed since it was opened: open it again")


def _state(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


@dataclass(frozen=True, eq=False)
class PlaneSource:
    """What a stream reads from.

    :param stored: uint8 ``[T, bytes]``
    :param columns: bits a row, of which the first ``width`` are picture; eight pixels a byte, least
        significant bit first, and a frame starts with a byte. ``None``: a byte a pixel
    :param flip: rows are stored from the bottom up
    """

    stored: Planes | FileBytes
    frames: int
    height: int
    width: int
    columns: int | None = None
    flip: bool = False

    def read(self, start: int, stop: int) -> Planes:
        """Frames ``start`` to ``stop`` as 0 and 1, uint8 ``[T, H, W]``."""
        stored = self.stored[start:stop]
        if self.columns is None:
            planes = stored.reshape(-1, self.height, self.width)
            check_binary(planes, start)
            return planes
        bits = np.unpackbits(stored, axis=1, count=self.height * self.columns, bitorder="little")
        planes = bits.reshape(-1, self.height, self.columns)[:, :, : self.width]
        return planes[:, ::-1] if self.flip else planes


def block_frames(height: int, width: int) -> int:
    """How many frames to unpack at a time."""
    return min(_BLOCK_FRAMES, max(1, _BLOCK_BYTES // (height * width)))


def pack(blocks: Iterable[Planes], frames: int, height: int, width: int) -> PlaneSource:
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
    return PlaneSource(packed, frames, height, width, columns=width)


def check_binary(planes: Planes, first: int) -> None:
    """:raises InputError: for values other than 0 and 1 in planes ``[T, H, W]`` from frame ``first`` on"""
    if planes.max(initial=0) > 1:
        frame = int(np.argmax(planes.max(axis=(1, 2)) > 1))
        raise InputError(
            f"frame {first + frame} holds the value {planes[frame].max()}: spikes are 0 or 1; give bit "
            "planes, or (planes > 0) if any other value stands for a spike"
        )
