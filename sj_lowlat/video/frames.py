"""Frames of videos, image sequences and cameras, one at a time."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sj_lowlat.data import ImageFolderDataset, read_image
from sj_lowlat.errors import InputError

__all__ = ["VIDEO_SUFFIXES", "Frames", "is_video", "open_frames"]

VIDEO_SUFFIXES = (".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
"""Of files that the command line takes for videos; PyAV may read others."""
_IN_A_ROW = 25  # broken packets after which a file is given up


class Frames:
    """Frames uint8 ``[3, H, W]``, RGB, in turn; ``None`` for one that could not be decoded.

    Each pass over it opens the source anew, and keeps one frame at a time.

    :ivar name: of the source
    :ivar fps: mean frames per second, ``None`` where the source does not say
    :ivar count: how many frames there are, ``None`` where it is not known
    """

    def __init__(self, name: str, fps: float | None, count: int | None) -> None:
        self.name, self.fps, self.count = name, fps, count

    def __iter__(self) -> Iterator[Tensor | None]:
        raise NotImplementedError


class _Pictures(Frames):
    """Files of an image sequence, by name."""

    def __init__(self, name: str, files: list[Path]) -> None:
        super().__init__(name, None, len(files))
        self.files = files

    def __iter__(self) -> Iterator[Tensor | None]:
        return map(read_image, self.files)


class _Video(Frames):
    """What FFmpeg opens."""

    def __init__(self, name: str, url: str, form: str | None) -> None:
        self.url, self.form = url, form
        container, stream = self._open(name)
        with closing(container):
            rate = stream.average_rate or stream.guessed_rate
            super().__init__(name, float(rate) if rate else None, stream.frames or None)

    def _open(self, name: str) -> tuple[Any, Any]:
        av = _av()
        try:
            container = av.open(self.url, format=self.form)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise InputError(
                f"{name} cannot be read as a video ({error}): convert it, e.g. to mp4"
            ) from error
        if not container.streams.video:
            container.close()
            raise InputError(f"{name} holds no video: give a file with pictures")
        return container, container.streams.video[0]

    def __iter__(self) -> Iterator[Tensor | None]:
        av = _av()
        container, stream = self._open(self.name)
        with closing(container):
            broken = given = 0
            packets = container.demux(stream)
            while True:
                try:
                    packet = next(packets, None)
                    if packet is None:
                        break
                    decoded = packet.decode()
                except av.FFmpegError as error:
                    broken += 1
                    if broken > _IN_A_ROW:
                        raise InputError(
                            f"{self.name} is broken ({error}): copy or convert it again"
                        ) from error
                    if given:
                        yield None
                    continue
                for frame in decoded:
                    broken, given = 0, given + 1
                    yield torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1).contiguous()
            if not given:
                raise InputError(f"{self.name} holds no frame that can be decoded: copy or convert it again")


def open_frames(source: str | Path | int) -> Frames:
    """Open a video, through PyAV, or an image sequence.

    :param source: a file that FFmpeg reads (mp4, avi, animated GIF, ...); a folder of pictures or a pattern
        such as ``"street/*.png"``, whose files are taken by name; a camera: its number, or on Linux its
        device, such as ``/dev/video0``
    :return: the frames; a camera's do not end
    :raises InputError: if there is no such source, it holds no video, or PyAV is not installed
    """
    if isinstance(source, int):
        source = f"/dev/video{source}"
    path = Path(source)
    if path.is_dir():
        return _Pictures(str(path), list(ImageFolderDataset(path).images))
    if path.is_char_device():
        return _Video(str(path), str(path), "v4l2")
    if not path.exists() and glob.has_magic(str(source)):
        files = sorted(Path(file) for file in glob.glob(str(source)))
        if not files:
            raise InputError(f"no file is named like {source}: check folder and pattern")
        return _Pictures(str(source), files)
    if not path.is_file():
        raise InputError(f"there is no video {source}: give a file, a folder of pictures, or a camera")
    return _Video(str(path), f"file:{path}", None)


def is_video(path: Path) -> bool:
    """Whether the command line takes a path for a video or a camera."""
    return path.suffix.lower() in VIDEO_SUFFIXES or path.is_char_device()


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise InputError("videos are read through PyAV, which is not installed: pip install av") from error
    return av
