"""Moving average of a network's weights."""

from __future__ import annotations

import torch
from torch import nn


class WeightAverage:
    """Exponential moving average of parameters and floating buffers; other buffers are copied.

    ``average <- d average + (1 - d) value`` with ``d = min(decay, (1 + i) / (10 + i))`` at update i, so that
    the start is soon forgotten.

    :param model: its present state is the first average
    :param decay: in [0, 1); 0 keeps the last state
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, iteration: int) -> None:
        """Take in the state of ``model`` after step ``iteration`` (from 0)."""
        keep = min(self.decay, (1 + iteration) / (10 + iteration))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.state[name].lerp_(value, 1 - keep)
            else:
                self.state[name].copy_(value)
