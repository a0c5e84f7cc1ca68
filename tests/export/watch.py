"""Every spike of a run, for comparison with what other programs fire."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sj_lowlat.layers import LowLatencyIFNode
from sj_lowlat.network import schedule_for
from sj_lowlat.simulation import simulate


def watched(
    snn: nn.Module, images: torch.Tensor, schedule: str | None = None
) -> tuple[dict[str, torch.Tensor], Any]:
    """Layer -> spikes [T, N, *], and what is read at each step; by default the network's own schedule."""
    found: dict[str, list[torch.Tensor]] = {}
    hooks = []
    for name, module in snn.named_modules():
        if isinstance(module, LowLatencyIFNode):
            kept = found.setdefault(name, [])
            hook = module.register_forward_hook(lambda _m, _i, out, kept=kept: kept.append(out.clone()))
            hooks.append(hook)
    every = range(1, schedule_for(snn, schedule).total + 1)
    run = simulate(snn, images, schedule, chunk=1, readout=every)
    for hook in hooks:
        hook.remove()
    return {name: torch.stack(kept) for name, kept in found.items()}, run.outputs
