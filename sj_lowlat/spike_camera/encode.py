"""From light to spikes: a pixel of a spike camera is an integrate-and-fire neuron."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from sj_lowlat.errors import InputError

__all__ = ["SpikeEncoder", "as_light", "encode_frames", "to_grey"]

# charges are integers, this many to the threshold: sums are exact, however the frames are split into blocks
_THRESHOLD = 2**30


def to_grey(images: npt.ArrayLike) -> npt.NDArray[np.float32]:
    r"""Luma of ITU-R BT.601, :math:`(0.299 R + 0.587 G + 0.114 B) / 255`.

    :param images: uint8 ``[*, 3, H, W]``, an array or a tensor on the CPU
    :return: float32 ``[*, H, W]`` in [0, 1]; white is exactly 1
    :raises InputError: for another type or shape
    """
    array = np.asarray(images)
    if array.dtype != np.uint8 or array.ndim < 3 or array.shape[-3] != 3:
        raise InputError(
            f"images of type {array.dtype} and shape {list(array.shape)} came: give uint8 [*, 3, H, W], RGB"
        )
    red, green, blue = (array[..., channel, :, :].astype(np.int32) for channel in range(3))  # [*, H, W]
    return ((299 * red + 587 * green + 114 * blue) / 255_000).astype(np.float32)


def as_light(frames: npt.ArrayLike) -> npt.NDArray[np.floating]:
    """Grey frames, any shape, as light in [0, 1]: uint8 is divided by 255, floating point checked and kept.

    :raises InputError: for another type, or for values outside [0, 1]
    """
    array = np.asarray(frames)
    if array.dtype == np.uint8:
        return (array / 255).astype(np.float32)
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"frames of type {array.dtype} came: give uint8 (0 to 255) or float (0 to 1)")
    if array.size and not (array.min() >= 0 and array.max() <= 1):  # a NaN fails as well
        raise InputError(
            f"frames hold values from {array.min():.3g} to {array.max():.3g}: "
            "light must lie in [0, 1], divide by the white level first"
        )
    return array


class SpikeEncoder:
    r"""A spike camera, simulated pixel by pixel; it keeps its state, so that frames may come in blocks.

    With the light :math:`I \in [0, 1]`, in units of the threshold and per step:

    .. math:: V \leftarrow V + r I, \quad s = [V \ge 1], \quad V \leftarrow V - s

    where :math:`r` is ``rate_at_white`` and each pixel's :math:`V(0)` is uniform in [0, 1). Constant light
    gives :math:`\lfloor V(0) + T r I \rfloor` spikes, so the mean rate of T steps is within 1/T of
    :math:`r I`, and unbiased over the pixels.

    With ``photons`` the charge of a step is :math:`\mathrm{Poisson}(p\, r I) / p`, where :math:`p` photons
    fill a pixel up to its threshold. What exceeds the threshold is kept for the next step.

    Grey values are taken as proportional to the light: undo gamma (sRGB) beforehand where that matters, but
    not for a detector trained on photographs, which have it.

    :param rate_at_white: spikes per step of a white pixel, in (0, 1]; 0.02 is little light, 0.6 that of the
        simulated REDS clips of Spk2ImgNet
    :param photons: to the threshold; ``None`` for no noise
    :param seed: of the start, and with the frame's number of the noise; not negative
    :raises InputError: for a value out of range
    """

    def __init__(
        self,
        height: int,
        width: int,
        *,
        rate_at_white: float = 0.6,
        photons: float | None = None,
        seed: int = 0,
    ) -> None:
        if height < 1 or width < 1:
            raise InputError(f"a sensor of height {height} and width {width} came: give at least 1 x 1")
        if not 0 < rate_at_white <= 1:
            raise InputError(
                f"rate_at_white {rate_at_white} came: a pixel fires at most once a step, so give a rate "
                "above 0 and up to 1, e.g. 0.6 for bright and 0.02 for dark scenes"
            )
        if photons is not None and not (photons > 0 and math.isfinite(photons)):
            raise InputError(
                f"photons {photons} came: give a positive number (100 is noisy, 1000 is not), "
                "or None for no noise"
            )
        if seed < 0:
            raise InputError(f"seed {seed} came: give 0 or above")
        self.height, self.width = height, width
        self.rate_at_white, self.photons, self.seed = rate_at_white, photons, seed
        self.reset()

    def reset(self) -> None:
        """Go back to the start, for the next recording."""
        #: number of frames encoded so far
        self.frames = 0
        start = np.random.default_rng([self.seed, 0])
        self._charge = start.integers(0, _THRESHOLD, (self.height, self.width), np.int64)

    @property
    def charge(self) -> npt.NDArray[np.float64]:
        """V ``[H, W]``, in units of the threshold."""
        return self._charge / _THRESHOLD

    def step(self, frame: npt.ArrayLike) -> npt.NDArray[np.uint8]:
        """Spikes of the next step, ``[H, W]``; see :meth:`encode`."""
        return self.encode(np.asarray(frame)[None])[0]

    def encode(self, frames: npt.ArrayLike) -> npt.NDArray[np.uint8]:
        """Spikes of the next T steps; the same whether they come in one block or in several.

        :param frames: grey ``[T, H, W]``, one a step, uint8 or floating point in [0, 1]
        :return: uint8 ``[T, H, W]``, 0 or 1
        :raises InputError: for another shape or type, or values outside [0, 1]
        """
        array = np.asarray(frames)
        if array.ndim != 3 or array.shape[1:] != (self.height, self.width):
            raise InputError(
                f"frames of shape {list(array.shape)} came, the sensor takes [T, {self.height}, {self.width}]"
            )
        planes = np.empty(array.shape, np.uint8)
        for plane, frame in zip(planes, array, strict=True):
            charge = as_light(frame).astype(np.float64) * self.rate_at_white
            if self.photons is not None:
                noise = np.random.default_rng([self.seed, 1, self.frames])
                charge = noise.poisson(charge * self.photons) / self.photons
            self._charge += np.rint(charge * _THRESHOLD).astype(np.int64)
            np.greater_equal(self._charge, _THRESHOLD, out=plane, casting="unsafe")
            self._charge -= plane * np.int64(_THRESHOLD)
            self.frames += 1
        return planes


def encode_frames(
    frames: npt.ArrayLike, *, rate_at_white: float = 0.6, photons: float | None = None, seed: int = 0
) -> npt.NDArray[np.uint8]:
    """Spikes of a whole sequence; see :class:`SpikeEncoder` for the equations and for long sequences.

    :param frames: grey ``[T, H, W]``, one a step, uint8 or floating point in [0, 1]
    :return: uint8 ``[T, H, W]``, 0 or 1
    :raises InputError: for frames or values that cannot be encoded
    """
    array = np.asarray(frames)
    if array.ndim != 3:
        raise InputError(f"frames of shape {list(array.shape)} came: give [T, H, W], one grey frame a step")
    _, height, width = array.shape
    return SpikeEncoder(height, width, rate_at_white=rate_at_white, photons=photons, seed=seed).encode(array)
