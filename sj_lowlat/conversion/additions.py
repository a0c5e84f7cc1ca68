"""Additions of branches: identity neurons where a sum of currents needs them, ties, factors.

Spikes of two branches add up exactly, step by step, once both have one unit (:class:`BranchSum`). A branch of
spikes may also join the currents of the neurons behind the sum (ResNet). A sum of currents that no activation
reads (a linear bottleneck) gets identity neurons of its own.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sj_lowlat.conversion.plan import Sum
from sj_lowlat.errors import InputError
from sj_lowlat.graph import operations
from sj_lowlat.graph.edit import add_layer, free_name, insert_behind, replace_call
from sj_lowlat.graph.operations import PASSIVE_MODULES, is_weighted
from sj_lowlat.layers import BranchSum, SpikeProduct, Symmetric
from sj_lowlat.network import GraphNetwork
from sj_lowlat.record import evaluating

POLICIES = ("rescale", "tie", "neuron")


def complete_sums(
    network: GraphNetwork,
    types: Iterable[type[nn.Module]],
    example: torch.Tensor,
    policy: str = "rescale",
    linear: bool = False,
) -> None:
    """Insert what neurons need around sums and norms, in place.

    - Identity activations (:class:`~sj_lowlat.layers.Symmetric`) behind sums of currents that no activation
      reads, and behind currents that several read, or that join spikes in a concatenation.
    - A depthwise convolution with weights of 1 between spikes and a batch norm or an activation that reads
      them (pre-activation networks), so that the norm has a layer to be folded into.

    :param network: the network
    :param types: module types that become neurons
    :param example: one input
    :param policy: ``"neuron"``: identity activations behind every sum of spikes as well
    :param linear: also behind every layer without an activation, so that nothing but spikes travels
    :raises InputError: for an unknown policy
    """
    if policy not in POLICIES:
        raise InputError(f"sums is {policy!r}, it must be one of {', '.join(POLICIES)}")
    _Completion(network, tuple(types), example, policy, linear).run()
    network.recompile()


class _Completion:
    """Values are, as in a plan, currents and spikes; ``None`` for images, outputs and constants."""

    def __init__(
        self,
        network: GraphNetwork,
        types: tuple[type[nn.Module], ...],
        example: torch.Tensor,
        policy: str,
        linear: bool,
    ) -> None:
        self.network, self.types, self.policy, self.linear = network, types, policy, linear
        self.modules = {node: network.module_of(node) for node in network.graph.nodes}
        self.output = next(iter(reversed(network.graph.nodes)))
        self.shapes = Shapes(network, graph=network.graph).of(example)
        self.kind: dict[fx.Node, str | None] = {}
        self.later: set[fx.Node] = set()  # what a layer reads in the end
        for node in reversed(self.modules):
            if any(user in self.later or is_weighted(self.modules[user]) for user in node.users):
                self.later.add(node)

    def run(self) -> None:
        for node, module in self.modules.items():
            read = {self.kind.get(source) for source in node.all_input_nodes}
            self.kind[node] = self._kind_of(node, module, read)
            behind = any(_passes(node, self.modules[user]) for user in node.users)
            if node in self.later and not behind and self._wants_identity(node):
                self._put_identity(node)

    def _kind_of(self, node: fx.Node, module: nn.Module | None, read: set[str | None]) -> str | None:
        fires = isinstance(module, self.types) and node in self.later  # behind a head: works on the output
        if is_weighted(module):
            return "current" if node in self.later else None
        if (fires or isinstance(module, _BatchNorm)) and read == {"spike"} and self._put_relay(node):
            return "spike" if fires else "current"
        if fires:
            return "spike"
        if module is None and operations.function_name(node) == "cat" and {"current", "spike"} <= read:
            for source in list(node.all_input_nodes):
                if self.kind[source] == "current":
                    self._put_identity(source)
            return "spike"
        return "current" if "current" in read else "spike" if "spike" in read else None

    def _wants_identity(self, node: fx.Node) -> bool:
        adds, readers = operations.is_sum(node), [self.modules[user] for user in node.users]
        if self.kind[node] == "spike":
            return adds and self.policy == "neuron"
        summed = any(map(operations.is_sum, node.users))
        alone = len(readers) == 1 and (summed or isinstance(readers[0], self.types))
        returned = self.output in node.users
        many = len(readers) > 1 and not all(map(is_weighted, readers))
        wanted = adds or summed or ((many or self.linear) and not returned)
        return self.kind[node] == "current" and not alone and wanted

    def _put_identity(self, source: fx.Node) -> None:
        """Behind the layer or sum whose currents a node passes on."""
        while not (
            operations.is_sum(source) or isinstance(self.modules[source], (_BatchNorm, *PASSIVE_MODULES))
        ):
            self.kind[source] = "spike"
            if is_weighted(self.modules[source]):
                break
            source = next(node for node in source.all_input_nodes if self.kind[node] == "current")
        owner = f"{source.meta.get('owner') or ''}.sum".strip(".")
        name = f"{source.target}_identity" if source.op == "call_module" else owner
        call = insert_behind(self.network, source, free_name(self.network, name), Symmetric())
        self.kind[call], self.shapes[call] = "spike", self.shapes[source]

    def _put_relay(self, node: fx.Node) -> bool:
        """A depthwise convolution with weights of 1 in front of a node, if that reads maps."""
        (source,) = node.all_input_nodes
        shape = self.shapes.get(source, torch.Size())
        kind = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}.get(len(shape))
        if kind is None:
            return False
        layer = kind(shape[1], shape[1], 1, groups=shape[1], bias=False)
        nn.init.ones_(layer.weight)
        name = free_name(self.network, f"{node.target}_relay")
        add_layer(self.network, name, layer.to(next(self.network.parameters())))
        with self.network.graph.inserting_before(node):
            call = self.network.graph.call_module(name, (source,))
        call.meta.update(node.meta)
        node.replace_input_with(source, call)
        return True


class Shapes(fx.Interpreter):
    """Shape of every node's result."""

    @torch.no_grad()
    def of(self, example: torch.Tensor) -> dict[fx.Node, torch.Size]:
        self.found: dict[fx.Node, torch.Size] = {}
        with evaluating(self.module):
            self.run(example)
        return self.found

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, torch.Tensor):
            self.found[n] = value.shape
        return value


def _passes(node: fx.Node, reader: nn.Module | None) -> bool:
    """Whether what a node gives passes its reader: a layer that does nothing, or the norm of a layer."""
    norm = isinstance(reader, _BatchNorm) and not operations.is_sum(node)
    return norm or isinstance(reader, PASSIVE_MODULES)


def meeting(network: GraphNetwork, sums: Mapping[str, Sum], names: Iterable[str]) -> list[list[str]]:
    """Groups of activations that meet in sums: those whose spikes a sum reads, and the one that reads it.

    :param sums: of the plan
    :param names: of the activations; one that meets no other is a group of its own
    """
    group = {name: {name} for name in names}
    for node in network.graph.nodes:
        if node.name in sums:
            reader = sums[node.name].activation
            members = firing(network, node, group) | ({reader} if reader else set())
            together = set().union(*(group[name] for name in members))
            for name in together:
                group[name] = together
    unique = {id(members): sorted(members) for members in group.values()}
    return list(unique.values())


def firing(network: GraphNetwork, node: fx.Node, names: Container[str]) -> set[str]:
    """The activations whose spikes reach a node through no layer."""
    found: set[str] = set()
    stack = list(node.all_input_nodes)
    while stack:
        source = stack.pop()
        if str(source.target) in names and source.op == "call_module":
            found.add(str(source.target))
        elif not is_weighted(network.module_of(source)):
            stack += source.all_input_nodes
    return found


def place_products(network: GraphNetwork, products: Iterable[str], levels: int | None) -> None:
    """Put a :class:`~sj_lowlat.layers.SpikeProduct` in the place of every node that multiplies spikes."""
    for node in [node for node in network.graph.nodes if node.name in set(products)]:
        name = free_name(network, f"{node.meta.get('owner') or ''}.product".strip("."))
        replace_call(network, node, name, SpikeProduct(levels or 16), node.args)
    network.recompile()


def place_sums(
    network: GraphNetwork, sums: Mapping[str, Sum], factors: Mapping[str, list[torch.Tensor | None]]
) -> list[str]:
    """Put a :class:`~sj_lowlat.layers.BranchSum` in the place of every node that adds spikes or currents.

    :param sums: of the plan
    :param factors: node name -> factor of each branch
    :return: names of the new layers
    """
    names = []
    for node in [node for node in network.graph.nodes if node.name in sums]:
        name = free_name(network, f"{node.meta.get('owner') or ''}.sum".strip("."))
        layer = BranchSum.of(factors[node.name], sums[node.name].spikes)
        names.append(str(replace_call(network, node, name, layer, node.args).target))
    network.recompile()
    return names
