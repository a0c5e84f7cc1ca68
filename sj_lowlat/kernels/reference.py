"""The neuron's step in torch operations, and the reference kernel: a loop over time."""

from __future__ import annotations

import torch
from torch import Tensor

from sj_lowlat.kernels.memory import SpikeSums
from sj_lowlat.kernels.rule import FireRule


def multi_step_reference(
    currents: Tensor,
    v: Tensor,
    v_threshold: Tensor,
    rule: FireRule,
    count: Tensor | None = None,
    spike_dtype: torch.dtype | None = None,
    sums: SpikeSums | None = None,
) -> Tensor:
    """Run ``T`` steps of a layer of neurons; see :func:`sj_lowlat.kernels.multi_step`."""
    spikes = torch.empty_like(currents, dtype=spike_dtype)
    # where they lie like V, spikes need no copy
    in_place = spikes.dtype == v.dtype and spikes.stride()[1:] == v.stride()
    buffer = torch.empty_like(v)
    unit, single = _is_one(v_threshold), max(rule.up, rule.down) == 1
    low = v_threshold / rule.slope if rule.slope else v_threshold

    def charge_of_all(n: Tensor) -> Tensor:
        """:func:`leaky_charge` without a mask, for which torch takes longer."""
        charge = n * low
        return torch.minimum(charge, n if unit else n * v_threshold, out=charge)

    charge = charge_of_all(count) if count is not None and rule.slope else None
    for current, spike in zip(currents, spikes, strict=True):
        v.add_(current)
        now = fired(v, count, v_threshold, rule, charge, spike if in_place else buffer)
        if count is not None:
            count.add_(now)
        if rule.slope:
            after = charge_of_all(now if count is None else count)
            v.sub_(after) if charge is None else v.add_(charge.sub_(after))
            charge = None if charge is None else after
        elif unit:
            v.sub_(now)
        elif single:
            v.addcmul_(now, v_threshold, value=-1)
        else:  # addcmul_ would round once and not twice
            v.sub_(now * v_threshold)
        if not in_place:
            spike.copy_(now)
    if sums is not None:
        sums.add_(spikes)
    return spikes


@torch.no_grad()
def fired(
    v: Tensor,
    count: Tensor | None,
    v_threshold: Tensor,
    rule: FireRule,
    charge: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Spikes of one step, with which a neuron moves its count towards the level of its charge.

    :param v: membrane potentials with the current of the step ``[N, *]``
    :param count: net spike counts before the step ``[N, *]``; ``None`` for a rule that does not count
    :param v_threshold: thresholds, broadcastable
    :param charge: :func:`leaky_charge` of ``count``, where the caller has it already
    :param out: where to write the spikes; a new tensor if ``None``
    """
    if count is not None and rule.slope:
        v = v + (leaky_charge(count, v_threshold, rule.slope) if charge is None else charge)
    spike = LEVELS[rule.target](v, count, v_threshold, rule.slope, out)
    if rule.lowest is not None or rule.highest is not None:
        spike.clamp_(rule.lowest, rule.highest)
    if count is not None:
        spike.sub_(count)
    return spike.clamp_(-rule.down, rule.up)


def _linear(v: Tensor, count: Tensor | None, v_threshold: Tensor, slope: float, out: Tensor | None) -> Tensor:
    in_one = _is_one(v_threshold)
    reached = torch.floor(v, out=out) if in_one else torch.div(v, v_threshold, out=out).floor_()
    return reached if count is None else reached.add_(count)


def _leaky(u: Tensor, count: Tensor | None, v_threshold: Tensor, slope: float, out: Tensor | None) -> Tensor:
    below = torch.div(u, v_threshold / slope, out=out).add_(0.5)
    # where U >= 0, both give the same level or U / V_th is more
    return torch.maximum(u if _is_one(v_threshold) else u / v_threshold, below, out=below).floor_()


def _imbalanced(
    v: Tensor, count: Tensor | None, v_threshold: Tensor, slope: float, out: Tensor | None
) -> Tensor:
    below = torch.div(v, v_threshold / slope, out=out)  # the less of the two where V >= 0
    return torch.maximum(v if _is_one(v_threshold) else v / v_threshold, below, out=below).trunc_()


#: target -> function that gives the level: of V and N for ``"linear"``, of the whole charge for the others
LEVELS = {"linear": _linear, "leaky": _leaky, "imbalanced": _imbalanced}


def _is_one(v_threshold: Tensor) -> bool:
    """Whether dividing by it can be left out; on a GPU, asking would take longer than dividing."""
    return v_threshold.is_cpu and v_threshold.dim() == 0 and bool(v_threshold == 1)


def leaky_charge(count: Tensor, v_threshold: Tensor | float, slope: float) -> Tensor:
    """Charge for which a net count stands: a threshold each, below zero a threshold / slope each.

    :param count: net spike count, any shape
    :param v_threshold: threshold, broadcastable
    :param slope: negative slope in (0, 1]
    """
    threshold = torch.as_tensor(v_threshold, dtype=count.dtype, device=count.device)
    return count * torch.where(count < 0, threshold / slope, threshold)


def charge_of(spike: Tensor, count: Tensor | None, v_threshold: Tensor, rule: FireRule) -> Tensor:
    """Charge that spikes carry away: that of the count after them less that of the count before."""
    if not rule.slope:
        return spike * v_threshold
    if count is None:
        return leaky_charge(spike, v_threshold, rule.slope)
    before = leaky_charge(count, v_threshold, rule.slope)
    return leaky_charge(count + spike, v_threshold, rule.slope) - before
