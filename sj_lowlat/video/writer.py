"""Videos of drawn frames: MP4 or GIF, playable also after an interruption."""

from __future__ import annotations

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

from torch import Tensor

from sj_lowlat.errors import InputError
from sj_lowlat.files import atomic_write
from sj_lowlat.video.frames import _av

__all__ = ["VideoWriter"]

_CODECS = {".mp4": (("libx264", "yuv420p"), ("mpeg4", "yuv420p")), ".gif": (("gif", "rgb8"),)}


class VideoWriter:
    """Context manager: writes frames into a video, which gets its name when the block ends, also by Ctrl-C.

    :param path: name ending in .mp4 or .gif
    :param fps: frames per second
    :raises InputError: for another ending, or if PyAV is not installed
    """

    def __init__(self, path: str | Path, fps: float) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() not in _CODECS:
            raise InputError(f"videos are written as .mp4 or .gif; got {path}")
        if not fps > 0:
            raise InputError(f"fps is {fps}; give frames per second above 0, such as 25")
        self.fps = Fraction(fps).limit_denominator(1001)
        self.frames = 0
        self._av = _av()
        self._stream: Any = None
        self._stack = ExitStack()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *error: object) -> None:
        # not told of the error: what was written so far is whole, and keeps its name
        try:
            if self._stream is not None:
                for packet in self._stream.encode():
                    self._container.mux(packet)
        finally:
            self._stack.close()

    def _begin(self, height: int, width: int) -> None:
        temporary = self._stack.enter_context(atomic_write(self.path))
        self._container = self._stack.enter_context(self._av.open(str(temporary), "w"))
        for codec, pixels in _CODECS[self.path.suffix.lower()]:
            if codec in self._av.codecs_available:
                self._stream = self._container.add_stream(codec, rate=self.fps)
                self._stream.pix_fmt = pixels
                break
        else:
            raise InputError(f"this FFmpeg has no encoder for {self.path.suffix}: give another ending")
        # most codecs halve their colours, which takes even sides
        self._stream.height, self._stream.width = height - height % 2, width - width % 2

    def write(self, image: Tensor) -> None:
        """Add a frame; one of another size than the first is scaled to that.

        :param image: uint8 ``[3, H, W]``
        """
        if self._stream is None:
            self._begin(*image.shape[1:])
        pixels = image.cpu().permute(1, 2, 0).contiguous().numpy()
        frame = self._av.VideoFrame.from_ndarray(pixels, format="rgb24")
        target = self._stream
        frame = frame.reformat(width=target.width, height=target.height, format=target.pix_fmt)
        frame.pts, frame.time_base = self.frames, 1 / self.fps
        for packet in target.encode(frame):
            self._container.mux(packet)
        self.frames += 1
