"""Any pointwise activation: quantised for training, and the neuron that settles to it."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from sj_lowlat.kernels import FireRule, LevelTable, level_table
from sj_lowlat.kernels.reference import power_of_two
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

    The levels come from a table of the borders between them, which float64 gives
    (:func:`sj_lowlat.kernels.level_table`, with what it assumes of f), so that they are the same in every
    kernel. A table is kept for each L, dtype of V and device, until ``fn``, ``scale`` or a tensor of ``fn``
    is another or is written to.

    :param fn: f
    :param scale: :math:`\lambda`, what L spikes stand for; a number or one per channel ``[C]``
    :param levels: L outside of a simulation
    """

    scale: torch.Tensor
    levels: int = 1  # the class above reads the rule before it is set

    def __init__(
        self, fn: nn.Module, scale: float | torch.Tensor = 1.0, levels: int = 16, **kwargs: Any
    ) -> None:
        super().__init__(ratio=0.0, slope=1.0, **kwargs)
        self.fn, self.levels, self._tables = fn, levels, _Tables()
        self.register_buffer("scale", torch.as_tensor(scale).detach().clone())

    def _rule(self, burst: int) -> FireRule:
        """Towards the levels of the table."""
        return FireRule.table(super()._rule(burst).highest or self.levels, burst)

    def target(self, v: torch.Tensor, levels: int | None = None) -> torch.Tensor:
        """f of the whole charge ``[N, C, *]`` in levels, not rounded.

        :param levels: L; by default that of the present run
        """
        unit = self._per_channel(self.scale, v).to(v.dtype) / (levels or self._most_levels)
        return self.fn(v * unit) / unit

    def level(self, v: torch.Tensor, levels: int | None = None) -> torch.Tensor:
        """Level of the whole charge ``[N, C, *]``, towards which N moves.

        :param levels: L; by default that of the present run
        """
        return self._tables.find(self.fn, self.scale, levels or self._most_levels, v).level(v)

    @property
    def _most_levels(self) -> int:
        return self.rule.highest or self.levels

    def _table(self, v: torch.Tensor) -> LevelTable:
        return self._tables.find(self.fn, self.scale, self._most_levels, v)

    def single_step_functional_forward(
        self, inputs: tuple[torch.Tensor, ...], states: tuple[object, ...], **kwargs: object
    ) -> tuple[tuple[torch.Tensor, ...], tuple[object, ...]]:
        """One step, with the straight-through gradient f'; leaves the module's state alone."""
        x, (v, count) = inputs[0], self._v_and_count(states)
        assert count is not None
        v, most = v + x, self.rule.up
        soft = (self.target(v) - count).clamp(-most, most)
        hard = (self.level(v.detach()) - count).clamp(-most, most)
        hard = power_of_two(hard) if self.powers else hard
        spike = hard + (soft - soft.detach())  # which is hard to the last bit
        return (spike.to(self._sent_as or x.dtype),), (v, count + hard)


class _Tables:
    """The tables of one neuron that are known; a copy, also one by pickle, knows none."""

    def __init__(self) -> None:
        self._made_of: list[Any] = []
        self._known: dict[tuple[int, torch.dtype, torch.device], LevelTable] = {}

    def __reduce__(self) -> tuple[type[_Tables], tuple[()]]:
        return _Tables, ()

    def find(self, fn: nn.Module, scale: torch.Tensor, levels: int, v: torch.Tensor) -> LevelTable:
        """The table for potentials ``[N, C, *]``."""
        tensors = [*fn.parameters(), *fn.buffers()]
        made_of = [fn, *(part for tensor in (scale, *tensors) for part in _state(tensor))]
        same = len(made_of) == len(self._made_of) and all(map(_same, made_of, self._made_of))
        if not same:
            self._made_of, self._known = made_of, {}
        key = levels, v.dtype, v.device
        if key not in self._known:
            own = any(tensor.numel() > 1 for tensor in tensors)  # a slope for each channel, say
            exact = copy.deepcopy(fn).to("cpu", torch.float64)
            channels = v.shape[1] if own else None
            made = level_table(exact, scale.detach().to("cpu", torch.float64), levels, v.dtype, channels)
            self._known[key] = made.to(v.device)
        return self._known[key]


def _state(tensor: torch.Tensor) -> tuple[Any, ...]:
    """What is another once a tensor is another or was written to."""
    version = 0 if tensor.is_inference() else tensor._version
    return tensor, tensor.data_ptr(), tensor.dtype, version


def _same(a: Any, b: Any) -> bool:
    return a is b or (not isinstance(a, (nn.Module, torch.Tensor)) and bool(a == b))
