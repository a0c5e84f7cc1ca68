"""Videos as light, through PyAV."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sj_lowlat.errors import InputError
from sj_lowlat.spike_camera.encode import to_grey

__all__ = ["Video", "interpolate", "video_frames"]

Light = npt.NDArray[np.floating]


class Video:
    """A video's grey frames ``[height, width]`` in turn; each pass reads the file anew, and keeps one frame.

    :ivar fps: mean frames per second, ``None`` where the file does not say
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with _opened(self.path) as (_, stream):
            rate = stream.average_rate or stream.guessed_rate
            self.fps = float(rate) if rate else None
            self.height, self.width = int(stream.height), int(stream.width)

    def __iter__(self) -> Iterator[npt.NDArray[np.float32]]:
        """Grey float32 ``[H, W]`` in [0, 1].

        :raises InputError: if the file is broken, or its frames change their size
        """
        with _opened(self.path) as (container, stream):
            try:
                for frame in container.decode(stream):
                    if (frame.height, frame.width) != (self.height, self.width):
                        raise InputError(
                            f"{self.path} changes from {self.height} x {self.width} to {frame.height} x "
                            f"{frame.width} px: convert it to one size, e.g. with ffmpeg -vf scale"
                        )
                    yield to_grey(frame.to_ndarray(format="rgb24").transpose(2, 0, 1))  # [3, H, W] -> [H, W]
            except _av().FFmpegError as error:
                raise InputError(f"{self.path} is broken ({error}): copy or convert it again") from error


def video_frames(path: str | Path) -> Video:
    """Open a video, whatever container and codec FFmpeg reads (mp4, avi, webm, ...).

    PyAV decodes: torchvision, from 0.28, no longer does. A rotation noted in the file is not applied.

    :raises InputError: if PyAV is not installed, or if the file is missing or holds no video
    """
    return Video(path)


def interpolate(frames: Iterable[Light], steps_per_frame: int) -> Iterator[Light]:
    r"""Slow motion, as a spike camera is faster than a video: linear from each frame ``[H, W]`` to the next.

    Step :math:`n f + j` is :math:`(1 - j/n) I_f + (j/n) I_{f+1}` with n ``steps_per_frame``: light changes
    without jumps, but what moves by more than its own blur fades over, rather than moves.

    :return: ``(F - 1) * steps_per_frame + 1`` frames; it ends with the last one
    :raises InputError: if ``steps_per_frame`` is not positive
    """
    if steps_per_frame < 1:
        raise InputError(f"steps_per_frame {steps_per_frame} came: give at least 1")
    return _interpolated(frames, steps_per_frame)


def _interpolated(frames: Iterable[Light], steps: int) -> Iterator[Light]:
    last = None
    for frame in frames:
        if last is not None:
            for step in range(steps):
                weight = np.float32(step / steps)
                yield (1 - weight) * last + weight * frame
        last = frame
    if last is not None:
        yield last


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise InputError("videos are read through PyAV, which is not installed: pip install av") from error
    return av


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """A file's container and its first video stream."""
    av = _av()
    if not path.is_file():
        raise InputError(f"there is no file {path}: give the path of a video")
    try:
        container = av.open(str(path))
    except av.FFmpegError as error:
        raise InputError(f"{path} cannot be read as a video ({error}): convert it, e.g. to mp4") from error
    with container:
        if not container.streams.video:
            raise InputError(f"{path} holds no video: give a file with pictures")
        yield container, container.streams.video[0]
