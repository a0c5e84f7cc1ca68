"""The neuron's step in torch operations, and the reference kernel: a loop over time."""

from __future__ import annotations

import torch
from torch import Tensor

from sj_lowlat.kernels.memory import SpikeSums
from sj_lowlat.kernels.rule import FireRule
from sj_lowlat.kernels.table import LevelTable
from sj_lowlat.kernels.watched import watched

# of a floating-point number: integers of its size, and the bits of its mantissa
_LAYOUT = {
    torch.float64: (torch.int64, 52),
    torch.float32: (torch.int32, 23),
    torch.float16: (torch.int16, 10),
    torch.bfloat16: (torch.int16, 7),
}


def multi_step_reference(
    currents: Tensor,
    v: Tensor,
    v_threshold: Tensor,
    rule: FireRule,
    count: Tensor | None = None,
    spike_dtype: torch.dtype | None = None,
    sums: SpikeSums | None = None,
    table: LevelTable | None = None,
) -> Tensor:
    """Run ``T`` steps of a layer of neurons; see :func:`sj_lowlat.kernels.multi_step`."""
    spikes = torch.empty_like(currents, dtype=spike_dtype)
    # where they lie like V, spikes need no copy
    in_place = spikes.dtype == v.dtype and spikes.stride()[1:] == v.stride()
    buffer, unit = torch.empty_like(v), _is_one(v_threshold)
    low = v_threshold / rule.slope if rule.slope else v_threshold

    def charge_of_all(n: Tensor) -> Tensor:
        """:func:`leaky_charge` without a mask, for which torch takes longer."""
        charge = n * low
        return torch.minimum(charge, n if unit else n * v_threshold, out=charge)

    charge = charge_of_all(count) if count is not None and rule.slope else None
    for current, spike in zip(currents, spikes, strict=True):
        v.add_(current)
        now = fired(v, count, v_threshold, rule, charge, spike if in_place else buffer, table)
        if count is not None:
            count.add_(now)
        if rule.slope:
            after = charge_of_all(now if count is None else count)
            v.sub_(after) if charge is None else v.add_(charge.sub_(after))
            charge = None if count is None else after
        elif rule.hard_reset:
            v.masked_fill_(now > 0, 0.0)
        elif rule.resets:
            v.sub_(now if unit else now * v_threshold)
        if now is not spike:
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
    table: LevelTable | None = None,
) -> Tensor:
    """Spikes of one step, with which a neuron moves its count towards the level of its charge.

    :param v: membrane potentials with the current of the step ``[N, *]``
    :param count: net spike counts before the step ``[N, *]``; ``None`` for a rule that does not count
    :param charge: :func:`leaky_charge` of ``count``, where it is known
    :param table: levels, for a rule that needs them
    """
    if count is not None and rule.slope and charge is None:
        charge = leaky_charge(count, v_threshold, rule.slope)
    if table is not None:
        spike = table.level(v)
    else:
        spike = _level(v if charge is None else v + charge, count, v_threshold, rule, out)
    if rule.lowest is not None or rule.highest is not None:
        spike.clamp_(rule.lowest, rule.highest)
    if count is not None:
        spike.sub_(count)
    spike.clamp_(-rule.down, rule.up)
    return power_of_two(spike) if rule.powers else spike


def _level(
    u: Tensor, count: Tensor | None, v_threshold: Tensor, rule: FireRule, out: Tensor | None
) -> Tensor:
    """The level of the whole charge; ``"linear"`` is given V alone and adds the count at the end."""
    above = u if _is_one(v_threshold) else u / v_threshold
    if rule.target == "linear":
        level = torch.floor(above, out=out)
        return level if count is None else level.add_(count)
    below = torch.div(u, v_threshold / rule.slope, out=out)
    if rule.target == "leaky":  # where U >= 0, both give the same level or the first is more
        return torch.maximum(above, below.add_(0.5), out=below).floor_()
    assert rule.target == "imbalanced"
    return torch.maximum(above, below, out=below).trunc_()


def power_of_two(spike: Tensor) -> Tensor:
    """The largest power of two that is not more in size, with the sign; 0 and NaN stay.

    :param spike: floating-point numbers of any shape, none of them subnormal
    """
    whole, mantissa = _LAYOUT[spike.dtype]
    power = (spike.view(whole) & -(1 << mantissa)).view(spike.dtype)  # sign and exponent alone
    return torch.where(spike.isnan(), spike, power)


def _is_one(v_threshold: Tensor) -> bool:
    """Whether dividing by it can be left out; on a GPU, asking would take longer than dividing."""
    return not watched() and v_threshold.is_cpu and v_threshold.dim() == 0 and bool(v_threshold == 1)


def leaky_charge(count: Tensor, v_threshold: Tensor | float, slope: float) -> Tensor:
    """Charge for which a net count stands: a threshold each, below zero a threshold / slope each.

    :param slope: in (0, 1]
    """
    threshold = torch.as_tensor(v_threshold, dtype=count.dtype, device=count.device)
    return count * torch.where(count < 0, threshold / slope, threshold)


def charge_of(spike: Tensor, v: Tensor, count: Tensor | None, v_threshold: Tensor, rule: FireRule) -> Tensor:
    """Charge that spikes carry away: that of the count after them less that of the count before; with a hard
    reset all that is there.

    :param v: membrane potentials with the current of the step
    """
    if rule.hard_reset:
        return spike * v
    if not rule.slope:
        return spike * v_threshold
    if count is None:
        return leaky_charge(spike, v_threshold, rule.slope)
    before = leaky_charge(count, v_threshold, rule.slope)
    return leaky_charge(count + spike, v_threshold, rule.slope) - before
