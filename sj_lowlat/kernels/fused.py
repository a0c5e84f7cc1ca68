"""What the C++ kernels share on a GPU and on the CPU: from tensors to the arguments of a kernel."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sj_lowlat.errors import InputError
from sj_lowlat.kernels.memory import SpikeSums, StepMemory
from sj_lowlat.kernels.reference import multi_step_reference
from sj_lowlat.kernels.rule import FireRule
from sj_lowlat.kernels.source import CURRENTS, LEVELS, SPIKES, Variant
from sj_lowlat.kernels.table import LevelTable

#: runs a function of a variant's source on a number of neurons, with these arguments (None: a null pointer)
Launch = Callable[[str, Variant, int, Sequence[Any], torch.device], None]


def multi_step_fused(
    launch: Launch,
    currents: Tensor,
    v: Tensor,
    v_threshold: Tensor,
    rule: FireRule,
    count: Tensor | None = None,
    spike_dtype: torch.dtype | None = None,
    sums: SpikeSums | None = None,
    table: LevelTable | None = None,
) -> Tensor:
    """See :func:`sj_lowlat.kernels.multi_step`; dtypes and rules without a variant go to the reference."""
    variant = variant_for(currents, v, v_threshold, rule, count, spikes=spike_dtype, table=table)
    if variant is None:
        return multi_step_reference(currents, v, v_threshold, rule, count, spike_dtype, sums, table)
    memory = StepMemory.of(currents, v)
    written = [v, count, None if sums is None else sums.active]
    laid_out = [None if tensor is None else memory.laid_out(tensor) for tensor in written]
    per_channel = (None, None) if sums is None else (sums.net, sums.absolute)
    state = [*laid_out, *per_channel]
    spikes = run_neurons(launch, variant, memory, currents, v_threshold, rule, state, table=table)
    for tensor, copy in zip(written, laid_out, strict=True):
        if tensor is not None and copy is not None and copy is not tensor:
            tensor.copy_(copy)
    return spikes


def variant_for(
    currents: Tensor,
    v: Tensor,
    v_threshold: Tensor,
    rule: FireRule,
    count: Tensor | None,
    training: bool = False,
    spikes: torch.dtype | None = None,
    table: LevelTable | None = None,
) -> Variant | None:
    """The variant for these tensors and this rule; ``None`` if there is no kernel for them.

    :raises InputError: if currents and states lie on different devices
    """
    state = [v] if count is None else [v, count]
    for tensor in state:
        if tensor.device != currents.device:
            raise InputError(
                f"currents are on {currents.device}, the state of the neurons is on {tensor.device}; "
                "move both to one device"
            )
    dtype, spikes = currents.dtype, None if spikes == currents.dtype else spikes
    known = dtype in CURRENTS and (spikes or dtype) in SPIKES and rule.target in LEVELS
    single = rule.target == "linear" and rule.up == 1 and not rule.hard_reset and not rule.powers
    if not known or (training and not single):
        return None
    rounds = 0 if table is None else table.rounds
    resets = rule.hard_reset, rule.powers
    variant = Variant(dtype, rule.target, rule.counts, training, spikes, rounds, *resets)
    if any(tensor.dtype != variant.membrane for tensor in (*state, v_threshold)):
        return None
    # by a threshold on the CPU torch divides in another way on a GPU
    return variant if v_threshold.device == v.device else None


def run_neurons(
    launch: Launch,
    variant: Variant,
    memory: StepMemory,
    currents: Tensor,
    v_threshold: Tensor,
    rule: FireRule,
    written: Sequence[Tensor | None],
    potentials: Tensor | None = None,
    table: LevelTable | None = None,
) -> Tensor:
    """Launch the forward kernel; gives the spikes.

    :param written: V, count and the three :class:`SpikeSums`, maps laid out in ``memory``; updated
    :param potentials: in training V before firing is written there, ``[T, N, *]``
    """
    rows = memory.laid_out_steps(currents)
    spikes = memory.empty(currents, variant.spikes, steps=len(currents))
    if table is None:
        thresholds, channels, inner = memory.per_channel(v_threshold)
        # by torch, as in the reference: on a GPU it divides by a number in two roundings
        lows = thresholds / rule.slope if rule.slope else None
        of_table: tuple[Tensor | int | None, ...] = None, None, 0, 0, 0
    else:
        thresholds, lows, channels, inner = table.centre, table.spread, *memory.channels()
        channels = min(channels, len(thresholds))
        of_table = table.steps, table.first, table.first.shape[1], table.left, table.shift
    v, count, *sums = written
    arguments = (
        *(len(rows), memory.size, rows, rows.stride(0), v, count),
        *(thresholds, lows, channels, inner, *limits(rule), float(rule.down), float(rule.up)),
        *(spikes, potentials, *sums, *memory.channels(), *of_table),
    )
    launch("neurons", variant, memory.size, arguments, currents.device)
    return spikes


def limits(rule: FireRule) -> tuple[float, float]:
    """Lowest and highest count as the kernels take them."""
    lowest, highest = rule.lowest, rule.highest
    return -math.inf if lowest is None else float(lowest), math.inf if highest is None else float(highest)
