"""Weight normalisation, Eq. (13) to (15): scales move from the activations into the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sj_lowlat.conversion.fold import in_channels, out_channels, scale_channels
from sj_lowlat.conversion.plan import Plan
from sj_lowlat.errors import ConversionError
from sj_lowlat.graph import operations
from sj_lowlat.network import GraphNetwork
from sj_lowlat.record import evaluating

#: (layer, 0), or (node of a sum, which branch)
Edge: TypeAlias = tuple[str, int]


class _Probe(fx.Interpreter):
    """Interpreter of a graph on scales: every activation outputs its own, every layer that does not fire 1;
    operations between them carry scales. ``found``: what each layer, and each branch of a sum, reads,
    ``[positions, in channels]``."""

    def __init__(self, network: GraphNetwork, plan: Plan, scales: Mapping[str, torch.Tensor]) -> None:
        super().__init__(network, graph=network.graph)
        self.layers = {layer.name: layer for layer in plan.layers}
        self.sums, self.scales = plan.sums, scales
        self.found: dict[Edge, torch.Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        return self._add(n) if n.name in self.sums else super().run_node(n)

    def _add(self, node: fx.Node) -> torch.Tensor:
        """A sum has the unit of its first branch; where that has zeros (of padding), that of the next."""
        terms = [self.env[term] for term in node.args]  # type: ignore[index]
        if len({term.shape for term in terms}) > 1:
            shapes = " and ".join(str(list(term.shape)) for term in terms)
            raise ConversionError(
                f"{operations.place(node)} for branches of shapes {shapes}: give both one shape"
            )
        unit = torch.zeros(())
        for k, term in enumerate(terms):
            rows = self.found[node.name, k] = term.movedim(1, -1).flatten(0, -2)
            unit = torch.where(unit == 0, rows.amax(0), unit)
        anywhere = torch.stack(terms).any(0)
        return unit.view(-1, *[1] * (terms[0].dim() - 2)) * anywhere

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        module, x = self.fetch_attr(target), args[0]
        if target in self.layers:
            if not self.layers[target].reads_input:
                axis = -1 if isinstance(module, nn.Linear) else 1
                self.found[target, 0] = x.movedim(axis, -1).flatten(0, -2)
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
def carry_scales(
    network: GraphNetwork, plan: Plan, scales: Mapping[str, torch.Tensor], example: torch.Tensor
) -> tuple[dict[Edge, torch.Tensor], list[Edge]]:
    """Find the scale of every input channel of every layer, and of every branch of a sum, by three runs of
    the graph on scales.

    Every activation's output is replaced by its own scale, and every output that does not fire by 1;
    concatenation, slicing, nearest upsampling and pooling then carry the scales themselves to the next layer.
    A run with scales of 1 measures the effect of padding and pooling, which is divided out. A run with
    reciprocals detects mixed scales: neither a mean nor a maximum of reciprocals is the reciprocal
    of theirs.

    :param network: the network
    :param plan: its layers and sums
    :param scales: activation name -> scale, scalar or ``[C]``
    :param example: input ``[N, C, H, W]``, only its shape matters
    :return: (layer name, 0) or (name of a sum's node, which branch) -> scale per channel, 1 for the image;
        and those where activations of different scale meet in one channel
    """

    def run(values: Mapping[str, torch.Tensor]) -> dict[Edge, torch.Tensor]:
        probe = _Probe(network, plan, values)
        with evaluating(network):
            probe.run(torch.ones_like(example))
        return probe.found

    carried = run(scales)
    inverse = run({name: 1 / scale for name, scale in scales.items()})
    plain = run({name: torch.ones(()) for name in scales})
    tolerance = max(1e-4, 8 * torch.finfo(example.dtype).eps)
    found: dict[Edge, torch.Tensor] = {
        (layer.name, 0): example.new_ones(in_channels(network.get_submodule(layer.name)))
        for layer in plan.layers
        if layer.reads_input
    }
    mixed = []
    for edge in carried:
        seen = plain[edge] != 0  # elsewhere is padding
        ratio = carried[edge] / plain[edge]
        highest = ratio.masked_fill(~seen, -torch.inf).amax(0)
        lowest = ratio.masked_fill(~seen, torch.inf).amin(0)
        differs = (inverse[edge] / plain[edge] * ratio - 1).abs() > tolerance
        if bool((differs & seen).any()) or bool((highest - lowest > tolerance * highest).any()):
            mixed.append(edge)
        found[edge] = torch.where(seen.any(0), highest, 0.0 if edge[0] in plan.sums else 1.0)
    return found, mixed


def probe_input_scales(
    network: GraphNetwork, plan: Plan, scales: Mapping[str, torch.Tensor], example: torch.Tensor
) -> dict[Edge, torch.Tensor]:
    """The scales of :func:`carry_scales`, none of them mixed.

    :raises ConversionError: if activations of different scale meet in one input channel
    """
    found, mixed = carry_scales(network, plan, scales, example)
    for name, _ in mixed:
        what = "the sum" if name in plan.sums else "module"
        raise ConversionError(
            f"an input channel of {what} '{name}' mixes activations of different scale (by a "
            "reshape, pixel shuffle, or a mean or maximum over channels): take one scale per layer "
            "(per_channel=False), or put a convolution and an activation in between"
        )
    return found


def sum_factors(
    plan: Plan, found: Mapping[Edge, torch.Tensor], units: Mapping[str, torch.Tensor]
) -> dict[str, list[torch.Tensor | None]]:
    """The factor of each branch of each sum: from its own unit into that of the neurons behind the sum, or of
    the first branch.

    :param found: of :func:`probe_input_scales`
    :param units: activation name -> what one spike a step stands for
    """
    factors: dict[str, list[torch.Tensor | None]] = {}
    for name, branches in plan.sums.items():
        own = [found[name, k] for k in range(len(branches.spikes))]
        if branches.activation is not None:
            unit = units[branches.activation].to(own[0])
        else:
            unit = own[0]
            for other in own[1:]:
                unit = torch.where(unit == 0, other, unit)
        factors[name] = [
            _factor(scale / unit, scale != 0) if spikes else None
            for scale, spikes in zip(own, branches.spikes, strict=True)
        ]
    return factors


def _factor(ratio: torch.Tensor, used: torch.Tensor) -> torch.Tensor | None:
    """``None`` for a factor of 1, one number where all channels have it."""
    ratio = torch.where(used, ratio, ratio[used][0] if bool(used.any()) else 1.0)
    if bool((ratio == 1).all()):
        return None
    return ratio[0].clone() if bool((ratio == ratio[0]).all()) else ratio


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
