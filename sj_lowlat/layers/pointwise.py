"""Any pointwise activation: quantised for training, and the neuron that settles to it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sj_lowlat.kernels import SpikeSums
from sj_lowlat.layers.neurons import SignedIFNode
from sj_lowlat.layers.quant_relu import QuantReLU


class QuantPointwise(QuantReLU):
    r"""A pointwise function f with levels on both sides of 0 and a learned clip:
    :math:`q(z) = \lambda \, \mathrm{clip}(\lfloor f(z) L / \lambda + 1/2 \rfloor, -L, L) / L`.

    Straight-through gradients: dq/dz = f'(z) within the clip and 0 beyond; dq/dlambda = (q - f(z)) / lambda
    within it, 1 above, -1 below.

    :param fn: f, a module without a state that computes element by element, such as ``nn.SiLU()``
    :param levels: L
    :param clip: initial clip :math:`\lambda`, a positive number or one per channel ``[C]``
    :param channels: C, for a clip per channel of ``[N, C, *]``; ``None`` for one clip
    :raises InputError: as :class:`QuantReLU`
    """

    def __init__(
        self, fn: nn.Module, levels: int, clip: float | torch.Tensor = 1.0, channels: int | None = None
    ) -> None:
        super().__init__(levels, clip, channels, slope=1.0)
        self.fn = fn

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Quantise ``f(z)``, ``[N, C, *]``."""
        clip = self.clip.to(torch.promote_types(z.dtype, torch.float32))
        clip = clip.view(-1, *[1] * (z.dim() - 2)) if clip.dim() else clip
        y = torch.maximum(torch.minimum(self.fn(z).to(clip.dtype), clip), -clip)
        level = (y.detach() * (self.levels / clip.detach()) + 0.5).floor().clamp(-self.levels, self.levels)
        rounding = level / self.levels - (y / clip).detach()
        return (y + rounding * clip).to(z.dtype)


class PointwiseIFNode(SignedIFNode):
    r"""Neuron of any pointwise function f. V is its whole charge U and is never reset; each step its net
    count N moves, by at most ``burst`` spikes of either sign, towards the level of f:

    .. math:: N \to \mathrm{clip}(\lfloor f(U \lambda / L) \, L / \lambda + 1/2 \rfloor, -L, L)

    With U the sum of the inputs in thresholds, this is :class:`QuantPointwise` of L levels once all input is
    there, monotone or not. L is the charge of a simulation times ``burst``, else ``levels``.

    :param fn: f
    :param scale: :math:`\lambda`, what L spikes stand for; a number or one per channel ``[C]``
    :param levels: L outside of a simulation
    """

    scale: torch.Tensor

    def __init__(
        self, fn: nn.Module, scale: float | torch.Tensor = 1.0, levels: int = 16, **kwargs: Any
    ) -> None:
        super().__init__(ratio=0.0, slope=1.0, **kwargs)
        self.fn, self.levels = fn, levels
        self.register_buffer("scale", torch.as_tensor(scale).detach().clone())

    def target(self, v: torch.Tensor, levels: int | None = None) -> torch.Tensor:
        """f of the whole charge ``[N, C, *]`` in levels, not rounded.

        :param levels: L; by default that of the present run
        """
        unit = self._per_channel(self.scale, v).to(v.dtype) / (levels or self.rule.highest or self.levels)
        return self.fn(v * unit) / unit

    def _level(self, v: torch.Tensor) -> torch.Tensor:
        most = self.rule.highest or self.levels
        return (self.target(v) + 0.5).floor_().clamp_(-most, most)

    @torch.no_grad()
    def _run_kernel(
        self, x: torch.Tensor, states: tuple[object, ...]
    ) -> tuple[tuple[torch.Tensor, ...], tuple[object, ...]]:
        v, count = self._v_and_count(states)
        assert count is not None
        sums: SpikeSums | None = None if self.sums_wanted is None else self.sums_wanted(v)
        spikes, most = torch.empty(x.shape, dtype=self.spike_dtype or x.dtype, device=x.device), self.rule.up
        for current, spike in zip(x, spikes, strict=True):
            v.add_(current)
            now = self._level(v).sub_(count).clamp_(-most, most)
            count.add_(now)
            spike.copy_(now)
        if sums is not None:
            sums.add_(spikes)
        return (spikes,), states

    def single_step_functional_forward(
        self, inputs: tuple[torch.Tensor, ...], states: tuple[object, ...], **kwargs: object
    ) -> tuple[tuple[torch.Tensor, ...], tuple[object, ...]]:
        """One step, with the straight-through gradient f'; leaves the module's state alone."""
        x, (v, count) = inputs[0], self._v_and_count(states)
        assert count is not None
        v, most = v + x, self.rule.up
        soft = (self.target(v) - count).clamp(-most, most)
        hard = (self._level(v.detach()) - count).clamp(-most, most)
        spike = soft + (hard - soft).detach()
        return (spike.to(self.spike_dtype or x.dtype),), (v, count + hard)

    def _run_training_kernel(self, x: torch.Tensor, states: tuple[object, ...]) -> None:
        return None
