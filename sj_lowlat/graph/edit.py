"""Changes of a network's layers and graph together, and walks along the graph."""

from __future__ import annotations

from typing import Any

from torch import fx, nn


def downstream(node: fx.Node) -> set[fx.Node]:
    """Every node that depends on ``node``."""
    found: set[fx.Node] = set()
    stack = [node]
    while stack:
        new = set(stack.pop().users) - found
        found |= new
        stack.extend(new)
    return found


def upstream(node: fx.Node) -> set[fx.Node]:
    """Every node that ``node`` depends on."""
    found: set[fx.Node] = set()
    stack = [node]
    while stack:
        new = set(stack.pop().all_input_nodes) - found
        found |= new
        stack.extend(new)
    return found


def calls_of(graph: fx.Graph, name: str) -> list[fx.Node]:
    """The nodes that call a layer."""
    return [node for node in graph.nodes if node.op == "call_module" and node.target == name]


def replace_layer(network: Any, name: str, new: nn.Module) -> None:
    """Put ``new`` in the place of a layer, under every name that it has.

    :param network: a :class:`~sj_lowlat.network.GraphNetwork`, changed in place
    :param name: of the layer
    :param new: a layer, or an ``nn.Sequential`` of layers, which are then called one after the other
    """
    old = network.get_submodule(name)
    for parent in list(network.modules()):
        for child, module in parent._modules.items():
            if module is old:
                parent._modules[child] = new
    if isinstance(new, nn.Sequential):
        for node in calls_of(network.graph, name):
            value: Any = node.args[0]
            with network.graph.inserting_before(node):
                for key, _ in new.named_children():
                    value = network.graph.call_module(f"{name}.{key}", (value,))
                    value.meta.update(node.meta)
            node.replace_all_uses_with(value)
            network.graph.erase_node(node)
        network.recompile()


def drop_layer(network: Any, name: str) -> None:
    """Take the calls of a layer out of the graph: its readers read what it read.

    An ``nn.Identity`` holds its name.

    :param network: a :class:`~sj_lowlat.network.GraphNetwork`, changed in place
    :param name: of the layer
    """
    for node in calls_of(network.graph, name):
        node.replace_all_uses_with(node.args[0])  # type: ignore[arg-type]
        network.graph.erase_node(node)
    replace_layer(network, name, nn.Identity())
    network.recompile()
