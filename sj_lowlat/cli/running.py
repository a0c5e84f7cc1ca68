"""What the verbs share: running a detector, and saying what was run."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sj_lowlat.errors import InputError
from sj_lowlat.layers import LowLatencyIFNode
from sj_lowlat.simulate import check_steps, simulate


def is_spiking(model: nn.Module) -> bool:
    """Whether ``convert`` made it."""
    return any(isinstance(module, LowLatencyIFNode) for module in model.modules())


def find_steps(model: nn.Module, time_steps: int | None, flush: int) -> int | None:
    """T of a spiking network, by default the levels it was trained for; None of another one.

    :raises InputError: if there can be no such run
    """
    if not is_spiking(model):
        if time_steps is not None or flush:
            raise InputError(
                "time_steps and flush are for spiking networks: leave them out, or run convert first"
            )
        return None
    time_steps = getattr(model, "levels", None) if time_steps is None else time_steps
    if time_steps is None:
        raise InputError("the network does not know its levels: give time_steps, such as --time-steps 16")
    check_steps(time_steps, flush, None)
    return time_steps


@torch.no_grad()
def head_maps(
    model: nn.Module, images: Tensor, time_steps: int | None, flush: int, encoder: str, seed: int
) -> tuple[Tensor, ...]:
    """Run a network, spiking if ``time_steps`` is given, on ``[N, 3, S, S]``."""
    images = images.to(next(model.parameters()).device)
    if time_steps is None:
        return model(images)
    return simulate(model, images, time_steps, flush=flush, encoder=encoder, seed=seed).final


def whole_numbers(text: str, name: str) -> tuple[int, ...]:
    """``"4,8,16"`` -> numbers.

    :raises InputError: for anything else
    """
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise InputError(
            f"{name} is {text!r}; give whole numbers with commas between, such as 4,8,16"
        ) from None


def check_output(output: Path, *sources: str | None) -> None:
    """Refuse to write results over what they are made from.

    :raises InputError: if ``output`` is the folder of one of the sources
    """
    if any(source and Path(source).resolve() == output.resolve() for source in sources):
        raise InputError(f"output is {output}, which the command reads from: give another folder")


def about(seed: int | None = None) -> dict[str, Any]:
    """Command, versions and seed, for records of results."""
    versions = {name: version(name) for name in ("torch", "torchvision", "spikingjelly", "sj_lowlat")}
    return {"command": sys.argv, "versions": versions, **({} if seed is None else {"seed": seed})}
