"""The rate norm layer: a ReLU whose clip is a trained share of the largest activation."""

from __future__ import annotations

import torch
from torch import nn

from sj_lowlat.errors import InputError

_MOMENTUM = 0.1


class RateNorm(nn.Module):
    r"""Rate norm layer [Ding et al., IJCAI 2021]: :math:`y = \mathrm{clip}(x, 0, \theta)`,
    :math:`\theta = p \, r`, which a neuron with the threshold :math:`\theta` follows as T grows.

    r is the running mean of the batches' maxima, p in (0, 1) is trained: the sigmoid of ``share_raw``. In
    training a small p costs the activations above it, a large one the steps that they take. The gradient for
    x is 1 in :math:`[0, \theta]`; that for p is r above it.

    :param highest: the first r, a positive number, from calibration images
    :param share: the first p, in (0, 1)
    :raises InputError: for numbers out of range
    """

    highest: torch.Tensor

    def __init__(self, highest: float | torch.Tensor = 1.0, share: float = 0.95) -> None:
        super().__init__()
        start = torch.as_tensor(highest, dtype=torch.float32).detach().clone()
        if start.dim() or not bool(torch.isfinite(start)) or not start > 0:
            raise InputError(f"highest is {highest!r}, it must be one positive number")
        if not 0 < share < 1:
            raise InputError(f"share is {share!r}, it must lie in (0, 1)")
        self.register_buffer("highest", start)
        self.share_raw = nn.Parameter(torch.logit(torch.tensor(share)))

    @property
    def clip(self) -> torch.Tensor:
        """The threshold, positive."""
        return self.share_raw.sigmoid() * self.highest

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Clip ``x``, ``[N, C, *]``; in train mode its maximum enters r."""
        if self.training:
            with torch.no_grad():
                self.highest.lerp_(x.amax().clamp(min=torch.finfo(x.dtype).tiny).to(self.highest), _MOMENTUM)
        return torch.minimum(x.relu(), self.clip.to(x.dtype))

    def extra_repr(self) -> str:
        return f"clip={self.clip.item():.4g}"
