"""Encoders: from images to the input of the first layer at each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import torch

from sj_lowlat.errors import InputError

if TYPE_CHECKING:
    from sj_lowlat.spike_camera import SpikeStream


class Encoder(Protocol):
    """Makes of images ``[N, C, H, W]`` the input of steps ``start`` to ``start + steps - 1``, counted from 0.

    Returns ``[N, C, H, W]`` for an input that is the same at all these steps, or ``[steps * N, C, H, W]``
    (time-major). An encoder with a true attribute ``goes_on`` also gives input during the flush.
    """

    def __call__(self, images: torch.Tensor, start: int, steps: int) -> torch.Tensor: ...


class ConstantCurrent:
    """The image itself at every step: the first layer's convolution is computed once."""

    def __call__(self, images: torch.Tensor, start: int, steps: int) -> torch.Tensor:
        return images


class Poisson:
    """Spikes of 0 and 1 at random, with the grey value in [0, 1] as their probability at each step.

    :param seed: seeds each step's draw together with its number, so that chunks do not change the spikes
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def __call__(self, images: torch.Tensor, start: int, steps: int) -> torch.Tensor:
        """``[steps * N, C, H, W]`` of 0 and 1.

        :raises InputError: for values outside [0, 1]
        """
        low, high = (float(value) for value in images.aminmax())
        if low < 0 or high > 1:
            raise InputError(
                f"images hold values from {low:.3g} to {high:.3g}; "
                "as probabilities of spikes they must lie in [0, 1]"
            )
        planes = []
        for step in range(start, start + steps):
            # torch's generator keeps 32 bits of a seed; the factor keeps neighbouring seeds' steps apart
            seed = (self.seed * 1_000_003 + step) % 2**32
            generator = torch.Generator(images.device).manual_seed(seed)
            draw = torch.rand(images.shape, generator=generator, dtype=images.dtype, device=images.device)
            planes.append((draw < images).to(images.dtype))
        return torch.cat(planes)


class SpikePlanes:
    """What spike cameras recorded, one frame a step.

    A plane counts as ``1 / rate_at_white`` where there is a spike, so that the mean over the steps is the
    grey value that a network for pictures expects. Streams smaller than the network's input lie at its top
    left, and grey (0.5) fills the rest at every step, so that boxes need no shift.

    :param streams: one a picture, of any size up to that of the input; step 0 is their first frame
    :param rate_at_white: spikes a frame of a white pixel, in (0, 1]
    :raises InputError: for another rate
    """

    def __init__(self, streams: Sequence[SpikeStream], rate_at_white: float = 0.6) -> None:
        if not 0 < rate_at_white <= 1:
            raise InputError(f"rate_at_white is {rate_at_white}, it must lie in (0, 1], such as 0.6")
        self.streams, self.rate_at_white = list(streams), rate_at_white

    def __call__(self, images: torch.Tensor, start: int, steps: int) -> torch.Tensor:
        """``[steps * N, C, H, W]``, all C channels equal; of ``images`` only shape and type count.

        :raises InputError: if a stream is larger than the images or ends before
        """
        batch, channels, height, width = images.shape
        if len(self.streams) != batch:
            raise InputError(f"{len(self.streams)} streams came for {batch} images: give one each")
        planes = images.new_full((steps, batch, 1, height, width), 0.5)
        for place, stream in enumerate(self.streams):
            frames, rows, columns = stream.shape
            if rows > height or columns > width or start + steps > frames:
                raise InputError(
                    f"a stream of {frames} frames of {rows} x {columns} came for {start + steps} steps of "
                    f"{height} x {width}: give a longer one, fewer steps, or larger images"
                )
            spikes = stream.to_torch(start, start + steps, images.dtype)
            planes[:, place, :, :rows, :columns] = spikes.to(images.device) / self.rate_at_white
        return planes.expand(-1, -1, channels, -1, -1).flatten(0, 1)


class SlidingPlanes(SpikePlanes):
    r"""A window that moves along endless streams: after the first ``window`` steps each step adds its plane
    and subtracts the one that leaves the window,

    .. math:: x(t) = s(t) - s(t - w)

    so that at every step the charge is that of the last w planes. Signed neurons follow it down as well as
    up: the state is carried over, and every read-out is of the window before it. Run it with
    ``time_steps=window`` and ``flush`` as many further steps as there are.

    :param window: w, in frames
    :raises InputError: for a window below 1 or another rate
    """

    goes_on = True

    def __init__(self, streams: Sequence[SpikeStream], window: int, rate_at_white: float = 0.6) -> None:
        super().__init__(streams, rate_at_white)
        if window < 1:
            raise InputError(f"window is {window}, it must be at least 1 frame")
        self.window = window

    def __call__(self, images: torch.Tensor, start: int, steps: int) -> torch.Tensor:
        """As :meth:`SpikePlanes.__call__`; a chunk lies wholly before or after step ``window``."""
        planes = super().__call__(images, start, steps)
        if start < self.window:
            return planes
        return planes - super().__call__(images, start - self.window, steps)


#: name -> encoder, made from a seed
ENCODERS: dict[str, Callable[[int], Encoder]] = {
    "constant": lambda seed: ConstantCurrent(),
    "poisson": Poisson,
}


def find_encoder(encoder: str | Encoder, seed: int) -> Encoder:
    """An encoder by its name in ``ENCODERS``, made from a seed, or as given.

    :raises InputError: for an unknown name
    """
    if not isinstance(encoder, str):
        return encoder
    if encoder not in ENCODERS:
        raise InputError(f"encoder is {encoder!r}, it must be one of {', '.join(ENCODERS)}, or a callable")
    return ENCODERS[encoder](seed)
