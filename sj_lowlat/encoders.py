"""From images to what the first layer sees at each step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

from sj_lowlat.errors import InputError


class Encoder(Protocol):
    """Gives the input of steps ``start`` to ``start + steps - 1``, counted from 0.

    Returns ``[N, C, H, W]`` for an input that is the same at all these steps, or ``[steps * N, C, H, W]``
    (time-major).
    """

    def __call__(self, images: torch.Tensor, start: int, steps: int) -> torch.Tensor: ...


class ConstantCurrent:
    """The image itself at every step: the first layer's convolution is computed once."""

    def __call__(self, images: torch.Tensor, start: int, steps: int) -> torch.Tensor:
        return images


class Poisson:
    """Spikes of 0 and 1 at random, with the grey value in [0, 1] as their probability at each step.

    :param seed: with the number of the step it seeds that step's draw, so that chunks do not change the
        spikes
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def __call__(self, images: torch.Tensor, start: int, steps: int) -> torch.Tensor:
        """Spikes of steps ``start`` to ``start + steps - 1``.

        :param images: ``[N, C, H, W]`` in [0, 1]
        :param start: the first step, from 0
        :param steps: number of steps
        :return: ``[steps * N, C, H, W]``
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


#: name -> encoder, made from a seed
ENCODERS: dict[str, Callable[[int], Encoder]] = {
    "constant": lambda seed: ConstantCurrent(),
    "poisson": Poisson,
}


def find_encoder(encoder: str | Encoder, seed: int) -> Encoder:
    """An encoder by name (``"constant"``, ``"poisson"``) or as given.

    :param encoder: key of ``ENCODERS``, or an encoder
    :param seed: for an encoder by name
    :raises InputError: for an unknown name
    """
    if not isinstance(encoder, str):
        return encoder
    if encoder not in ENCODERS:
        raise InputError(f"encoder is {encoder!r}, it must be one of {', '.join(ENCODERS)}, or a callable")
    return ENCODERS[encoder](seed)
