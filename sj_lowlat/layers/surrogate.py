"""The spikes of one step with surrogate gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sj_lowlat.kernels import FireRule
from sj_lowlat.kernels.reference import fired, leaky_charge


def fire_with_gradients(
    v: Tensor,
    count: Tensor | None,
    v_threshold: Tensor,
    rule: FireRule,
    surrogate_function: Callable[[Tensor], Tensor],
) -> Tensor:
    """Spikes of one step: those of :func:`~sj_lowlat.kernels.reference.fired`, bit by bit.

    Each border between levels that one step can cross adds the gradient of the step function there, unless
    it lies beyond a limit of the count.

    :param v: membrane potentials with the current of the step ``[N, *]``
    :param count: net spike counts before the step ``[N, *]``; ``None`` for a rule that does not count
    :param v_threshold: thresholds, broadcastable
    :param rule: when the neurons fire
    :param surrogate_function: one of SpikingJelly's; with ``spiking=False`` the spikes are its soft ones
    """
    soft = torch.zeros_like(v)
    for number in range(1 - rule.down, 1 + rule.up):
        change = surrogate_function(v - _border(number, count, v_threshold, rule))
        if number <= 0:  # a border at or below the count: leaving it downwards is a spike of -1
            change = change - 1.0
        limit = rule.highest if number > 0 else rule.lowest
        if count is not None and limit is not None:
            change = change * (count + number <= limit if number > 0 else count + number > limit)
        soft = soft + change
    if not getattr(surrogate_function, "spiking", True):
        return soft
    return soft + (fired(v, count, v_threshold, rule) - soft).detach()


def _border(number: int, count: Tensor | None, v_threshold: Tensor, rule: FireRule) -> Tensor:
    """V at which a neuron reaches the level N + number."""
    if not rule.slope:
        return number * v_threshold
    low = v_threshold / rule.slope
    if count is None:  # imbalanced: the level is 0 down to -low
        return number * v_threshold if number > 0 else (number - 1) * low
    level = count + number
    whole = torch.where(level > 0, level * v_threshold, (level - 0.5) * low)
    return whole - leaky_charge(count, v_threshold, rule.slope)
