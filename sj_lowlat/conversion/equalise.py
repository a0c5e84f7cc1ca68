"""Channel equalisation: channels of equal range, without a change of the function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from sj_lowlat.conversion.additions import Shapes, firing, meeting
from sj_lowlat.conversion.fold import scale_channels
from sj_lowlat.conversion.normalise import Edge, carry_scales
from sj_lowlat.conversion.plan import Plan
from sj_lowlat.errors import ConversionError
from sj_lowlat.graph.edit import calls_of
from sj_lowlat.layers import Symmetric
from sj_lowlat.network import GraphNetwork

_LEAST = 0.1  # of the layer's mean: limits how much a channel that is hardly ever active is amplified
_TOLERANCE = 1e-5  # between scales that are one and the same, but for rounding
#: f(s x) = s f(x) for s > 0; of types derived from them nobody knows
_HOMOGENEOUS = (nn.ReLU, nn.LeakyReLU, Symmetric)


@torch.no_grad()
def equalise_channels(
    model: GraphNetwork,
    plan: Plan,
    scales: Mapping[str, torch.Tensor],
    example: torch.Tensor,
) -> None:
    r"""Equalise channels of activations, in place: with :math:`s_c` the scale of channel c over the mean of
    its layer, the layer's output (its batch norm, where it has one) is divided by :math:`s_c` and the weights
    that read the channel are multiplied by it. ReLU (leaky or not), the identity, max-pool, upsampling and
    concatenation commute with it. Activations that meet in a sum share the geometric mean of their
    :math:`s_c`. Left alone are other functions, activations whose spikes meet in a product, and those whose
    channels are mixed before a layer reads them, each with all that it meets in sums.

    :param model: the network, changed in place
    :param plan: its layers and sums
    :param scales: activation name -> scale per channel ``[C]``
    :param example: one input
    :raises ConversionError: if a batch norm has no weight that could take up the scales
    """
    relative, scales_in = _common_scales(model, plan, scales, example)
    for own in plan.layers:
        layer: Any = model.get_submodule(own.name)
        layer.weight = nn.Parameter(layer.weight.data.clone())  # another layer may share it
        scale_channels(layer, scale_in=scales_in[own.name, 0])
        if own.activation is None or bool((relative[own.activation] == 1).all()):
            continue
        inverse = (1 / relative[own.activation]).to(layer.weight)
        if own.batch_norm is not None:
            norm: Any = model.get_submodule(own.batch_norm)
            if norm.weight is None:
                raise ConversionError(
                    f"module '{own.batch_norm}' has no weight that could take up its channels' scales: "
                    "build it with affine=True, or leave out equalise"
                )
            norm.weight = nn.Parameter(norm.weight * inverse)
            norm.bias = nn.Parameter(norm.bias * inverse)
        else:
            scale_channels(layer, scale_out=inverse)
            if layer.bias is not None:
                layer.bias = nn.Parameter(layer.bias * inverse)


def _common_scales(
    model: GraphNetwork, plan: Plan, scales: Mapping[str, torch.Tensor], example: torch.Tensor
) -> tuple[dict[str, torch.Tensor], dict[Edge, torch.Tensor]]:
    """Relative scale ``[C]`` of each activation, in float64 (1 where it is left alone), such that activations
    which meet in a sum have the same; and the relative scale of what each layer and sum reads."""
    groups = meeting(model, plan.sums, plan.activations)
    alone = _inseparable(model, plan, example)
    while True:  # at most once per group
        relative: dict[str, torch.Tensor] = {}
        for group in groups:
            own = [scales[name].double() for name in group]
            alike = len({scale.shape for scale in own}) == 1 and alone.isdisjoint(group)
            for name, scale in zip(group, own, strict=True):
                relative[name] = (scale / scale.mean()).clamp(min=_LEAST) if alike else torch.ones_like(scale)
            if alike:
                shared = torch.stack([relative[name].log() for name in group]).mean(0).exp()
                relative |= dict.fromkeys(group, shared)
        carried, mixed = carry_scales(model, plan, relative, example)
        differ = {name for name, _ in mixed} | _unequal(plan, carried, relative)
        if not differ:
            return relative, carried
        for node in model.graph.nodes:
            if node.name in differ or (node.op == "call_module" and node.target in differ):
                alone |= firing(model, node, plan.activations)


def _inseparable(model: GraphNetwork, plan: Plan, example: torch.Tensor) -> set[str]:
    """Activations that are no homogeneous functions, that meet in products, or whose channels are not those
    of the layer that they read (a linear layer of tokens)."""
    found = {name for name in plan.activations if type(model.get_submodule(name)) not in _HOMOGENEOUS}
    for node in model.graph.nodes:
        if node.name in plan.products:
            found |= firing(model, node, plan.activations)
    shapes = Shapes(model, graph=model.graph).of(example)
    for own in plan.layers:
        (call,) = calls_of(model.graph, own.name)
        if own.activation and isinstance(model.get_submodule(own.name), nn.Linear) and len(shapes[call]) > 2:
            found.add(own.activation)
    return found


def _unequal(
    plan: Plan, carried: Mapping[Edge, torch.Tensor], relative: Mapping[str, torch.Tensor]
) -> set[str]:
    """Sums whose branches of spikes, and the activation behind, differ in the scale of a channel."""
    found = set()
    for name, branches in plan.sums.items():
        rows = [carried[name, k].double() for k, spikes in enumerate(branches.spikes) if spikes]
        if rows and branches.activation is not None:
            rows.append(relative[branches.activation].to(rows[0]))
        if len(rows) > 1:
            together = torch.stack(rows)
            lowest = together.masked_fill(together == 0, torch.inf).amin(0)  # 0: nothing but padding
            found |= {name} if bool((together.amax(0) > lowest * (1 + _TOLERANCE)).any()) else set()
    return found
