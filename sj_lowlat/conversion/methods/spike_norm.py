"""SpikeNorm: scales from the input currents of a simulation, layer after layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sj_lowlat.conversion.methods.method import Case, Method, Scales
from sj_lowlat.schedule import Schedule
from sj_lowlat.simulation import simulate


def largest_currents(case: Case) -> Scales:
    r"""Threshold balancing by spikes: :math:`V_{th}^l = \max_t \max_i \sum_j w_{ij} s_j(t)`, the highest
    current that the spikes of the layers before, already balanced, bring to a layer in one step.

    The scale is that of the threshold in the ANN's own unit. Layers are balanced in the order of their calls;
    each takes a simulation of ``time_steps`` on all calibration images.
    """
    scales = case.collect("max")
    for name in case.names:
        snn = case.build(scales)
        highest: list[torch.Tensor] = []

        def watch(_: nn.Module, inputs: Any, highest: list[torch.Tensor] = highest) -> None:
            x = inputs[0]
            highest.append(x.transpose(0, 1).flatten(1).amax(1) if case.per_channel else x.amax())

        handle = snn.get_submodule(name).register_forward_pre_hook(watch)
        for images in case.batches():
            simulate(snn, images, Schedule(case.time_steps, charge=case.time_steps))
        handle.remove()
        peak = torch.stack(highest).amax(0).to(scales[name])
        # a layer that no current drives upwards keeps the scale of its activations
        scales[name] = torch.where(peak > 0, scales[name] * peak, scales[name])
    return scales


SPIKE_NORM = Method(
    "spike-norm",
    "A. Sengupta et al., Going deeper in spiking neural networks: VGG and residual architectures, "
    "Front. Neurosci. 13:95 (2019): thresholds from simulated input currents, hard reset",
    neuron="hard-reset",
    start=0.0,
    scale=largest_currents,
)
