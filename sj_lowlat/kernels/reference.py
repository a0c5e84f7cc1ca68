"""The reference kernel: plain torch operations, in place, a loop over time."""

from __future__ import annotations

import torch

from sj_lowlat.kernels.memory import SpikeSums
from sj_lowlat.kernels.rule import FireRule


def multi_step_reference(
    currents: torch.Tensor,
    v: torch.Tensor,
    v_threshold: torch.Tensor,
    rule: FireRule,
    count: torch.Tensor | None = None,
    spike_dtype: torch.dtype | None = None,
    sums: SpikeSums | None = None,
) -> torch.Tensor:
    """Run ``T`` steps of a layer of neurons; see :func:`sj_lowlat.kernels.multi_step`."""
    spikes = torch.empty_like(currents, dtype=spike_dtype)
    if rule.kind == "signed" and rule.slope:
        _leaky(currents, v, v_threshold, rule, count, spikes)
    elif rule.burst > 1:
        _bursts(currents, v, v_threshold, rule, count, spikes)
    else:
        _single(currents, v, v_threshold, rule, count, spikes)
    if sums is not None:
        sums.add_(spikes)
    return spikes


def _single(
    currents: torch.Tensor,
    v: torch.Tensor,
    v_threshold: torch.Tensor,
    rule: FireRule,
    count: torch.Tensor | None,
    spikes: torch.Tensor,
) -> None:
    """At most one spike a step."""
    positive, negative, allowed = torch.empty_like(v), torch.empty_like(v), torch.empty_like(v)
    for current, spike in zip(currents, spikes, strict=True):
        v.add_(current)
        torch.ge(v, v_threshold, out=positive)
        if rule.kind == "if":
            v.addcmul_(positive, v_threshold, value=-1)
            spike.copy_(positive)
            continue
        if rule.kind == "imbalanced":
            low = v_threshold / rule.slope
            torch.le(v, -low, out=negative)
            v.addcmul_(positive, v_threshold, value=-1).addcmul_(negative, low)
            spike.copy_(positive.sub_(negative))
            continue
        assert count is not None  # the caller checked it
        if rule.max_count is not None:
            positive.mul_(torch.lt(count, rule.max_count, out=allowed))
        torch.lt(v, 0, out=negative)
        negative.mul_(torch.gt(count, 0, out=allowed))
        positive.sub_(negative)
        count.add_(positive)
        v.addcmul_(positive, v_threshold, value=-1)
        spike.copy_(positive)


def _bursts(
    currents: torch.Tensor,
    v: torch.Tensor,
    v_threshold: torch.Tensor,
    rule: FireRule,
    count: torch.Tensor | None,
    spikes: torch.Tensor,
) -> None:
    """As many spikes as there are whole thresholds in V, up to the cap."""
    signed = rule.kind == "signed"
    for current, spike in zip(currents, spikes, strict=True):
        v.add_(current)
        fired = torch.floor(v / v_threshold).clamp_(-rule.burst if signed else 0, rule.burst)
        if signed:
            assert count is not None  # the caller checked it
            fired = torch.maximum(fired, -count)
            if rule.max_count is not None:
                fired = torch.minimum(fired, rule.max_count - count)
            count.add_(fired)
        v.sub_(fired * v_threshold)  # not addcmul_, which rounds once and not twice
        spike.copy_(fired)


def _leaky(
    currents: torch.Tensor,
    v: torch.Tensor,
    v_threshold: torch.Tensor,
    rule: FireRule,
    count: torch.Tensor | None,
    spikes: torch.Tensor,
) -> None:
    """Signed neurons whose count may fall below zero, where a spike stands for a threshold / slope."""
    assert count is not None  # the caller checked it
    low = v_threshold / rule.slope
    for current, spike in zip(currents, spikes, strict=True):
        v.add_(current).add_(torch.where(count < 0, count * low, count * v_threshold))  # the whole charge
        target = torch.maximum(v / v_threshold, v / low + 0.5).floor_()
        if rule.max_count is not None:
            target.clamp_(-rule.max_count, rule.max_count)
        fired = target.sub_(count).clamp_(-rule.burst, rule.burst)
        count.add_(fired)
        v.sub_(torch.where(count < 0, count * low, count * v_threshold))
        spike.copy_(fired)
