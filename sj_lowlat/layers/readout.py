"""The heads of a spiking network: they count, and do not fire."""

from __future__ import annotations

from typing import Any

import torch
from spikingjelly.activation_based.base import MemoryModule
from torch import nn

from sj_lowlat.layers.merged import MergedTime


class RateReadout(MergedTime, MemoryModule):
    r"""A linear layer that reads firing rates: :math:`out(t) = W \frac{1}{t} \sum_{s \le t} spikes(s) + b`.

    Being linear, it needs one run of ``layer`` per read-out and not one per step. ``step_mode="s"`` takes
    ``[N, *]`` and gives the read-out at the present step; ``"m"`` takes ``[T, N, *]`` and gives one per step.

    :param layer: the convolution or linear layer, whose bias counts once

    In a simulation the clock's present :class:`~sj_lowlat.layers.Pass` names the steps to read out, and the
    steps with input, after which the divisor stays (flush).
    """

    total: Any  # summed spikes [N, *], 0.0 before the first

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.register_memory("total", 0.0)
        self.steps = 0

    def reset(self) -> None:
        """Forget the counted spikes."""
        self.steps = 0
        super().reset()

    def _add(self, spikes: torch.Tensor) -> None:
        total = self.total
        if not isinstance(total, torch.Tensor) or total.shape != spikes.shape[1:]:
            self.steps = 0  # first spikes, or another batch
            total = torch.zeros_like(spikes[0], dtype=torch.promote_types(spikes.dtype, torch.float32))
        for step in spikes:  # on a CPU, sum(0) of 8-bit numbers takes twenty times as long
            total = total + step
        self.total = total
        self.steps += spikes.shape[0]

    def _rate(self) -> torch.Tensor:
        now = self.clock.now
        steps = self.steps if now.input_steps is None else min(self.steps, now.input_steps)
        return self.total / (steps * now.gain)

    def single_step_forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        self._add(x.unsqueeze(0))
        return self._read([self._rate()], x)

    def multi_step_forward(self, x_seq: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        rates = []
        for x in x_seq:
            self._add(x.unsqueeze(0))
            rates.append(self._rate())
        return self._read(rates, x_seq).unflatten(0, (len(rates), -1))

    def _read(self, rates: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        weight = self.layer.weight
        if rates:
            return self.layer(torch.cat(rates).to(weight.dtype))  # type: ignore[arg-type]
        # nothing is wanted, but the network's forward may reshape it, which an empty batch does not allow
        shape = self.layer(self.total[:0].to(weight.dtype)).shape[1:]
        return self.total.new_zeros(len(self.total), *shape, dtype=weight.dtype)

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        now, x = self.clock.now, self.driven(x)
        if now.steps is None:
            return super().forward(x, *args, **kwargs)
        spikes = self.split_time(x)  # [T, N, *]
        rates, done = [], 0
        for step in now.readout:
            self._add(spikes[done:step])
            rates.append(self._rate())
            done = step
        if done < now.steps:
            self._add(spikes[done:])
        return self._read(rates, x)  # [R * N, *]
