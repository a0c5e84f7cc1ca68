"""From images to what the first layer sees at each step."""

from __future__ import annotations

from typing import Protocol

import torch

from sj_lowlat.errors import InputError


class Encoder(Protocol):
    """Gives the input of steps ``start`` to ``start + steps - 1``.

    Returns ``[N, C, H, W]`` for an input that is the same at every step, or ``[steps * N, C, H, W]`` (time-major).
    """

    def __call__(self, images: torch.Tensor, start: int, steps: int) -> torch.Tensor: ...


class ConstantCurrent:
    """The image itself at every step: the first layer's convolution is computed once."""

    def __call__(self, images: torch.Tensor, start: int, steps: int) -> torch.Tensor:
        return images


class Poisson:
    """Spikes of 0 and 1 at random, with the grey value in [0, 1] as their probability at each step.

    :param seed: step t of a presentation draws from seed + t, so that chunks do not change the spikes
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def __call__(self, images: torch.Tensor, start: int, steps: int) -> torch.Tensor:
        planes = []
        for step in range(start, start + steps):
            generator = torch.Generator(images.device).manual_seed(self.seed + step)
            planes.append((torch.rand(images.shape, generator=generator, device=images.device) < images).to(images.dtype))
        return torch.cat(planes)


ENCODERS = {"constant": ConstantCurrent, "poisson": Poisson}


def find_encoder(encoder: str | Encoder, seed: int) -> Encoder:
    """An encoder by name (``"constant"``, ``"poisson"``) or as given.

    :raises InputError: for an unknown name
    """
    if not isinstance(encoder, str):
        return encoder
    if encoder not in ENCODERS:
        raise InputError(f"encoder is {encoder!r}, it must be one of {', '.join(ENCODERS)}, or a callable")
    return ConstantCurrent() if encoder == "constant" else Poisson(seed)
