"""Bit planes of a spike camera, unpacked only where somebody looks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sj_lowlat.errors import InputError
from sj_lowlat.spike_camera.storage import Planes, PlaneSource, block_frames, pack

if TYPE_CHECKING:
    import torch

__all__ = ["SpikeStream"]


@dataclass(frozen=True, eq=False)
class SpikeStream:
    """Bit planes of a spike camera: a lazy view, whose slices share their source.

    Files are read a window at a time and never kept open or memory-mapped: mapped pages would count as
    resident memory, and a mapped file that shrinks kills the process. Windows are ``start`` to ``stop``, the
    frame after the last; by default the whole view.

    :param source: reads and unpacks the planes
    :param frame_rate: in Hz
    :param first: the view's first frame, counted in ``source``
    :param stop: the frame after its last; -1: all
    :raises InputError: if ``frame_rate`` is not positive or the view leaves ``source``
    """

    source: PlaneSource
    frame_rate: float = 20000.0
    first: int = 0
    stop: int = -1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.frame_rate) and self.frame_rate > 0):
            raise InputError(f"frame_rate {self.frame_rate} came: give frames a second, above 0")
        if self.stop == -1:
            object.__setattr__(self, "stop", self.source.frames)
        if not 0 <= self.first <= self.stop <= self.source.frames:
            raise InputError(
                f"frames {self.first}:{self.stop} came: give a part of 0:{self.source.frames}, in order"
            )

    @classmethod
    def from_planes(cls, planes: NDArray[Any], frame_rate: float = 20000.0) -> SpikeStream:
        """Keep a packed copy (one bit a pixel) of planes.

        :param planes: uint8 or bool ``[T, H, W]`` of 0 and 1
        :raises InputError: for another type, shape or value, or if a side is 0
        """
        if not isinstance(planes, np.ndarray):
            raise InputError(f"planes of the type {type(planes).__name__} came: give a numpy array")
        if planes.dtype not in (np.uint8, np.bool_) or planes.ndim != 3 or planes.size == 0:
            raise InputError(
                f"{planes.dtype} planes of the shape {list(planes.shape)} came: give uint8 or bool [T, H, W] "
                "of 0 and 1, with at least one frame and one pixel"
            )
        return cls(pack([planes.view(np.uint8)], *planes.shape), frame_rate)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, height and width."""
        return len(self), self.source.height, self.source.width

    def __len__(self) -> int:
        return self.stop - self.first

    def __repr__(self) -> str:
        frames, height, width = self.shape
        return f"SpikeStream({frames} frames of {height} x {width} at {self.frame_rate:g} Hz)"

    def __getitem__(self, part: slice) -> SpikeStream:
        """A view of consecutive frames, clipped like any slice; nothing is read.

        :raises InputError: for a single number or a step other than 1
        """
        if not isinstance(part, slice):
            raise InputError(f"index {part!r} came: give a slice, or planes(i, i + 1) for one frame")
        if part.step not in (None, 1):
            raise InputError(f"a slice with the step {part.step} came: streams have step 1; slice planes()")
        start, stop, _ = part.indices(len(self))
        return replace(self, first=self.first + start, stop=self.first + max(start, stop))

    def window(self, centre: int, length: int) -> SpikeStream:
        """A view of the frames ``centre - length // 2`` to that plus ``length``; nothing is read.

        :raises InputError: if the window is empty or leaves the stream
        """
        start = centre - length // 2
        if length < 1 or start < 0 or start + length > len(self):
            raise InputError(
                f"a window of {length} frames around frame {centre} came: the stream has the frames 0 to "
                f"{len(self) - 1}; give a length of at least 1 and a centre {max(length, 0) // 2} or more "
                "frames from the ends"
            )
        return self[start : start + length]

    def planes(self, start: int = 0, stop: int | None = None) -> Planes:
        """Unpack a window.

        :return: a new array of 0 and 1, uint8 ``[T, H, W]``
        :raises InputError: if the window leaves the stream, the file has changed or holds other values
        """
        start, stop = self._bounds(start, stop)
        planes = np.empty((stop - start, *self.shape[1:]), np.uint8)
        at = 0
        for block in self.blocks(start, stop):
            planes[at : at + len(block)] = block
            at += len(block)
        return planes

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[Planes]:
        """Unpack a window in consecutive parts of at most 2 MiB, or one frame.

        :return: parts of 1 to 255 frames, uint8 ``[T, H, W]``
        :raises InputError: as :meth:`planes`
        """
        start, stop = self._bounds(start, stop)
        step = block_frames(self.source.height, self.source.width)
        for at in range(start, stop, step):
            yield self.source.read(self.first + at, self.first + min(at + step, stop))

    def to_torch(
        self, start: int = 0, stop: int | None = None, dtype: torch.dtype | None = None
    ) -> torch.Tensor:
        """Unpack a window as one-channel pictures.

        :return: ``[T, 1, H, W]`` of 0 and 1, float32 by default
        :raises InputError: as :meth:`planes`
        """
        # not at the top: torch takes 500 MB, which the scan of a recording can do without
        import torch

        return torch.from_numpy(self.planes(start, stop)).unsqueeze(1).to(dtype or torch.float32)

    def counts(self, start: int = 0, stop: int | None = None) -> NDArray[np.int32]:
        """Add up a window's spikes; memory does not grow with the window.

        :return: spikes of each pixel, int32 ``[H, W]``
        :raises InputError: as :meth:`planes`
        """
        total = np.zeros(self.shape[1:], np.int32)
        for block in self.blocks(start, stop):
            total += block.sum(0, dtype=np.uint8)  # [T, H, W] -> [H, W]
        return total

    def mean_rate(self, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """The share of a window's frames in which a pixel fires; memory does not grow with the window.

        :return: spikes a frame, 0 to 1, float32 ``[H, W]``; times ``frame_rate`` it is in Hz
        :raises InputError: as :meth:`planes`, or if the window is empty
        """
        start, stop = self._bounds(start, stop)
        if start == stop:
            raise InputError(f"the empty window {start}:{stop} came: a mean needs at least one frame")
        return (self.counts(start, stop) / (stop - start)).astype(np.float32)

    def _bounds(self, start: int, stop: int | None) -> tuple[int, int]:
        first, last = index(start), len(self) if stop is None else index(stop)
        if not 0 <= first <= last <= len(self):
            raise InputError(
                f"frames {first}:{last} came: the stream has the frames 0:{len(self)}; give a part of them"
            )
        return first, last
