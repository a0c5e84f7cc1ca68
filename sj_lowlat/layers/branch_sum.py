"""Sums of branches, as spikes and currents pass them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from sj_lowlat.layers.clock import Clocked


class Symmetric(nn.Module):
    """The identity, as an activation: :func:`~sj_lowlat.conversion.prepare` quantises it with levels on both
    sides of 0, and its neurons send spikes of both signs. It turns a sum of currents into spikes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class BranchSum(Clocked, nn.Module):
    r"""A sum of branches, each in its own unit: :math:`out = \sum_k f_k x_k`.

    Being linear, it is exact in every step. A branch of spikes of scale s that meets one of scale
    :math:`\lambda` (or currents of neurons of that scale) has the factor :math:`s / \lambda`; where all
    factors are 1, the sum of spikes is a whole number.

    :param shapes: shape of each branch's factor: ``()``, or ``(C,)`` for one per channel of ``[N, C, *]``;
        ``None`` for a branch without one
    :param spikes: for each branch whether it carries spikes, and not currents
    """

    def __init__(self, shapes: Sequence[Sequence[int] | None], spikes: Sequence[bool]) -> None:
        super().__init__()
        self.spikes = tuple(spikes)
        self.shapes = [None if shape is None else list(shape) for shape in shapes]
        for k, shape in enumerate(self.shapes):
            self.register_buffer(f"factor{k}", None if shape is None else torch.ones(shape))

    @classmethod
    def of(cls, factors: Sequence[torch.Tensor | None], spikes: Sequence[bool]) -> BranchSum:
        """A sum with these factors."""
        new = cls([None if factor is None else tuple(factor.shape) for factor in factors], spikes)
        for k, factor in enumerate(factors):
            if factor is not None:
                new.register_buffer(f"factor{k}", factor.detach().clone())
        return new

    def forward(self, *branches: torch.Tensor) -> torch.Tensor:
        """Spikes and currents ``[N, C, *]`` to their sum, in float32 at least (in a simulation of T merged
        steps ``[T * N, C, *]``; a branch that is the same in every step may stay ``[N, C, *]``)."""
        now, rows = self.clock.now, max(len(branch) for branch in branches)
        total: torch.Tensor | None = None
        for k, branch in enumerate(branches):
            x = branch.to(torch.promote_types(branch.dtype, torch.float32))
            factor = getattr(self, f"factor{k}")
            if factor is not None:
                x = x * (factor.view(-1, *[1] * (x.dim() - 2)) if factor.dim() else factor).to(x.dtype)
            if now.steps is not None and len(x) != rows:
                x = x.expand(now.steps, *x.shape).flatten(0, 1)
            total = x if total is None else total + x
        assert total is not None
        return total

    def extra_repr(self) -> str:
        return ", ".join(
            "1" if shape is None else f"[{shape[0]}]" if shape else "factor" for shape in self.shapes
        )
