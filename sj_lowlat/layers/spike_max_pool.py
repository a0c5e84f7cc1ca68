"""Exact max-pooling of spikes: the maximum of the counts, passed on as spikes."""

from __future__ import annotations

from typing import Any

import torch
from spikingjelly.activation_based.base import MemoryModule
from torch import nn

from sj_lowlat.kernels.memory import StepMemory
from sj_lowlat.kernels.pool import pool_counts
from sj_lowlat.layers.merged import MergedTime


class SpikeMaxPool(MergedTime, MemoryModule):
    r"""A max-pool over the net spike counts of its inputs, whose output is the change of the maximum:

    .. math:: M(t) = \max_{i \in window} \sum_{s \le t} spike_i(s), \qquad out(t) = M(t) - M(t - 1)

    Its outputs sum up to the max-pool of the summed inputs at every t, which a max-pool of the spikes of each
    step does not. From spikes of 0 and 1 it makes spikes of 0 and 1, from spikes of -1, 0 and 1 the same. It
    adds no delay, no weights and no multiplications, only a counter per input.

    ``step_mode="s"`` takes ``[N, C, *]``, ``"m"`` takes ``[T, N, C, *]``; the state is kept from call to call
    until ``reset()``. Input of another shape resets it.

    :param pool: the max-pool of the ANN
    """

    count: Any  # net spikes of every input so far [N, C, *], 0.0 before the first
    sent: Any  # net spikes sent so far, likewise

    def __init__(self, pool: nn.Module, step_mode: str = "s") -> None:
        super().__init__()
        self.pool = pool
        self.step_mode = step_mode
        self.register_memory("count", 0.0)
        self.register_memory("sent", 0.0)

    def single_step_forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return self.multi_step_forward(x.unsqueeze(0)).squeeze(0)

    def multi_step_forward(self, x_seq: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        dtype = torch.promote_types(x_seq.dtype, torch.float32)  # 16 bits count to 256 only
        known = isinstance(self.count, torch.Tensor) and self.count.shape == x_seq.shape[1:]
        if not known:
            self.count = StepMemory.of(x_seq, x_seq[0]).empty(x_seq, dtype).zero_()
            self.sent = torch.zeros_like(self.pool(self.count))
        elif self.clock.now.steps is None:
            # the pool works in place, and a monitor or a graph may hold the old states
            self.count, self.sent = self.count.clone(), self.sent.clone()
        if torch.is_grad_enabled() and (x_seq.requires_grad or self.count.requires_grad):
            return self._with_gradients(x_seq)
        return pool_counts(x_seq, self.count, self.sent, self.pool)

    def _with_gradients(self, x_seq: torch.Tensor) -> torch.Tensor:
        outputs = []
        for x in x_seq:
            self.count = self.count + x
            pooled = self.pool(self.count)
            outputs.append((pooled - self.sent).to(x.dtype))
            self.sent = pooled
        return torch.stack(outputs)

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Spikes ``[N, C, *]`` to pooled spikes (in a simulation of T merged steps ``[T * N, C, *]``)."""
        if self.clock.now.steps is None:
            return super().forward(x, *args, **kwargs)
        return self.merge_time(self.multi_step_forward(self.split_time(x)))
