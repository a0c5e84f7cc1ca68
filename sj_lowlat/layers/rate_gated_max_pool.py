"""The max-pool that lets the spikes of the most active input pass."""

from __future__ import annotations

from typing import Any

import torch
from spikingjelly.activation_based.base import MemoryModule
from torch import nn

from sj_lowlat.layers.merged import MergedTime


class RateGatedMaxPool(MergedTime, MemoryModule):
    r"""A max-pool whose windows pass, at each step, the spikes of one input: the one with the highest net
    count so far, those of this step included, and among equals the first in the order of rows, then columns.

    .. math::
        N_i(t) = \sum_{s \le t} spike_i(s), \qquad
        out(t) = spike_j(t), \quad j = \min \, \arg\max_{i \in window} N_i(t)

    The gate of Rueckauer et al., "Conversion of continuous-valued deep networks to efficient event-driven
    networks for image classification", Frontiers in Neuroscience 2017, with counts as the
    estimate of rates. Where the lead changes, spikes of the new first that came before are lost and those of
    the old one stay sent, so that its outputs sum up to something near the max-pool of the summed inputs;
    those of :class:`~sj_lowlat.layers.SpikeMaxPool` do exactly.

    ``step_mode="s"`` takes ``[N, C, *]``, ``"m"`` takes ``[T, N, C, *]``; the state is kept from call to call
    until ``reset()``. Input of another shape resets it.

    :param pool: the max-pool of the ANN, of ``torch.nn`` or a :class:`~sj_lowlat.layers.SameMaxPool`
    """

    count: Any  # net spikes of every input so far [N, C, *], 0.0 before the first

    def __init__(self, pool: nn.Module, step_mode: str = "s") -> None:
        super().__init__()
        self.pool = pool
        self.step_mode = step_mode
        self.register_memory("count", 0.0)

    def single_step_forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if not isinstance(self.count, torch.Tensor) or self.count.shape != x.shape:
            dtype = torch.promote_types(x.dtype, torch.float32)  # 16 bits count to 256 only
            self.count = torch.zeros_like(x, dtype=dtype, requires_grad=False)
        self.count = self.count + x.detach()
        # the derivative of the maxima in the direction of the spikes: those of the inputs that are the maxima
        passed: torch.Tensor = torch.func.jvp(self.pool, (self.count,), (x.to(self.count.dtype),))[1]
        return passed.to(x.dtype)

    def multi_step_forward(self, x_seq: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return torch.stack([self.single_step_forward(x) for x in x_seq])

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Spikes ``[N, C, *]`` to pooled spikes (in a simulation of T merged steps ``[T * N, C, *]``)."""
        if self.clock.now.steps is None:
            return super().forward(x, *args, **kwargs)
        return self.merge_time(self.multi_step_forward(self.split_time(x)))
