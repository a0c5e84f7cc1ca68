"""The max-pool that lets the spikes of the most active input pass."""

from __future__ import annotations

from typing import Any

import torch
from spikingjelly.activation_based.base import MemoryModule
from torch import nn

from sj_lowlat.kernels.memory import StepMemory
from sj_lowlat.kernels.pool import gate_spikes, gate_step
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
        return self.multi_step_forward(x.unsqueeze(0)).squeeze(0)

    def multi_step_forward(self, x_seq: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if not isinstance(self.count, torch.Tensor) or self.count.shape != x_seq.shape[1:]:
            dtype = torch.promote_types(x_seq.dtype, torch.float32)  # 16 bits count to 256 only
            self.count = StepMemory.of(x_seq, x_seq[0]).empty(x_seq, dtype).zero_()
        elif self.clock.now.steps is None:
            self.count = self.count.clone()  # the gate works in place, and a monitor may hold the old state
        if torch.is_grad_enabled() and x_seq.requires_grad:
            return torch.stack([self._with_gradients(x) for x in x_seq])
        return gate_spikes(x_seq, self.count, self.pool)

    def _with_gradients(self, x: torch.Tensor) -> torch.Tensor:
        self.count = self.count + x.detach()
        return gate_step(x, self.count, self.pool)

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Spikes ``[N, C, *]`` to pooled spikes (in a simulation of T merged steps ``[T * N, C, *]``)."""
        if self.clock.now.steps is None:
            return super().forward(x, *args, **kwargs)
        return self.merge_time(self.multi_step_forward(self.split_time(x)))
