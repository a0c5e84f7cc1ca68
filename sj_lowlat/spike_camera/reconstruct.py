"""From spikes back to pictures: rates around a moment, by counting, by intervals, or by the better of both.

Planes are uint8 or bool ``[T, H, W]``, 0 or 1; a rate is in spikes per step, so it is ``rate_at_white`` times
the grey value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from sj_lowlat.errors import InputError

__all__ = ["adaptive", "tfi", "tfp", "to_image", "whole_intervals"]

_Rates = npt.NDArray[np.float32]


def tfp(planes: npt.NDArray[Any], centre: int, window: int) -> _Rates:
    """Texture from playback: the mean of the ``window`` frames around ``centre``.

    Of a still scene without noise it is off by less than 1 / ``window``.

    :param planes: ``[T, H, W]``, 0 or 1
    :param window: odd
    :return: ``[H, W]`` in [0, 1]
    :raises InputError: if the window does not lie within the planes
    """
    half = _check(planes, centre, window)
    return planes[centre - half : centre + half + 1].mean(0, dtype=np.float32)


def tfi(planes: npt.NDArray[Any], centre: int, window: int = 1) -> _Rates:
    r"""Texture from interspike intervals: 1 / the interval between the two spikes around ``centre``.

    In planes ``[T, H, W]`` they are the last spike at or before frame ``centre`` and the first one after it.
    A ``window`` of :math:`2h + 1` frames takes as many whole intervals as cover it,

    .. math:: k / (t_b - t_a), \quad t_a = \max\{t \le c - h\}, \quad t_b = \min\{t > c + h\}

    over spikes at t, with k spikes in :math:`(t_a, t_b]`. Of a still scene without noise it is off by less
    than the rate / :math:`(t_b - t_a)`: the darker the pixel, the better it is than :func:`tfp` of the same
    window, and the farther it looks beyond the window.

    A missing spike is taken to be just outside the planes, at -1 or at T; the result is then the highest rate
    that fits, 1 / (T + 1) for a pixel that never fires.

    :return: ``[H, W]`` in (0, 1]
    :raises InputError: if the window does not lie within the planes
    """
    return whole_intervals(planes, centre, window)[0]


def adaptive(
    planes: npt.NDArray[Any],
    centre: int,
    windows: Sequence[int] = (61, 11, 5),
    photons: float | None = None,
    pool: int = 5,
) -> _Rates:
    r"""A long window where the picture rests, shorter ones where it moves.

    Starts with the :func:`tfi` rate x of the first window, and lets each shorter one correct it. At rest a
    rate over a span of n frames has the variance

    .. math:: q = x^2 / (6 n^2) + x / (p n)

    (two thresholds crossed anywhere within a step, and shot noise of p photons a spike). What the rate so
    far (x, q) and that of the next window (x', q') differ by, beyond twice that noise, is put down to motion:

    .. math:: b = \max(0, \langle (x' - x)^2 \rangle - 2 \langle q + q' \rangle), \quad
        k = \frac{b}{b + \langle q' \rangle}, \quad x \leftarrow x + k (x' - x)

    with means over ``pool`` x ``pool`` pixels, and :math:`q \leftarrow (1 - k)^2 q + k^2 q'`. That k has the
    least expected squared error, where b is the square of what motion costs the longer window. Twice, since
    a mean of few pixels is uncertain itself.

    In dim light, with spikes farther apart than the shorter windows, it is close to :func:`tfi`.

    :param planes: ``[T, H, W]``, 0 or 1
    :param windows: frames around frame ``centre``, odd, falling
    :param photons: to the threshold; ``None`` for no shot noise. Too high a number takes noise for motion,
        too low a one motion for noise
    :param pool: side of the neighbourhood, odd
    :return: ``[H, W]`` in (0, 1]
    :raises InputError: if the first window does not lie within the planes, or for a value out of range
    """
    if photons is not None and not photons > 0:
        raise InputError(f"photons {photons} came: give a positive number, or None for no shot noise")
    if not windows or any(after >= before for before, after in pairwise(windows)):
        raise InputError(f"windows {list(windows)} came: give odd numbers that fall, e.g. 61, 11, 5")
    if pool < 1 or pool % 2 == 0:
        raise InputError(f"pool {pool} came: give an odd number from 1")
    noise = 0.0 if photons is None else 1 / photons

    rate, span = whole_intervals(planes, centre, windows[0])
    variance = (rate / span) ** 2 / 6 + noise * rate / span
    for window in windows[1:]:
        new, span = whole_intervals(planes, centre, window)
        new_variance = _box_mean((new / span) ** 2 / 6 + noise * new / span, pool)
        motion = np.maximum(0, _box_mean((new - rate) ** 2 - 2 * variance, pool) - 2 * new_variance)
        share = motion / (motion + new_variance)
        rate = rate + share * (new - rate)
        variance = (1 - share) ** 2 * variance + share**2 * new_variance
    return rate


def to_image(grey: npt.NDArray[np.floating], gain: float | Literal["auto"] = "auto") -> npt.NDArray[np.uint8]:
    """Rates as a picture, for a detector that was trained on RGB photographs.

    :param grey: ``[H, W]``, not negative
    :param gain: rates times gain are 1 at white: ``1 / rate_at_white`` for true grey values; ``"auto"``
        makes the 99.5th percentile white, for any light (and a black picture stays black)
    :return: uint8 ``[3, H, W]``, three equal channels
    :raises InputError: for another shape, or for a gain that is not positive
    """
    if grey.ndim != 2 or grey.size == 0:
        raise InputError(f"a picture of shape {list(grey.shape)} came: give [H, W], e.g. from adaptive()")
    if isinstance(gain, str):
        if gain != "auto":
            raise InputError(f"gain {gain!r} came: give a positive number or 'auto'")
        white = float(np.percentile(grey, 99.5)) or float(grey.max())
        gain = 1 / white if white > 0 else 1.0
    if not (gain > 0 and math.isfinite(gain)):
        raise InputError(f"gain {gain} came: give a positive number, e.g. 1 / rate_at_white, or 'auto'")
    image = np.rint(np.clip(grey * gain, 0, 1) * 255).astype(np.uint8)
    return np.repeat(image[None], 3, axis=0)  # [3, H, W]


def _check(planes: npt.NDArray[Any], centre: int, window: int) -> int:
    """Half the window, checked."""
    if planes.ndim != 3 or planes.size == 0 or planes.dtype not in (np.uint8, np.bool_):
        raise InputError(
            f"planes of type {planes.dtype} and shape {list(planes.shape)} came: "
            "give uint8 or bool [T, H, W] with at least one frame"
        )
    frames = len(planes)
    if not 0 <= centre < frames:
        raise InputError(f"centre {centre} came: {frames} frames came, so give 0 to {frames - 1}")
    widest = 2 * min(centre, frames - 1 - centre) + 1
    if window < 1 or window % 2 == 0 or window > widest:
        raise InputError(
            f"window {window} came: around frame {centre} of {frames} give an odd number from 1 to {widest}, "
            "or more frames"
        )
    return window // 2


def whole_intervals(planes: npt.NDArray[Any], centre: int, window: int) -> tuple[_Rates, _Rates]:
    """Rate and span of the whole intervals that cover the window, ``[H, W]`` each; see :func:`tfi`."""
    half = _check(planes, centre, window)
    first, last = centre - half, centre + half
    # argmax is the first True, counted from the window outwards; beyond the planes every pixel fires
    outside = np.ones((1, *planes.shape[1:]), bool)
    start = first - np.concatenate([planes[first::-1] != 0, outside]).argmax(0)
    end = last + 1 + np.concatenate([planes[last + 1 :] != 0, outside]).argmax(0)
    # after the start: spikes within the window, and the one that ends the last interval
    count = planes[first + 1 : last + 1].sum(0, dtype=np.int32) + 1
    span = (end - start).astype(np.float32)
    return (count / span).astype(np.float32), span


def _box_mean(values: _Rates, side: int) -> _Rates:
    """Mean of the ``side`` x ``side`` pixels around each, of those within the picture."""
    pooled = F.avg_pool2d(torch.from_numpy(values)[None], side, 1, side // 2, count_include_pad=False)
    return pooled[0].numpy()
