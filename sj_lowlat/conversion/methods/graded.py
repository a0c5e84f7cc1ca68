"""Methods whose neurons send more than one unit in a step."""

from __future__ import annotations

from sj_lowlat.conversion.methods.method import Method
from sj_lowlat.schedule import Schedule

BURST, GROUP, SIZES = 5, 4, 64


def bursts(total: int, levels: int | None, depth: int) -> Schedule:
    """Up to five spikes in a step."""
    return Schedule(total, burst=BURST, charge=total)


def first_step_only(total: int, levels: int | None, depth: int) -> Schedule:
    """Image and biases come in the first step; then nothing but changes is sent."""
    return Schedule(1, flush=total - 1, charge=1)


BURSTS = Method(
    "burst",
    "Y. Li, Y. Zeng, Efficient and accurate conversion of spiking neural network with burst spikes, "
    "IJCAI 2022: up to 5 spikes a step, 99.9 % normalisation",
    neuron="if",
    start=0.0,
    scale="99.9%",
    schedule=bursts,
)
GROUP_NEURONS = Method(
    "group",
    "L. Lv et al., Optimal ANN-SNN conversion with group neurons, ICASSP 2024: 4 members with "
    "thresholds of a quarter each, which together fire up to 4 spikes a step",
    neuron="residual-fix",
    form="quantised",
    members=GROUP,
)
MULTI_THRESHOLD = Method(
    "multi-threshold",
    "Z. Huang et al., Towards high-performance spiking transformers from ANN to SNN conversion, ACM MM "
    "2024: spikes of 1, 1/2, ... 1/64 of the scale, both signs; 99.9 % per channel",
    neuron="multi-threshold",
    start=0.0,
    scale="99.9%",
    per_channel=True,
    members=SIZES,
)
DIFFERENTIAL = Method(
    "differential",
    "Z. Huang et al., Differential coding for training-free ANN-to-SNN conversion, ICML 2025: multi-"
    "threshold neurons that send changes of the mean; 99.9 % per channel (without its threshold "
    "iteration)",
    neuron="differential",
    start=0.0,
    scale="99.9%",
    per_channel=True,
    members=SIZES,
    schedule=first_step_only,
)
