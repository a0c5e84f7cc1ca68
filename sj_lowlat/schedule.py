"""The schedule of a run, as one record."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from sj_lowlat.errors import InputError

# at most nine digits: no run is longer
_WRITTEN = re.compile(
    r"([1-9]\d{0,8})(?:\+(\d{1,9}))?(?:b([1-9]\d{0,8}))?(?:c([1-9]\d{0,8}))?(?:p([1-9]\d{0,8})(?:x([1-9]\d{0,8}))?)?",
    flags=re.ASCII,
)


@dataclass(frozen=True)
class Schedule:
    """Time steps of a run, and what happens in them.

    Written ``4+2b4``: 4 steps with input, 2 of flush, bursts of up to 4 spikes; ``16`` is ``16+0b1``;
    ``8+4c16``: 8 steps with input carry the charge of 16, and 4 of flush follow; ``16+0p8``: 8 pre-steps,
    then 16 steps; ``16+0p8x3``: three times 8 pre-steps.

    :param time_steps: T, steps with input
    :param flush: K, further steps without input, in which signed neurons settle
    :param burst: most spikes of a neuron in one step; times k for a neuron whose levels are k times as fine
    :param charge: L, input gain: the T input steps carry the charge of L steps, so input and biases are
        multiplied by L / T. ``None``: the levels of the network, so that the counts can settle to those of
        the quantised network whatever T is; T for a network without levels
    :param pre: pre-steps: steps with the same input that come first, after which neurons that can
        (``convert(neuron="srp")``, ``"cos"``) correct V(0), and the run begins anew from there
    :param rounds: how often pre-steps and correction are repeated, each time from the V(0) of the last one
    :raises InputError: naming the value that is not possible
    """

    time_steps: int
    flush: int = 0
    burst: int = 1
    charge: int | None = None
    pre: int = 0
    rounds: int = 1

    def __post_init__(self) -> None:
        whole("time_steps", self.time_steps, 1, "for instance 16")
        whole("flush", self.flush, 0, "0 for none")
        whole("burst", self.burst, 1, "1 for single spikes")
        whole("pre", self.pre, 0, "0 for none")
        whole("rounds", self.rounds, 1, "1 for one correction")
        if self.rounds > 1 and not self.pre:
            raise InputError(f"rounds is {self.rounds} without pre-steps; give pre, for instance 8")
        if self.charge is not None:
            whole("charge", self.charge, 1, "or None for the levels of the network")

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Read the written form, such as ``"4+2b4"``.

        :raises InputError: for anything else
        """
        match = _WRITTEN.fullmatch(text.strip())
        if match is None:
            form = "time steps, + flush, b burst, c charge, p pre-steps, x rounds"
            raise InputError(
                f"schedule {text!r}: write {form}, as in 16, 8+4, 2+4b2, 8+4c16, 16+0p8 or 16+0p8x3"
            )
        steps, flush, burst, charge, pre, rounds = match.groups()
        gain = int(charge) if charge else None
        return cls(int(steps), int(flush or 0), int(burst or 1), gain, int(pre or 0), int(rounds or 1))

    def __str__(self) -> str:
        burst = f"b{self.burst}" if self.burst > 1 else ""
        charge, pre = f"c{self.charge}" if self.charge else "", f"p{self.pre}" if self.pre else ""
        rounds = f"x{self.rounds}" if self.rounds > 1 else ""
        return f"{self.time_steps}+{self.flush}{burst}{charge}{pre}{rounds}"

    @property
    def total(self) -> int:
        """Latency: pre-steps of all rounds, steps with input and flush together."""
        return self.before + self.time_steps + self.flush

    @property
    def before(self) -> int:
        """Pre-steps of all rounds; the earliest read-out is at the step after them."""
        return self.pre * self.rounds

    @property
    def unit_steps(self) -> int:
        """Latency on hardware of single spikes, where a burst takes its length: total x burst."""
        return self.total * self.burst

    @property
    def gain(self) -> float:
        """Input gain L / T: the charge of one step with input, in steps.

        :raises InputError: if the charge is not known
        """
        if self.charge is None:
            raise InputError("the charge of this schedule is not known: see sj_lowlat.network.schedule_for")
        return self.charge / self.time_steps

    def to_json(self) -> dict[str, int | None]:
        """The fields as a dictionary."""
        return asdict(self)

    # ``simulate(snn, images, **snn.schedule)`` was the way of version 0.1; here for one version more
    def keys(self) -> Iterator[str]:
        """Names of the arguments of version 0.1."""
        return iter(("time_steps", "flush", "burst", "levels"))

    def __getitem__(self, name: str) -> Any:
        return self.charge if name == "levels" else getattr(self, name)


def whole(name: str, value: Any, least: int, hint: str) -> None:
    """Raise an :class:`InputError` with ``hint`` unless ``value`` is an int of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {value!r}, it must be a whole number of at least {least}; {hint}")
