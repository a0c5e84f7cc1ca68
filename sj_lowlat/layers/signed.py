"""The neuron that takes back spikes that came too early."""

from __future__ import annotations

from typing import Any

import torch

from sj_lowlat.functional import leaky_charge
from sj_lowlat.kernels import FireRule
from sj_lowlat.layers.spiking import LowLatencyIFNode


class SignedIFNode(LowLatencyIFNode):
    r"""IF neuron that takes back a spike that came too early: it fires -1 when V < 0 and N > 0.

    V stays in :math:`[0, V_{th})` while N > 0, so that :math:`N(t) = \max(0, \lfloor v_0 + S(t) \rfloor)` at
    every t, up to the limit of one spike a step, where S(t) is the sum of the inputs so far in thresholds.

    With a slope it stands for a leaky ReLU: N may fall below 0, where each spike is worth a threshold / slope
    (:func:`sj_lowlat.functional.signed_step`), so that N(t) is the quantised leaky ReLU of S(t).

    :param max_count: the highest net count N (for a quantised ReLU of T levels: T), or ``None``;
        then in a simulation the charge of the run times the burst
    :param slope: negative slope in [0, 0.5); 0 for a ReLU
    """

    def __init__(self, *args: Any, max_count: int | None = None, slope: float = 0.0, **kwargs: Any) -> None:
        FireRule("signed", max_count=max_count, slope=slope)  # checks them
        self.slope = slope
        super().__init__(*args, **kwargs)
        self.register_memory("count", 0.0)
        self.max_count = max_count

    @property
    def rule(self) -> FireRule:
        most, charge = self.max_count, self.clock.now.charge
        if most is None and charge is not None:
            most = charge * self.burst  # a quantised ReLU of L levels counts to L
        return FireRule("signed", max_count=most, slope=self.slope, burst=self._most_spikes())

    def _fresh_states(self, v: torch.Tensor) -> tuple[object, ...]:
        return (v, torch.zeros_like(v))

    def _fire(
        self, v: torch.Tensor, threshold: torch.Tensor, states: tuple[object, ...]
    ) -> tuple[torch.Tensor, tuple[object, ...]]:
        count, rule = states[1], self.rule
        assert isinstance(count, torch.Tensor)
        if self.slope:
            spike = self._fire_leaky(v, threshold, count)
            return spike, (count + spike.detach(),)
        positive = self._thresholds_reached(v, threshold)
        # 1 - step(v) is 1 exactly where v < 0
        negative = 1.0 - self.surrogate_function(v)
        for number in range(1, rule.burst):
            negative = negative + 1.0 - self.surrogate_function(v + number * threshold)
        if rule.burst == 1:
            if rule.max_count is not None:
                positive = positive * (count < rule.max_count)
            spike = positive - negative * (count > 0)
        else:
            if rule.max_count is not None:
                positive = torch.minimum(positive, rule.max_count - count)
            spike = positive - torch.minimum(negative, count)
        return spike, (count + spike.detach(),)

    def _fire_leaky(self, v: torch.Tensor, threshold: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
        """One spike after another, as many as a burst allows."""
        rule = self.rule
        charge, fired = v + leaky_charge(count, threshold, self.slope), torch.zeros_like(v)
        half = 0.5 * (threshold / self.slope)
        for _ in range(rule.burst):
            now = count + fired.detach()
            v = charge - leaky_charge(now, threshold, self.slope)
            positive = self.surrogate_function(v - torch.where(now < 0, half, threshold))
            negative = 1.0 - self.surrogate_function(v + torch.where(now > 0, 0.0, half))
            if rule.max_count is not None:
                positive, negative = positive * (now < rule.max_count), negative * (now > -rule.max_count)
            fired = fired + positive - negative
        return fired

    def _drop(
        self, v: torch.Tensor, spike: torch.Tensor, threshold: torch.Tensor, states: tuple[object, ...]
    ) -> torch.Tensor:
        if not self.slope:
            return super()._drop(v, spike, threshold, states)
        count = states[1]
        assert isinstance(count, torch.Tensor)
        charge = v + leaky_charge(count, threshold, self.slope)
        return charge - leaky_charge(count + spike, threshold, self.slope)
