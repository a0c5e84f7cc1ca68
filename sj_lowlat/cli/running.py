"""What the verbs share: schedules, and options that are lists in one word."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from sj_lowlat.errors import InputError
from sj_lowlat.layers import is_spiking
from sj_lowlat.network import info_of, schedule_for
from sj_lowlat.schedule import Schedule


def find_schedule(model: nn.Module, schedule: str | None, **changes: int | None) -> Schedule | None:
    """The schedule of a run; values that are None come from the network.

    :return: the schedule of a spiking network, None for another one
    :raises InputError: if a value is not possible, or given for a network that is not spiking
    """
    if is_spiking(model):
        own = Schedule.parse(schedule) if schedule is not None else info_of(model).schedule
        time_steps = None if own is not None else info_of(model).levels
        return schedule_for(model, own, **{"time_steps": time_steps, **_given(changes)})
    if schedule is not None or _given(changes):
        raise InputError(
            "schedule, time_steps, flush, levels and burst are for spiking networks: "
            "leave them out, or run convert first"
        )
    return None


def _given(changes: dict[str, int | None]) -> dict[str, int | None]:
    return {name: value for name, value in changes.items() if value is not None}


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
