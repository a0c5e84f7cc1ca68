"""Products of two branches of spikes."""

from __future__ import annotations

from typing import Any

import torch
from spikingjelly.activation_based.base import MemoryModule

from sj_lowlat.layers.merged import MergedTime


class SpikeProduct(MergedTime, MemoryModule):
    r"""The product of two branches, by the product rule on their summed spikes A and B:

    .. math:: out(t) = \frac{A(t) B(t) - A(t - 1) B(t - 1)}{L}

    Its outputs sum up to :math:`A B / L` at every t: with scales :math:`s_a, s_b` of L spikes that is the
    product of the two values, of scale :math:`s_a s_b`, exact once both are. What it sends is graded, not
    whole numbers. L is the charge of a simulation, else ``levels``.

    ``step_mode="s"`` takes two ``[N, C, *]``, of one shape or one of them a single cell ``[N, C, 1, 1]``.

    :param levels: L outside of a simulation
    """

    first: Any  # summed spikes of each branch [N, C, *], 0.0 before the first
    second: Any

    def __init__(self, levels: int = 16) -> None:
        super().__init__()
        self.levels = levels
        self.register_memory("first", 0.0)
        self.register_memory("second", 0.0)

    def single_step_forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return self._steps(a.unsqueeze(0), b.unsqueeze(0)).squeeze(0)

    def _steps(self, a_seq: torch.Tensor, b_seq: torch.Tensor) -> torch.Tensor:
        levels = self.clock.now.charge or self.levels
        dtype = torch.promote_types(torch.promote_types(a_seq.dtype, b_seq.dtype), torch.float32)
        shapes = [getattr(total, "shape", None) for total in (self.first, self.second)]
        if shapes != [a_seq.shape[1:], b_seq.shape[1:]]:
            self.first, self.second = (x.new_zeros(x.shape[1:], dtype=dtype) for x in (a_seq, b_seq))
        outputs = []
        for a, b in zip(a_seq.to(dtype), b_seq.to(dtype), strict=True):
            before = self.first * self.second
            self.first, self.second = self.first + a, self.second + b
            outputs.append((self.first * self.second - before) / levels)
        return torch.stack(outputs)

    def forward(self, a: torch.Tensor, b: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Two branches of spikes (in a simulation of T merged steps ``[T * N, C, *]``) to their product."""
        if self.clock.now.steps is None:
            return self.single_step_forward(a, b)
        return self.merge_time(self._steps(self.split_time(a), self.split_time(b)))
