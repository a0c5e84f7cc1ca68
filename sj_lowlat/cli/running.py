"""What the verbs share: running a detector, and saying what was run."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
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


@dataclass(frozen=True)
class Schedule:
    """How a spiking network is run: arguments of :func:`~sj_lowlat.simulate.simulate`."""

    time_steps: int
    flush: int
    levels: int
    burst: int


def find_schedule(
    model: nn.Module, time_steps: int | None, flush: int | None, levels: int | None, burst: int | None
) -> Schedule | None:
    """How to run a network; what is None comes from the network.

    A shipped network has a schedule; another one gets as many steps as levels, no flush and single spikes.

    :return: the schedule of a spiking network, None for another one
    :raises InputError: if there can be no such run
    """
    given = {"time_steps": time_steps, "flush": flush, "levels": levels, "burst": burst}
    given = {name: value for name, value in given.items() if value is not None}
    if not is_spiking(model):
        if given:
            raise InputError(
                "time_steps, flush, levels and burst are for spiking networks: "
                "leave them out, or run convert first"
            )
        return None
    own = {"time_steps": getattr(model, "levels", None), "flush": 0, "burst": 1}
    options = {**own, **getattr(model, "schedule", {}), **given}
    if options["time_steps"] is None:
        raise InputError("the network does not know its levels: give time_steps, such as --time-steps 16")
    schedule = Schedule(**{"levels": options["time_steps"], **options})
    check_steps(schedule.time_steps, schedule.flush, None)
    for name in ("levels", "burst"):
        if options.get(name, 1) < 1:
            raise InputError(f"{name} is {options[name]}, it must be at least 1")
    return schedule


@torch.no_grad()
def head_maps(
    model: nn.Module, images: Tensor, schedule: Schedule | None, encoder: str, seed: int
) -> tuple[Tensor, ...]:
    """Run a network, spiking if there is a schedule, on ``[N, 3, S, S]``."""
    images = images.to(next(model.parameters()).device)
    if schedule is None:
        return model(images)
    return simulate(model, images, **asdict(schedule), encoder=encoder, seed=seed).final


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


def finer_factors(text: str | None) -> dict[str, int]:
    """``"layers.0.act=4,layers.2.act=4"`` -> factors.

    :raises InputError: for another form
    """
    try:
        pairs = [part.split("=") for part in text.split(",")] if text else []
        return {name.strip(): int(factor) for name, factor in pairs}
    except ValueError:
        raise InputError(
            f"finer is {text!r}; give names and factors with commas between, such as layers.0.act=4"
        ) from None
