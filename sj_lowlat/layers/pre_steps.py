"""Neurons that correct their initial potential by what a run of a few steps leaves in them."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from sj_lowlat.layers.spiking import LowLatencyIFNode

# by how much COS passes a border, in thresholds; a shift of whole thresholds passes it by itself
_MARGIN = 1e-3


class PreStepsIFNode(LowLatencyIFNode):
    """Base of the neurons that a schedule with pre-steps needs (``16+0p8``): after 8 steps each of them
    corrects V(0), for each image and neuron, and the run begins anew from there.

    Without pre-steps they are :class:`~sj_lowlat.layers.ResidualFixIFNode`. ``reset()`` forgets corrections.
    """

    # V(0) of the present run [N, *], and steps before it; none: that of every run
    _begun: tuple[Tensor | None, int] = None, 0

    def reset(self) -> None:
        super().reset()
        self._begun = None, 0

    @abstractmethod
    def corrected_start(self) -> Tensor:
        """V(0) of the run that follows, ``[N, *]``, from the state after the pre-steps."""

    def start_at(self, v: Tensor, steps: int) -> None:
        """Begin a run at potentials, until the next reset.

        :param v: ``[N, *]``
        :param steps: pre-steps that have been, which ``steps`` goes on counting from
        """
        self.v, self.steps, self._begun = v.clone(), steps, (v, steps)

    def _start(self) -> Tensor:
        """V(0) of the present run, ``[N, *]``."""
        start = self._begun[0]
        if start is not None:
            return start
        return self._per_channel(self.v_initial, self.v).to(self.v).expand_as(self.v)


class SRPIFNode(PreStepsIFNode):
    r"""IF neuron that stays silent if its residual potential after the pre-steps is negative.

    After :math:`\tau` pre-steps V(0) of neurons with :math:`V(\tau) < 0` becomes :math:`-\infty`, so that
    they never fire: their inputs sum up to less than they have fired for, most often to less than nothing.
    The others start as before. From Hao et al., "Reducing ANN-SNN conversion error through residual membrane
    potential", AAAI 2023 (SRP), where :math:`\tau` is 4 and V(0) half the threshold.
    """

    def corrected_start(self) -> Tensor:
        return self._start().masked_fill(self.v < 0, -torch.inf)


class COSIFNode(PreStepsIFNode):
    r"""IF neuron that shifts V(0) by the spikes that it fired too many or too few in the pre-steps.

    After :math:`\rho` pre-steps with N spikes the offset is

    .. math::
        k = N - \mathrm{clip}(N + \lfloor (V(\rho) + V_{th} / 2 - V(0)) / V_{th} \rfloor, 0, \rho \, burst),

    which for :math:`V(0) = V_{th} / 2` and no clipped count is :math:`-\lfloor V(\rho) / V_{th} \rfloor`.
    V(0) becomes, with V(t) the potential after the spikes of step t,

    .. math::
        V(0) - \max(k V_{th}, \min_{t:\ spike(t) > 0} V(t)) \quad (k > 0), \qquad
        V(0) + \max(-k V_{th}, V_{th} - \max_{t:\ spike(t) < burst} V(t)) \quad (k < 0)

    and 1/1000 of a threshold further where the second number is the larger: then one spike a step was too
    few, and a shift of k thresholds could leave all spikes where they were. From Hao et al., "Bridging the
    gap between ANNs and SNNs by calibrating offset spikes", ICLR 2023 (COS), which differs in two ways. There
    a layer's pre-steps run on the calibrated spikes of the layer before; here all layers take the same
    pre-steps, and with as many ``rounds`` as layers (``16+0p8x11``) the last one does so too: those are the
    steps that layers there wait for one another. And there an iteration shifts by one spike whatever k is.
    """

    # over the pre-steps: spikes; least V after a spike; most V where more could have been fired
    _seen: tuple[Tensor, Tensor, Tensor] | None = None

    def reset(self) -> None:
        super().reset()
        self._seen = None

    def multi_step_forward(self, x_seq: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Run ``[T, N, *]``; pre-steps one by one."""
        if not self.clock.now.pre:
            return super().multi_step_forward(x_seq, *args, **kwargs)
        spikes, most = [], self.rule.up
        for x in x_seq:
            spikes.append(super().multi_step_forward(x.unsqueeze(0), *args, **kwargs))
            spike, v = spikes[-1][0].to(self.v.dtype), self.v.detach()
            count, low, high = self._seen or (
                torch.zeros_like(v),
                torch.full_like(v, torch.inf),
                torch.full_like(v, -torch.inf),
            )
            low = torch.where(spike > 0, torch.minimum(low, v), low)
            high = torch.where(spike < most, torch.maximum(high, v), high)
            self._seen = count + spike, low, high
        return torch.cat(spikes)

    def corrected_start(self) -> Tensor:
        assert self._seen is not None  # a run with pre-steps has been
        count, low, high = self._seen
        start, threshold = self._start(), self._per_channel(self.threshold, self.v).to(self.v)
        due = count + ((self.v + (threshold / 2 - start)) / threshold).floor()
        offset = count - due.clamp(0, (self.steps - self._begun[1]) * self.rule.up)
        shift, margin = offset * threshold, _MARGIN * threshold
        down = torch.where(low < shift, shift, low + margin)
        up = torch.where(high - shift >= threshold, -shift, threshold - high + margin)
        return torch.where(offset > 0, start - down, torch.where(offset < 0, start + up, start))
