"""This package's own: signed neurons that settle to the quantised network."""

from __future__ import annotations

from sj_lowlat.conversion.methods.method import Method
from sj_lowlat.schedule import Schedule


def all_at_once(total: int, levels: int | None, depth: int) -> Schedule:
    """The charge of L steps in the first one, bursts of half of L; the counts settle in the others."""
    levels = levels or total
    return Schedule(1, flush=total - 1, burst=max(1, levels // 2), charge=levels)


def powers_at_once(total: int, levels: int | None, depth: int) -> Schedule:
    """The charge of L steps in the first one; one event a step, of a power of two up to 2 L."""
    levels = levels or total
    return Schedule(1, flush=total - 1, burst=2 * levels, charge=levels)


def single_spikes(total: int, levels: int | None, depth: int) -> Schedule:
    """One spike a step; up to four steps, and no more than a quarter, are for settling."""
    flush = min(4, total // 4)
    return Schedule(total - flush, flush=flush, charge=levels or total - flush)


SIGNED = Method(
    "signed", "This package: signed neurons, every step with input", neuron="signed", form="quantised"
)
IMBALANCED = Method(
    "imbalanced", "The neuron of Spiking-YOLO on trained clips", neuron="imbalanced", form="quantised"
)
GRADED = Method(
    "graded",
    "This package: signed neurons, the whole charge in the first step, bursts of half of L",
    neuron="signed",
    form="quantised",
    schedule=all_at_once,
)
POWERS = Method(
    "powers-of-two",
    "This package: signed neurons, the whole charge in the first step, one event a step of a power of two",
    neuron="signed",
    form="quantised",
    powers=True,
    schedule=powers_at_once,
)
SINGLE_SPIKE = Method(
    "single-spike",
    "This package: signed neurons, one spike a step, then flush",
    neuron="signed",
    form="quantised",
    schedule=single_spikes,
    curve=False,
)
