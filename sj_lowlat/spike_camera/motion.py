"""Motion for still images, and generated traffic as light: what a spike camera is to look at."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from sj_lowlat.errors import InputError
from sj_lowlat.spike_camera.encode import as_light, to_grey

if TYPE_CHECKING:
    from sj_lowlat.data import MovingSequence

__all__ = ["Motion", "MovingView", "moving_views", "sequence_frames"]

_WAVES = 3


@dataclass(frozen=True)
class Motion:
    r"""How the picture moves over the sensor, from step to step.

    A point p of the still image lies, n steps later, at

    .. math:: q = c + z^n (p - c) + n \, (dx, dy) + s(n) - s(0)

    with c the middle of the image. The shake s is, in each direction, a sum of three sine waves with random
    phases and periods between ``smoothness`` and 3 ``smoothness``, at most ``shake`` px from its middle.
    Nothing moves at n = 0.

    :param pan: (dx, dy), px per step, right and down
    :param zoom: z, the factor per step; above 1 things grow
    :param shake: px
    :param smoothness: steps; a hand shakes at about 10 Hz, which is 2000 steps of a 20 kHz camera
    :param seed: of the shake, not negative
    :raises InputError: for a value out of range
    """

    pan: tuple[float, float] = (0.0, 0.0)
    zoom: float = 1.0
    shake: float = 0.0
    smoothness: float = 100.0
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.pan) != 2 or not all(math.isfinite(value) for value in self.pan):
            raise InputError(f"pan {self.pan} came: give (dx, dy) in px per step, e.g. (0.2, 0.0)")
        if not (self.zoom > 0 and math.isfinite(self.zoom)):
            raise InputError(f"zoom {self.zoom} came: give a factor per step above 0, e.g. 1.001; 1 for none")
        if not (self.shake >= 0 and math.isfinite(self.shake)) or not self.smoothness >= 1 or self.seed < 0:
            raise InputError(
                f"shake {self.shake}, smoothness {self.smoothness} and seed {self.seed} came: give a shake "
                "of 0 px or more, a smoothness of 1 step or more, and a seed of 0 or more"
            )

    def at(self, steps: int) -> tuple[float, float, float]:
        """Magnification about the middle and displacement (x, y) in px, ``steps`` after the still image."""
        phases, periods = np.random.default_rng(self.seed).random((2, 2, _WAVES))
        waves = 2 * np.pi * (phases + [[[steps]], [[0]]] / (self.smoothness * (1 + 2 * periods)))
        now, still = self.shake / _WAVES * np.sin(waves).sum(-1)  # [2 moments, x and y]
        x, y = steps * np.asarray(self.pan) + now - still
        return self.zoom**steps, float(x), float(y)


@dataclass(frozen=True, eq=False)
class MovingView:
    """A still image in motion, computed when asked for.

    :param image: grey float32 ``[H, W]`` in [0, 1]
    :param boxes: float32 ``[M, 4]`` xyxy in px, of the still image
    :param centre_frame: the frame that is the still image itself
    """

    image: npt.NDArray[np.float32]
    boxes: npt.NDArray[np.float32]
    motion: Motion
    frames: int
    centre_frame: int

    def __len__(self) -> int:
        return self.frames

    def views(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Frames ``start`` to ``stop - 1``, bilinear; beyond the image's border its last pixels are repeated.

        :return: grey float32 ``[stop - start, H, W]`` in [0, 1]
        :raises InputError: for frames that are not there
        """
        if not 0 <= start <= stop <= self.frames:
            raise InputError(f"frames {start} to {stop} came: {self.frames} frames came, from 0")
        out = np.empty((stop - start, *self.image.shape), np.float32)
        still = torch.from_numpy(self.image)[None, None]
        size = np.array(self.image.shape[::-1])
        for view, frame in zip(out, range(start, stop), strict=True):
            zoom, *shift = self.motion.at(frame - self.centre_frame)
            if zoom == 1 and shift == [0, 0]:
                view[:] = self.image
                continue
            # grid_sample asks where a pixel of the view comes from, in half widths from the middle
            back = np.concatenate([np.eye(2) / zoom, (-2 * np.array(shift) / size / zoom)[:, None]], axis=1)
            theta = torch.from_numpy(back)[None].float()
            grid = F.affine_grid(theta, list(still.shape), align_corners=False)
            seen = F.grid_sample(still, grid, padding_mode="border", align_corners=False)
            view[:] = seen[0, 0].clamp_(0, 1).numpy()
        return out

    def blocks(self, steps: int = 64) -> Iterator[npt.NDArray[np.float32]]:
        """All frames in turn, ``[steps, H, W]`` at a time, the last block shorter.

        :raises InputError: if ``steps`` is not positive
        """
        if steps < 1:
            raise InputError(f"steps {steps} came: give blocks of at least 1 frame")
        return (self.views(start, min(start + steps, self.frames)) for start in range(0, self.frames, steps))

    def boxes_at(self, frame: int) -> npt.NDArray[np.float32]:
        """The boxes at a frame, clipped to the picture.

        :return: ``[M, 4]`` xyxy in px, in the still image's order; out of view they have no area
        :raises InputError: for a frame that is not there
        """
        if not 0 <= frame < self.frames:
            raise InputError(f"frame {frame} came: give 0 to {self.frames - 1}")
        zoom, *shift = self.motion.at(frame - self.centre_frame)
        size = np.array(self.image.shape[::-1])
        corners = (self.boxes.reshape(-1, 2, 2) - size / 2) * zoom + size / 2 + shift  # [M, 2 corners, xy]
        return np.clip(corners, 0, size).reshape(-1, 4).astype(np.float32)


def moving_views(
    image: npt.ArrayLike, boxes: npt.ArrayLike, motion: Motion, frames: int, centre_frame: int | None = None
) -> MovingView:
    """Let a still image move before the camera.

    :param image: uint8 ``[3, H, W]`` RGB, or grey ``[H, W]``, uint8 or floating point in [0, 1]
    :param boxes: ``[M, 4]`` xyxy in px; M may be 0
    :param centre_frame: the frame that is the still image itself; by default the middle one
    :raises InputError: for an image, boxes or numbers that do not fit
    """
    array = np.asarray(image)
    grey = to_grey(array) if array.ndim == 3 else as_light(array).astype(np.float32)
    if grey.ndim != 2 or grey.size == 0:
        raise InputError(f"an image of shape {list(array.shape)} came: give [3, H, W] or [H, W]")
    corners = np.asarray(boxes, np.float32)
    if corners.size and (corners.ndim != 2 or corners.shape[1] != 4):
        raise InputError(f"boxes of shape {list(corners.shape)} came: give [M, 4], xyxy in px")
    centre_frame = frames // 2 if centre_frame is None else centre_frame
    if not 0 <= centre_frame < frames:
        raise InputError(
            f"frames {frames} and centre_frame {centre_frame} came: give at least 1 frame, "
            "and a centre_frame from 0 to frames - 1"
        )
    return MovingView(grey, corners.reshape(-1, 4), motion, frames, centre_frame)


def sequence_frames(sequence: MovingSequence, steps_per_frame: int = 1) -> npt.NDArray[np.float32]:
    """A sequence of :func:`sj_lowlat.data.moving_sequence` as light.

    Each frame is held for ``steps_per_frame`` steps: with one, motion is smooth; with more, things stand and
    then jump, as on a screen. Frame f begins at step ``f * steps_per_frame``, and its boxes hold there.

    :return: grey ``[F * steps_per_frame, H, W]`` in [0, 1]
    :raises InputError: if ``steps_per_frame`` is not positive
    """
    if steps_per_frame < 1:
        raise InputError(f"steps_per_frame {steps_per_frame} came: give at least 1")
    return np.repeat(to_grey(sequence.frames), steps_per_frame, axis=0)  # [F, H, W] -> [F * steps, H, W]
