"""The ANN in the form that a method trains, where that has no levels."""

from __future__ import annotations

import torch
from torch import nn

from sj_lowlat.conversion.examples import Images, find_example
from sj_lowlat.conversion.methods import Method
from sj_lowlat.conversion.pipeline import fold
from sj_lowlat.conversion.spike import refuse_leaky
from sj_lowlat.conversion.statistics import collect_scales
from sj_lowlat.errors import InputError
from sj_lowlat.graph.edit import replace_layer
from sj_lowlat.layers import RateNorm
from sj_lowlat.network import GraphNetwork, refuse_spiking


def trainable_form(
    model: nn.Module, method: Method, calibration: Images | None, example: torch.Tensor | None
) -> GraphNetwork:
    """The network as a method's training wants it: batch norms folded, edited, its ReLUs clipped or not.

    :param model: left untouched
    :raises InputError: if clips need images
    :raises ConversionError: if a part could not be converted later
    """
    refuse_spiking(model)
    sample = find_example(model, calibration, example)
    folded = fold(GraphNetwork.of(model, sample), method, sample)
    network, names = folded.network, folded.plan.activations
    refuse_leaky(network, names, method.neuron)
    if method.form == "clipped":
        if calibration is None:
            raise InputError(f"method={method.name!r} needs calibration images to start its clips from")
        for name, highest in collect_scales(network, names, calibration, "max", False).items():
            replace_layer(network, name, RateNorm(highest).to(sample.device))
    return network
