"""The loop over time in one pass over memory, by ``torch.compile``: needs a C++ compiler, on a GPU Triton."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from sj_lowlat.kernels.memory import SpikeSums
from sj_lowlat.kernels.reference import multi_step_reference
from sj_lowlat.kernels.rule import FireRule


def _unrolled(
    currents: torch.Tensor,
    v: torch.Tensor,
    v_threshold: torch.Tensor,
    count: torch.Tensor,
    max_count: int,
    signed: bool,
    burst: int,
    slope: float,
    dtype: torch.dtype,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    spikes = []
    low = v_threshold / slope if slope else v_threshold
    for current in currents:
        v = v + current
        if signed and slope:
            v = v + torch.where(count < 0, count * low, count * v_threshold)
            target = torch.floor(torch.maximum(v / v_threshold, v / low + 0.5))
            spike = (target.clamp(-max_count, max_count) - count).clamp(-burst, burst)
            count = count + spike
            v = v - torch.where(count < 0, count * low, count * v_threshold)
            spikes.append(spike.to(dtype))
            continue
        if burst > 1:
            spike = torch.floor(v / v_threshold).clamp(-burst if signed else 0, burst)
            if signed:
                spike = torch.minimum(torch.maximum(spike, -count), max_count - count)
                count = count + spike
            v = v - spike * v_threshold
            spikes.append(spike.to(dtype))
            continue
        spike = (v >= v_threshold).to(v.dtype)
        if signed:
            spike = spike * (count < max_count).to(v.dtype) - ((v < 0) & (count > 0)).to(v.dtype)
            count = count + spike
        v = v - spike * v_threshold
        spikes.append(spike.to(dtype))
    return torch.stack(spikes), v, count


@cache
def _compiled() -> Any:
    return torch.compile(_unrolled, dynamic=True)


def multi_step_compiled(
    currents: torch.Tensor,
    v: torch.Tensor,
    v_threshold: torch.Tensor,
    rule: FireRule,
    count: torch.Tensor | None = None,
    spike_dtype: torch.dtype | None = None,
    sums: SpikeSums | None = None,
) -> torch.Tensor:
    """Run ``T`` steps of a layer of neurons; see :func:`sj_lowlat.kernels.multi_step`.

    One threshold per layer and the rules ``"if"`` and ``"signed"`` are compiled (anew for each number of
    steps); everything else goes to the reference.
    """
    order = _memory_order(currents, v)
    if order is None or v_threshold.dim() or rule.kind == "imbalanced":
        return multi_step_reference(currents, v, v_threshold, rule, count, spike_dtype, sums)
    steps = currents.shape[0]
    flat_v = v.permute(order).reshape(-1)
    flat_count = flat_v if count is None else count.permute(order).reshape(-1)
    # float32 counts exactly up to there
    limit = rule.max_count if rule.max_count is not None else 2**24
    rows = currents.permute(0, *(axis + 1 for axis in order)).reshape(steps, -1)
    spikes, new_v, new_count = _compiled()(
        rows,
        flat_v,
        v_threshold,
        flat_count,
        limit,
        rule.kind == "signed",
        rule.burst,
        rule.slope,
        spike_dtype or currents.dtype,
    )
    flat_v.copy_(new_v)
    if count is not None:
        flat_count.copy_(new_count)
    shape = [v.shape[axis] for axis in order]
    back = [order.index(axis) for axis in range(v.dim())]
    spikes = spikes.view(steps, *shape).permute(0, *(axis + 1 for axis in back))
    if sums is not None:
        sums.add_(spikes)
    return spikes


def _memory_order(currents: torch.Tensor, v: torch.Tensor) -> list[int] | None:
    """Axes of ``v`` as they lie in memory, if ``v`` and each step of ``currents`` are dense in that order."""
    candidates = [list(range(v.dim())), [0, *range(2, v.dim()), 1]] if v.dim() > 2 else [list(range(v.dim()))]
    for order in candidates:
        if v.permute(order).is_contiguous() and currents[0].permute(order).is_contiguous():
            return order
    return None
