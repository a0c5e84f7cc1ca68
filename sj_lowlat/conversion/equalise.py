"""Channel equalisation: channels of equal range, without a change of the function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from sj_lowlat.conversion.additions import meeting
from sj_lowlat.conversion.fold import scale_channels
from sj_lowlat.conversion.normalise import probe_input_scales
from sj_lowlat.conversion.plan import Plan
from sj_lowlat.conversion.spike import is_pointwise
from sj_lowlat.errors import ConversionError
from sj_lowlat.network import GraphNetwork

_LEAST = 0.1  # of the layer's mean: limits how much a channel that is hardly ever active is amplified


@torch.no_grad()
def equalise_channels(
    model: GraphNetwork,
    plan: Plan,
    scales: Mapping[str, torch.Tensor],
    example: torch.Tensor,
) -> None:
    r"""Equalise channels of activations, in place: with :math:`s_c` the scale of channel c over the mean of
    its layer, the layer's output (its batch norm, where it has one) is divided by :math:`s_c` and the weights
    that read the channel are multiplied by it. ReLU (leaky or not), max-pool, upsampling and concatenation
    commute with it. Activations whose spikes meet in a sum or product, or that read one, and
    functions other than those, are left alone.

    :param model: the network, changed in place
    :param plan: its layers and sums
    :param scales: activation name -> scale per channel ``[C]``
    :param example: one input
    """
    fixed = meeting(model, plan, plan.activations)
    for name in plan.activations:  # of which f(s x) is not s f(x)
        activation = model.get_submodule(name)
        fixed |= {name} if isinstance(activation, nn.ReLU6) or is_pointwise(activation) else set()
    relative = {
        name: torch.ones_like(scale) if name in fixed else (scale / scale.mean()).clamp(min=_LEAST)
        for name, scale in scales.items()
    }
    scales_in = probe_input_scales(model, plan, relative, example)
    for own in plan.layers:
        layer: Any = model.get_submodule(own.name)
        layer.weight = nn.Parameter(layer.weight.data.clone())  # another layer may share it
        scale_channels(layer, scale_in=scales_in[own.name, 0])
        if own.activation is None or own.activation in fixed:
            continue
        inverse = 1 / relative[own.activation]
        if own.batch_norm is not None:
            norm: Any = model.get_submodule(own.batch_norm)
            if norm.weight is None:
                raise ConversionError(
                    f"module '{own.batch_norm}' has no weight that could take up its channels' scales: "
                    "build it with affine=True, or leave out equalise"
                )
            norm.weight.mul_(inverse)
            norm.bias.mul_(inverse)
        else:
            scale_channels(layer, scale_out=inverse)
            if layer.bias is not None:
                layer.bias.mul_(inverse)
