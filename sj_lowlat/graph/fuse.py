"""Activations that are written out as products of a value and its gate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx, nn

from sj_lowlat.graph.operations import function_name, is_product


def written_out(network: Any, node: fx.Node) -> tuple[nn.Module, fx.Node] | None:
    """The activation that a product stands for, and what it reads: ``x * sigmoid(x)`` is a SiLU,
    ``x * hardsigmoid(x)`` a hard-swish, ``x * tanh(softplus(x))`` a Mish; layers or functions.

    :param network: a :class:`~sj_lowlat.network.GraphNetwork`
    :param node: any node of its graph
    """
    if not is_product(node):
        return None
    for value, gate in (node.args, node.args[::-1]):
        assert isinstance(value, fx.Node) and isinstance(gate, fx.Node)
        for kind, steps in _GATES.items():
            source: Any = gate
            for name, layer in steps:
                source = _argument(network, source, name, layer)
            if source is value:
                return kind(), value
    return None


_GATES: dict[Callable[[], nn.Module], tuple[tuple[str, type[nn.Module]], ...]] = {
    nn.SiLU: (("sigmoid", nn.Sigmoid),),
    nn.Hardswish: (("hardsigmoid", nn.Hardsigmoid),),
    nn.Mish: (("tanh", nn.Tanh), ("softplus", nn.Softplus)),
}


def _argument(network: Any, node: Any, name: str, layer: type[nn.Module]) -> Any:
    """What a node reads, if it is that activation with its usual numbers; else ``None``."""
    if not isinstance(node, fx.Node) or len(node.args) != 1 or node.kwargs:
        return None
    module = network.module_of(node)
    usual = module is not None and type(module) is layer and vars(module).get("beta", 1) == 1
    return node.args[0] if usual or (module is None and function_name(node) == name) else None
