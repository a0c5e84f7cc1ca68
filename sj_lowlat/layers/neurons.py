"""The neurons by name: one class, other numbers of its rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sj_lowlat.kernels import FireRule
from sj_lowlat.layers.spiking import LowLatencyIFNode


class ResidualFixIFNode(LowLatencyIFNode):
    r"""IF neuron with the paper's residual fix: it starts at half its threshold (section 4.3).

    For a constant input of z thresholds a step it fires
    :math:`N(T) = \mathrm{clip}(\lfloor z T + 1/2 \rfloor, 0, T)` times, so that N/T is the quantised ReLU
    with L = T. ``ratio=0`` gives the plain IF neuron.
    """


class HardResetIFNode(LowLatencyIFNode):
    r"""IF neuron with hard reset, that of the first conversions (Cao et al., "Spiking deep convolutional
    neural networks for energy-efficient object recognition", IJCV 2015; Diehl et al., IJCNN 2015):

    .. math::
        V \leftarrow V + current, \qquad spike = [V \ge V_{th}], \qquad V \leftarrow (1 - spike) \, V

    What a spike leaves above the threshold is lost, so that for a constant input of z thresholds a step it
    fires once in :math:`\lceil 1/z \rceil` steps: the rate is below z wherever 1/z is no whole number. It is
    SpikingJelly's ``IFNode(v_reset=0.)``; ``v_reset`` stays ``None`` here, and there are no bursts.
    """

    def __init__(self, v_threshold: Any = 1.0, ratio: Any = 0.0, *args: Any, **kwargs: Any) -> None:
        super().__init__(v_threshold, ratio, *args, **kwargs)

    def _rule(self, burst: int) -> FireRule:
        return replace(super()._rule(burst), hard_reset=True)


class ImbalancedIFNode(LowLatencyIFNode):
    r"""IF neuron with imbalanced threshold (Spiking-YOLO), the spiking form of leaky ReLU.

    Fires +1 at :math:`V \ge V_{th}`; fires -1 at :math:`V \le -V_{th}/\alpha` and adds :math:`V_{th}/\alpha`.

    :param slope: :math:`\alpha`, the negative slope of the leaky ReLU, in (0, 1]
    """

    def __init__(self, *args: Any, slope: float = 0.1, **kwargs: Any) -> None:
        super().__init__(*args, slope=FireRule.imbalanced(slope).slope, **kwargs)


class SignedIFNode(LowLatencyIFNode):
    r"""IF neuron that cancels a spike that came too early: it fires -1 when V < 0 and N > 0.

    V stays in :math:`[0, V_{th})` while N > 0, so that :math:`N(t) = \max(0, \lfloor v_0 + S(t) \rfloor)` at
    every t, up to the limit of one spike a step, where S(t) is the sum of the inputs so far in thresholds.

    With a slope it stands for a leaky ReLU: N may fall below 0, where each spike is worth a threshold / slope
    (:func:`sj_lowlat.functional.signed_step`), so that N(t) is the quantised leaky ReLU of S(t).

    :param max_count: the highest net count N (for a quantised ReLU of L levels: L); ``None`` for no limit, in
        a run of ``sj_lowlat.simulate`` for the schedule's charge
    :param slope: negative slope in [0, 0.5); 0 for a ReLU; 1 for the identity, whose net count has both signs
    """

    def __init__(self, *args: Any, max_count: int | None = None, slope: float = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, counts=True, max_count=max_count, slope=slope, **kwargs)
