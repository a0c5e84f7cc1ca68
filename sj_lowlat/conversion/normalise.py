"""Weight normalisation, Eq. (13) to (15): scales move from the activations into the weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sj_lowlat.conversion.fold import in_channels, out_channels, scale_channels
from sj_lowlat.conversion.plan import LayerPlan
from sj_lowlat.errors import ConversionError
from sj_lowlat.network import GraphNetwork
from sj_lowlat.record import evaluating


class _Probe(fx.Interpreter):
    """Interpreter of a graph on scales: every activation outputs its own, every layer that does not fire 1;
    operations between them carry scales. ``found``: what each layer reads, ``[positions, in channels]``."""

    def __init__(
        self, network: GraphNetwork, plans: Iterable[LayerPlan], scales: Mapping[str, torch.Tensor]
    ) -> None:
        super().__init__(network, graph=network.graph)
        self.layers = {plan.name: plan for plan in plans}
        self.scales = scales
        self.found: dict[str, torch.Tensor] = {}

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        module, x = self.fetch_attr(target), args[0]
        if target in self.layers:
            if not self.layers[target].reads_input:
                axis = -1 if isinstance(module, nn.Linear) else 1
                self.found[target] = x.movedim(axis, -1).flatten(0, -2)
            return torch.ones_like(_shape_of(module, x), device=x.device)
        if target in self.scales:
            scale = self.scales[target].to(x)
            return scale.reshape((1, -1, *[1] * (x.dim() - 2)) if scale.dim() else ()).expand_as(x).clone()
        return x if isinstance(module, _BatchNorm) else module(*args, **kwargs)


def _shape_of(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The layer's output without its values: on the device ``meta``, which has none."""
    weights = {name: value.to("meta") for name, value in layer.named_parameters()}
    return torch.func.functional_call(layer, weights, (x.to("meta"),))


@torch.no_grad()
def probe_input_scales(
    network: GraphNetwork,
    plans: Iterable[LayerPlan],
    scales: Mapping[str, torch.Tensor],
    example: torch.Tensor,
) -> dict[str, torch.Tensor]:
    """Find the scale of every input channel of every layer by three runs of the graph on scales.

    Every activation's output is replaced by its own scale, and every output that does not fire by 1;
    concatenation, slicing, nearest upsampling and pooling then carry the scales themselves to the next layer.
    A run with scales of 1 measures the effect of padding and pooling, which is divided out. A run with
    reciprocals detects mixed scales: neither a mean nor a maximum of reciprocals is the reciprocal
    of theirs.

    :param network: the network
    :param plans: its weighted layers
    :param scales: activation name -> scale, scalar or ``[C]``
    :param example: input ``[N, C, H, W]``, only its shape matters
    :return: layer name -> scale per input channel; 1 for the image
    :raises ConversionError: if activations of different scale meet in one input channel
    """
    plans = list(plans)

    def run(values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        probe = _Probe(network, plans, values)
        with evaluating(network):
            probe.run(torch.ones_like(example))
        return probe.found

    carried = run(scales)
    inverse = run({name: 1 / scale for name, scale in scales.items()})
    plain = run({name: torch.ones(()) for name in scales})
    tolerance = max(1e-4, 8 * torch.finfo(example.dtype).eps)
    found: dict[str, torch.Tensor] = {}
    for plan in plans:
        layer = network.get_submodule(plan.name)
        if plan.reads_input:
            found[plan.name] = torch.ones(in_channels(layer), dtype=example.dtype, device=example.device)
            continue
        seen = plain[plan.name] != 0  # elsewhere is padding
        ratio = carried[plan.name] / plain[plan.name]
        highest = ratio.masked_fill(~seen, -torch.inf).amax(0)
        lowest = ratio.masked_fill(~seen, torch.inf).amin(0)
        mixed = (inverse[plan.name] / plain[plan.name] * ratio - 1).abs() > tolerance
        if bool((mixed & seen).any()) or bool((highest - lowest > tolerance * highest).any()):
            raise ConversionError(
                f"an input channel of module '{plan.name}' mixes activations of different scale (by a "
                "reshape, pixel shuffle, or a mean or maximum over channels): take one scale per layer "
                "(per_channel=False), or put a convolution and an activation in between"
            )
        found[plan.name] = torch.where(seen.any(0), highest, 1.0)
    return found


@torch.no_grad()
def normalise_layer(layer: nn.Module, scale_in: torch.Tensor, scale_out: torch.Tensor) -> None:
    r"""``W^[o, i] = W[o, i] scale_in[i] / scale_out[o]``, ``b^ = b / scale_out``, threshold 1.

    :param layer: weighted layer, changed in place
    :param scale_in: scale per input channel
    :param scale_out: scale of its activation, scalar or per output channel; 1 for a layer that does not fire
    """
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, nn.Parameter)
    inverse = (1 / scale_out.to(weight)).expand(out_channels(layer))
    # copies: another layer may share weight or bias
    layer.weight = nn.Parameter(weight.data.clone(), requires_grad=weight.requires_grad)
    scale_channels(layer, scale_out=inverse, scale_in=scale_in)
    if isinstance(bias, nn.Parameter):
        layer.bias = nn.Parameter(bias.data * inverse, requires_grad=bias.requires_grad)
