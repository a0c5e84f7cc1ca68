"""Methods whose layers wait for their whole input: exact, with a latency that grows with the depth."""

from __future__ import annotations

from sj_lowlat.conversion.methods.method import Method
from sj_lowlat.schedule import Schedule


def wait_for_spikes(total: int, levels: int | None, depth: int) -> Schedule:
    """Each layer but the first waits until those of L steps have arrived, then fires for L steps."""
    levels = levels or total
    return Schedule(depth * levels, charge=levels)


def wait_for_bits(total: int, levels: int | None, depth: int) -> Schedule:
    """Each layer but the first waits for all bits of its inputs, as many as L has, then sends its own."""
    levels = levels or total
    return Schedule(depth * levels.bit_length(), charge=levels)


WAIT = Method(
    "wait",
    "Wait until all spikes have arrived, then fire (A2F, arXiv 2505.01730; parallel conversion, arXiv "
    "2412.13610): latency depth x L",
    neuron="signed",
    form="quantised",
    schedule=wait_for_spikes,
    curve=False,
    mode="counts",
)
BIT_SERIAL = Method(
    "bit-serial",
    "tdIF: temporal delay and bit-serial spikes, one a binary digit; latency depth x bits",
    neuron="signed",
    form="quantised",
    schedule=wait_for_bits,
    curve=False,
    mode="counts",
)
