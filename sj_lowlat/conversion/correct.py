"""Bias correction: the mean error that quantisation leaves in each channel goes into the biases."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from sj_lowlat.conversion.plan import LayerPlan, Plan
from sj_lowlat.network import GraphNetwork
from sj_lowlat.record import evaluating


@torch.no_grad()
def correct_biases(model: GraphNetwork, reference: GraphNetwork, plan: Plan, images: torch.Tensor) -> None:
    r"""Subtract, in place, from the bias of each layer (of its batch norm, where it has one) the mean
    :math:`E[y_c] - E[y_c^{float}]` of its output channel c over images and places, layer by layer in the
    order of their calls, so that each sees what the corrections before it left (Nagel et al. 2019, arXiv
    1906.04721, section 4.2). The mean of a sum of currents and spikes goes into the last layer that it reads.

    Both networks run once, side by side, and hold the maps of all images that are still to be read.

    :param model: the quantised network
    :param reference: the same network before its activations were quantised
    :param plan: the layers and sums of both
    :param images: ``[N, C, H, W]``, on the device and in the number format of the networks
    """
    with evaluating(model), evaluating(reference):
        _SideBySide(model, reference, plan).run(images)


class _SideBySide(fx.Interpreter):
    """Interpreter of the quantised graph that runs the reference's along with it."""

    def __init__(self, model: GraphNetwork, reference: GraphNetwork, plan: Plan) -> None:
        super().__init__(model, graph=model.graph)
        self.model = model
        self.reference = fx.Interpreter(reference, graph=reference.graph)
        self.partner = dict(zip(model.graph.nodes, reference.graph.nodes, strict=True))
        self.modules = {own.batch_norm or own.name: own for own in plan.layers}
        last = {own.activation: own for own in plan.layers}
        readers = {name: branches.activation for name, branches in plan.sums.items()}
        self.sums = {name: last[reader] for name, reader in readers.items() if reader and reader in last}

    def run(self, *args: Any, **kwargs: Any) -> Any:
        self.reference.args_iter = iter(args)
        return super().run(*args, **kwargs)

    def run_node(self, n: fx.Node) -> Any:
        value, other = super().run_node(n), self.partner[n]
        wanted = self.reference.env[other] = self.reference.run_node(other)
        for done in self.reference.user_to_last_uses.get(other, []):
            del self.reference.env[done]
        own = self.modules.get(str(n.target)) if n.op == "call_module" else self.sums.get(n.name)
        return value if own is None else self._correct(own, value, wanted)

    def _correct(self, own: LayerPlan, value: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """The value after the correction of its layer."""
        layer: Any = self.model.get_submodule(own.name)
        norm: Any = self.model.get_submodule(own.batch_norm) if own.batch_norm else None
        axis = -1 if norm is None and isinstance(layer, nn.Linear) else 1
        error = (value.double() - wanted.double()).movedim(axis, -1).flatten(0, -2).mean(0)
        shift, holder = error, layer if norm is None else norm
        if norm is not None and norm.bias is None:  # without affine parameters
            shift, holder = error * (norm.running_var.double() + norm.eps).sqrt(), layer
        bias = torch.zeros_like(shift) if holder.bias is None else holder.bias.double()
        holder.bias = nn.Parameter((bias - shift).to(value))  # a new one: another layer may share it
        return value - error.to(value).reshape(-1, *[1] * (value.dim() - 1 - axis % value.dim()))
