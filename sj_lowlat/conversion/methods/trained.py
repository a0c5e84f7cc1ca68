"""Methods for networks whose clips were trained, and corrections of their neurons' start."""

from __future__ import annotations

from sj_lowlat.conversion.methods.method import Method
from sj_lowlat.schedule import Schedule

PRE_STEPS = 4


def after_pre_steps(total: int, levels: int | None, depth: int) -> Schedule:
    """Pre-steps, of which short runs have fewer, count as latency."""
    pre = min(PRE_STEPS, total - 1)
    return Schedule(total - pre, charge=total - pre, pre=pre)


def _paper(name: str, start: str) -> str:
    return f"Low-latency SNN detection (the paper of this package): Quant-ReLU, weight normalisation, {start}"


RESIDUAL_FIX = Method(
    "residual-fix", _paper("residual-fix", "residual fix V(0) = 0.5 V_th"), neuron="residual-fix",
    form="quantised",
)  # fmt: skip
PLAIN_IF = Method("if", _paper("if", "without the residual fix"), neuron="if", start=0.0, form="quantised")
QCFS = Method(
    "qcfs",
    "T. Bu et al., Optimal ANN-SNN conversion for high-accuracy and ultra-low-latency spiking neural "
    "networks, ICLR 2022: quantisation clip-floor-shift with a trained clip, V(0) = 0.5 V_th",
    neuron="residual-fix",
    form="quantised",
)
FAST_SNN = Method(
    "fast-snn",
    "Y. Hu et al., Fast-SNN: fast spiking neural network by converting quantized ANN, TPAMI 2023: "
    "quantised ANN of few bits, signed neuron",
    neuron="signed",
    form="quantised",
)
RATE_NORM = Method(
    "rate-norm",
    "J. Ding et al., Optimal ANN-SNN conversion for fast and accurate inference in deep spiking neural "
    "networks, IJCAI 2021: rate norm layer, a trained share of the running maximum",
    neuron="residual-fix",
    form="clipped",
)
SRP = Method(
    "srp",
    "Z. Hao et al., Reducing ANN-SNN conversion error through residual membrane potential, AAAI 2023: "
    "after 4 pre-steps, neurons with negative potential are silenced",
    neuron="srp",
    form="quantised",
    schedule=after_pre_steps,
    curve=False,
)
COS = Method(
    "cos",
    "Z. Hao et al., Bridging the gap between ANNs and SNNs by calibrating offset spikes, ICLR 2023: "
    "after 4 pre-steps, V(0) is shifted by the spikes too many or too few",
    neuron="cos",
    form="quantised",
    schedule=after_pre_steps,
    curve=False,
)
