"""One pure function per equation.

Notation: ``T`` time steps, ``L`` quantisation levels, ``clip`` the clip value (scale) of a layer; membrane
potential ``v``, net spike count ``count`` and ``current`` of one step, each ``[N, *]``; firing threshold
``v_threshold``, broadcastable; ``v0 = V(0) / v_threshold``; ``slope`` that of a leaky ReLU below zero. Eq.
numbers are those of Qiu and Zhu, "Low latency spiking neural network for object detection".
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sj_lowlat.kernels import FireRule
from sj_lowlat.kernels.reference import charge_of, fired, leaky_charge

__all__ = [
    "constant_input_count",
    "imbalanced_step",
    "leaky_charge",
    "level_mismatch_mse",
    "quant_relu",
    "rate_error",
    "remainder",
    "signed_step",
    "soft_reset_step",
    "to_int8",
]


def quant_relu(z: Tensor, clip: Tensor | float, levels: int, slope: float = 0.0) -> Tensor:
    r"""Quantised ReLU, section 4.3 of the paper:
    :math:`q(z) = \lambda \, \mathrm{clip}(\lfloor z L / \lambda + 1/2 \rfloor, 0, L) / L`.

    Rounds half up (not half to even), as an IF neuron that starts at half its threshold does. With a slope
    :math:`\alpha` it is a quantised leaky ReLU, which for :math:`u = z L / \lambda + 1/2 < 0` gives
    :math:`\lambda \max(\lfloor \alpha u + 1/2 \rfloor, -L) / L`: levels of the same height on both sides.

    :param clip: :math:`\lambda > 0`, broadcastable to ``z``
    :param levels: :math:`L \ge 1`
    :param slope: :math:`\alpha` in [0, 0.5); 0 for a ReLU; 1 for the identity,
        :math:`\mathrm{clip}(\lfloor u \rfloor, -L, L)`
    :return: the shape of ``z``, values in ``{0, clip / L, ..., clip}``, with a slope also their negatives
    """
    wide = z.to(torch.promote_types(z.dtype, torch.float32))  # 16 bits would move the borders of the levels
    u = (wide * (levels / clip)).add_(0.5)
    if 0 < slope < 1:
        torch.maximum(u, (slope * u).add_(0.5), out=u)  # where u >= 0, both give the same level or u is more
    return u.floor_().clamp_(-levels if slope else 0, levels).mul_(clip / levels).to(z.dtype)


def to_int8(weight: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    r"""Round a weight to 8 bits, symmetrically, with one scale per index of ``axis``.

    :math:`q = \mathrm{round}(w / s)` with :math:`s = \max |w| / 127`, so that :math:`|w - s q| \le s / 2`.

    :param weight: finite, any shape
    :param axis: that of the output channels
    :return: q, int8 of the same shape; s, float32, 1 wide on all axes but ``axis``
    """
    weight = weight.float()
    others = [dim for dim in range(weight.dim()) if dim != axis]
    # a channel of zeros needs a scale that can be divided by
    scale = (weight.abs().amax(others, keepdim=True) / 127).clamp(min=torch.finfo(torch.float32).tiny)
    return (weight / scale).round().clamp(-127, 127).to(torch.int8), scale


def soft_reset_step(
    v: Tensor, current: Tensor, v_threshold: Tensor | float, burst: int = 1
) -> tuple[Tensor, Tensor]:
    r"""One step of the IF neuron with soft reset, Eq. (2) to (5); with bursts
    :math:`\mathrm{clip}(\lfloor V / V_{th} \rfloor, 0, burst)` spikes.

    :return: ``(spike, v)``, spikes from 0 to ``burst``
    """
    return _step(FireRule.plain(burst), v + current, None, v_threshold)[:2]


def signed_step(
    v: Tensor,
    count: Tensor,
    current: Tensor,
    v_threshold: Tensor | float,
    max_count: int | None = None,
    burst: int = 1,
    slope: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""One step of the signed IF neuron: a spike that came too early is taken back by a spike of -1.

    Fires +1 when ``V >= V_th`` (and ``N < max_count``), -1 when ``V < 0`` and ``N > 0``; ``N`` is their sum.
    With bursts :math:`\mathrm{clip}(\lfloor V / V_{th} \rfloor, -burst, burst)` spikes, as far as N stays in
    ``[0, max_count]``.

    With a slope :math:`\alpha` N may fall below 0, where each spike stands for the charge
    :math:`V_{th} / \alpha`, and follows the levels of the quantised leaky ReLU (:func:`quant_relu`) within
    ``[-max_count, max_count]``: the target ``"leaky"`` of :class:`~sj_lowlat.kernels.FireRule`.

    :param max_count: the highest net count, for a quantised ReLU of T levels: T; ``None`` for no limit
    :param slope: :math:`\alpha` in [0, 0.5); 0 for a ReLU
    :return: ``(spike, v, count)``, spikes from ``-burst`` to ``burst``
    """
    return _step(FireRule.signed(max_count, slope, burst), v + current, count, v_threshold)


def imbalanced_step(
    v: Tensor, current: Tensor, v_threshold: Tensor | float, slope: float
) -> tuple[Tensor, Tensor]:
    """One step of the IF neuron with imbalanced threshold (Spiking-YOLO), for leaky ReLU.

    Fires +1 at ``V >= V_th``; fires -1 at ``V <= -V_th / slope`` and adds ``V_th / slope``. The rate is that
    of ``leaky_relu(z, slope)``.

    :param slope: in (0, 1]
    :return: ``(spike, v)``, spikes -1, 0 or 1
    """
    return _step(FireRule.imbalanced(slope), v + current, None, v_threshold)[:2]


def _step(
    rule: FireRule, v: Tensor, count: Tensor | None, v_threshold: Tensor | float
) -> tuple[Tensor, Tensor, Any]:
    threshold = torch.as_tensor(v_threshold, dtype=v.dtype, device=v.device)
    spike = fired(v, count, threshold, rule)
    return spike, v - charge_of(spike, v, count, threshold, rule), None if count is None else count + spike


def constant_input_count(z: Tensor, time_steps: int, v0: float = 0.5) -> Tensor:
    r"""Spikes of an IF neuron after ``T`` steps of constant input:
    :math:`N(T) = \mathrm{clip}(\lfloor z T + v_0 \rfloor, 0, T)`.

    :param z: input per step in units of the threshold, any shape
    :return: counts, the shape of ``z``
    """
    return torch.floor(z * time_steps + v0).clamp(0, time_steps)


def remainder(v: Tensor, time_steps: int) -> Tensor:
    """The paper's remainder ``Re = V(T) / T`` (section 4.2), of ``v`` after ``T`` steps."""
    return v / time_steps


def rate_error(time_steps: int, v0: float = 0.5) -> dict[str, float]:
    """Error of the rate of an IF neuron against a ReLU, over constant inputs uniform in [0, 1] (Figure 3).

    With ``v0`` the rate is ``floor(z T + v0) / T``, so its error is uniform in ``((v0 - 1) / T, v0 / T]``.

    :param v0: in [0, 1]
    :return: ``bias``, ``mean_absolute`` and ``mean_square`` error
    """
    low, high = (v0 - 1) / time_steps, v0 / time_steps
    return {
        "bias": (low + high) / 2,
        "mean_absolute": (low**2 + high**2) / 2 * time_steps,
        "mean_square": (high**3 - low**3) / 3 * time_steps,
    }


def level_mismatch_mse(levels: int, time_steps: int) -> float:
    r"""Mean square difference of an IF rate (``v0 = 1/2``, ``T`` steps) and a quantised ReLU of ``L`` levels.

    :math:`1/(12 L^2) + 1/(12 T^2) - 2c` with :math:`g = \gcd(L, T)` and :math:`c = g^2/(12 L^2 T^2)` if
    :math:`(T - L)/g` is even, else :math:`-g^2/(24 L^2 T^2)`; zero only at ``L = T``.
    """
    g = math.gcd(levels, time_steps)
    square = (levels * time_steps) ** 2
    c = g**2 / (12 * square) if (time_steps - levels) // g % 2 == 0 else -(g**2) / (24 * square)
    return 1 / (12 * levels**2) + 1 / (12 * time_steps**2) - 2 * c
