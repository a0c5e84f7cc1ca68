"""Changes of a network's layers and graph together, and walks along the graph."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import fx, nn

from sj_lowlat.graph.fuse import written_out
from sj_lowlat.graph.operations import PASSIVE_MODULES, function_name, is_leaf, is_weighted, writes


def _reached(nodes: Iterable[fx.Node], step: Callable[[fx.Node], Iterable[fx.Node]]) -> set[fx.Node]:
    found: set[fx.Node] = set()
    stack = list(nodes)
    while stack:
        new = set(step(stack.pop())) - found
        found |= new
        stack.extend(new)
    return found


def downstream(node: fx.Node) -> set[fx.Node]:
    """Every node that depends on ``node``."""
    return _reached([node], lambda n: n.users)


def upstream(node: fx.Node) -> set[fx.Node]:
    """Every node that ``node`` depends on."""
    return _reached([node], lambda n: n.all_input_nodes)


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


def free_name(network: nn.Module, wanted: str) -> str:
    """A submodule name that is not taken: ``wanted``, or with a number behind it."""
    names, number = {name for name, _ in network.named_modules(remove_duplicate=False)}, 1
    name = wanted
    while name in names:
        name, number = f"{wanted}_{number}", number + 1
    return name


def add_layer(network: nn.Module, name: str, layer: nn.Module) -> None:
    """Register a layer by its full name; its parent exists."""
    parent, _, child = name.rpartition(".")
    network.get_submodule(parent).add_module(child, layer.train(network.training))


def insert_behind(network: Any, node: fx.Node, name: str, layer: nn.Module) -> fx.Node:
    """Let a new layer read a node, and everything that read the node read the layer.

    :param network: a :class:`~sj_lowlat.network.GraphNetwork`, changed in place; the caller recompiles it
    :param name: of the layer
    """
    add_layer(network, name, layer)
    with network.graph.inserting_after(node):
        call = network.graph.call_module(name, (node,))
    call.meta.update(node.meta)
    node.replace_all_uses_with(call, delete_user_cb=lambda user: user is not call)
    return call


def drop_unread(graph: fx.Graph) -> None:
    """Drop what nobody reads, but for writes into tensors."""
    for node in reversed(graph.nodes):
        if not node.users and node.op.startswith(("call", "get")) and not writes(node):
            graph.erase_node(node)


def replace_call(network: Any, node: fx.Node, name: str, layer: nn.Module, args: tuple[Any, ...]) -> fx.Node:
    """Put the call of a new layer in the place of a node; see :func:`insert_behind`."""
    add_layer(network, name, layer)
    with network.graph.inserting_after(node):
        call = network.graph.call_module(name, args)
    call.meta.update(node.meta)
    node.replace_all_uses_with(call)
    network.graph.erase_node(node)
    return call


#: activations and max-pools that may be written as functions -> the same as a module
AS_MODULES: dict[str, Callable[..., nn.Module]] = {
    "relu": nn.ReLU, "relu6": nn.ReLU6, "leaky_relu": nn.LeakyReLU, "silu": nn.SiLU, "mish": nn.Mish,
    "hardswish": nn.Hardswish, "hardsigmoid": nn.Hardsigmoid, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh,
    "gelu": nn.GELU, "softplus": nn.Softplus,
    "elu": lambda alpha=1.0, scale=1.0, input_scale=1.0: (
        nn.ELU(alpha) if scale == input_scale == 1 else nn.SELU()  # the two that torch has
    ),
    "max_pool2d": lambda size, stride=None, padding=0, dilation=1, ceil=False: nn.MaxPool2d(
        tuple(size), tuple(stride or size), padding, dilation, ceil_mode=ceil
    ),
    "clamp": lambda low=None, high=None: _clip(low, high),
    "clip": lambda low=None, high=None: _clip(low, high),
    "clamp_min": lambda low: _clip(low, None),
    "hardtanh": lambda low=-1.0, high=1.0: nn.ReLU6() if (low, high) == (0, 6) else nn.Hardtanh(low, high),
}  # fmt: skip


def _clip(low: float | None, high: float | None) -> nn.Module:
    if low == 0 and high in (None, 6):
        return nn.ReLU() if high is None else nn.ReLU6()
    infinity = float("inf")
    return nn.Hardtanh(-infinity if low is None else low, infinity if high is None else high)


def one_call_each(network: Any) -> None:
    """Give every call of a layer a module of its own, in place: activations and max-pools between layers that
    are written as functions become modules, and a layer that is called again gets a twin (of the same
    parameters) for each further call. What is computed in place is read by all that follow. Activations that
    are written out as products become one module.

    :param network: a :class:`~sj_lowlat.network.GraphNetwork`
    """
    for node in list(network.graph.nodes):
        if (found := written_out(network, node)) is not None:
            layer, value = found
            owner = node.meta.get("owner") or ""
            name = free_name(network, f"{owner}.{type(layer).__name__.lower()}".strip("."))
            replace_call(network, node, name, layer, (value,))
    drop_unread(network.graph)
    called: set[str] = set()
    weighted = [node for node in network.graph.nodes if is_weighted(network.module_of(node))]
    between = _reached(weighted, lambda node: node.users) & _reached(weighted, lambda n: n.all_input_nodes)
    for node in list(network.graph.nodes):
        module = network.module_of(node)
        function = function_name(node) if node.op == "call_function" else ""
        if node in between and (function in ("add_", "mul_") or function.rstrip("_") in AS_MODULES):
            if function.endswith("_"):
                _read_by_all_that_follow(node)
            if function in ("add_", "mul_"):
                node.target = getattr(getattr(torch.ops.aten, function[:-1]), node.target._overloadname)
                continue
            owner = node.meta.get("owner") or ""
            name = free_name(network, f"{owner}.{function.rstrip('_')}".strip("."))
            layer = AS_MODULES[function.rstrip("_")](*node.args[1:], **node.kwargs)
            called.add(str(replace_call(network, node, name, layer, (node.args[0],)).target))
        elif module is not None:
            if getattr(module, "inplace", False):
                module.inplace = False
                _read_by_all_that_follow(node)
            if str(node.target) in called and is_leaf(module) and not isinstance(module, PASSIVE_MODULES):
                shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
                name = free_name(network, f"{node.target}_call")
                add_layer(network, name, copy.deepcopy(module, shared))
                node.target = name
            called.add(str(node.target))
    network.recompile()


def _read_by_all_that_follow(node: fx.Node) -> None:
    """Let what reads the input of an in-place operation after it read its result."""
    source, after = node.args[0], set()
    here = node.next
    while here.op != "root":
        after.add(here)
        here = here.next
    assert isinstance(source, fx.Node)
    source.replace_all_uses_with(node, delete_user_cb=lambda user: user in after)
