"""From a graph to a plan: which layer feeds which activation, and what cannot be converted, and why."""

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sj_lowlat.graph import IMAGES, operations
from sj_lowlat.graph.edit import downstream
from sj_lowlat.graph.operations import MAX_POOLS, PASSIVE_MODULES, has_own_forward, is_weighted
from sj_lowlat.network import GraphNetwork


@dataclass(frozen=True)
class LayerPlan:
    """One weighted layer and what follows it.

    :param name: the convolution, transposed convolution or linear layer
    :param batch_norm: the batch normalisation that reads it, or ``None``
    :param activation: the activation that reads it, or ``None`` for a layer that does not fire
    :param is_head: whether its output leaves the network without passing another layer
    :param reads_input: whether it reads the image itself and not spikes
    """

    name: str
    batch_norm: str | None
    activation: str | None
    is_head: bool
    reads_input: bool


class Plan(NamedTuple):
    """Plan of a conversion.

    :param layers: the weighted layers in the order of their calls
    :param refused: one sentence for each part without a spiking form: which, why, and the remedy
    :param pools: names of the max-pools that count spikes
    """

    layers: list[LayerPlan]
    refused: list[str]
    pools: list[str]


class _Analysis:
    """Values are ``input`` (the image and what is computed from it alone), ``current`` (of a weighted layer,
    not yet through an activation), ``spike``, ``output`` (of a head, and what is computed from heads alone)
    and ``constant`` (computed from no image)."""

    def __init__(self, network: GraphNetwork, activations: tuple[type[nn.Module], ...]) -> None:
        self.network, self.activations = network, activations
        self.nodes = list(network.graph.nodes)
        self.value: dict[fx.Node, str] = {}
        self.refused: list[str] = []
        self.plans: list[LayerPlan] = []
        self.pools: list[str] = []
        self.claimed: dict[fx.Node, tuple[str | None, str | None]] = {}  # weighted -> batch norm, activation

    def module(self, node: fx.Node) -> nn.Module | None:
        return self.network.module_of(node)

    def inputs(self, node: fx.Node) -> list[fx.Node]:
        """What it reads that depends on the image."""
        return [source for source in node.all_input_nodes if self.value[source] != "constant"]

    def run(self) -> None:
        self._refuse_repeated_calls()
        for node in self.nodes:
            if node.op != "output":
                self.value[node] = self._value(node)
        for node in self.nodes:
            if is_weighted(self.module(node)):
                batch_norm, activation = self.claimed.get(node, (None, None))
                reads = {self.value[source] for source in self.inputs(node)}
                name = str(node.target)
                self.plans.append(
                    LayerPlan(name, batch_norm, activation, self._is_head(node), reads == {"input"})
                )
        self._check_outputs()

    def _refuse_repeated_calls(self) -> None:
        calls = Counter(str(node.target) for node in self.nodes if node.op == "call_module")
        for name, count in calls.items():
            module = self.network.get_submodule(name)
            stateful = is_weighted(module) or isinstance(module, (*self.activations, *MAX_POOLS, _BatchNorm))
            if count > 1 and stateful:
                self.refused.append(
                    f"module '{name}' ({type(module).__name__}) is called {count} times in one forward: "
                    "give each call a module of its own, because each needs its own state and scale"
                )

    def _check_outputs(self) -> None:
        for node in self.nodes[-1].all_input_nodes:
            value, name = self.value[node], _name(node)
            if value == "spike" and not self.refused:  # after a refusal values are guesses
                self.refused.append(
                    f"the network returns the activation '{name}' itself: "
                    "end it with a convolution or linear layer, which reads the firing rates"
                )
            elif value == "current":
                self.refused.append(
                    f"the network returns '{name}', which goes on into other layers: "
                    "give the output a convolution or linear layer of its own"
                )
            elif value == "input":
                self.refused.append(
                    f"the network returns '{name}', which no layer has computed: return the heads only"
                )
            elif value == "output" and node.meta["dim0"] != IMAGES:
                self.refused.append(
                    f"the network returns '{name}' with dimension 0 of size {node.meta['dim0'] or '?'} for "
                    f"{IMAGES} images: leave dimension 0 to the images, to tell read-outs apart"
                )

    def _is_head(self, node: fx.Node) -> bool:
        return not any(
            is_weighted(self.module(other)) or isinstance(self.module(other), self.activations)
            for other in downstream(node)
        )

    def _value(self, node: fx.Node) -> str:
        if node.op == "placeholder":
            return "input"
        module, values = self.module(node), {self.value[source] for source in self.inputs(node)}
        if is_weighted(module):
            self._check_layer(node)
            return "output" if self._is_head(node) else "current"
        function = node.op == "call_function"
        if not values or (function and (operations.is_size(node) or operations.is_fresh(node))):
            return "constant"
        if values == {"input"}:
            return "input"
        if "output" in values:  # no output of a head is read by another layer
            if len(values) > 1:
                others = {"input": "the image", "spike": "spikes", "current": "currents"}
                joined = " and ".join(others[value] for value in sorted(values - {"output"}))
                self.refused.append(
                    f"'{_name(node)}'{_place(node)} joins the network's output and {joined}: "
                    "return them one by one from convolutions or linear layers, and join them outside"
                )
            if isinstance(module, _BatchNorm):
                self._claim(node)
            return "output"
        if isinstance(module, (_BatchNorm, *self.activations)):
            claimed = self._claim(node)
            return "current" if claimed and isinstance(module, _BatchNorm) else "spike"
        if values == {"spike"} and operations.is_spike_pool(module):
            self.pools.append(str(node.target))
            return "spike"
        if not operations.carries(node, module):
            self.refused.append(operations.refusal(node, module))
            return "spike"
        joined_constants = {"constant"} if any(map(self._is_constant_map, node.all_input_nodes)) else set()
        if len(values | joined_constants) > 1:
            self.refused.append(
                f"'{_name(node)}'{_place(node)} joins {' and '.join(sorted(values | joined_constants))}: "
                "put a convolution and an activation on each branch before they meet"
            )
        return "spike" if "spike" in values else values.pop()

    def _is_constant_map(self, node: fx.Node) -> bool:
        """Whether it is a map that does not depend on the image; zeros are spikes that nobody fires, whole
        numbers are places of an index."""
        if self.value[node] != "constant" or node.op == "call_module":
            return False
        if node.op == "get_attr":
            return operator.attrgetter(str(node.target))(self.network).is_floating_point()
        if operations.is_size(node) or operations.function_name(node) in operations.ZEROS:
            return False
        return not node.all_input_nodes or any(map(self._is_constant_map, node.all_input_nodes))

    def _check_layer(self, node: fx.Node) -> None:
        """Refuse a layer with a forward other than its type's, or whose input could not be followed."""
        module, inputs = self.module(node), self.inputs(node)
        assert module is not None
        title = f"module '{node.target}' ({type(module).__name__})"
        if has_own_forward(module, self.activations):
            self.refused.append(f"{title} overrides the forward of torch's layer: use torch's layer itself")
        if not inputs:
            self.refused.append(
                f"{title} reads nothing that could be followed from the image: "
                "give it a tensor computed from the image as its first argument"
            )
        elif any(source.meta["dim0"] != IMAGES for source in inputs):
            self.refused.append(
                f"{title} reads a batch of {inputs[0].meta['dim0']} for {IMAGES} images: "
                "the forward must leave dimension 0 alone, where the spiking network keeps its time steps"
            )
        elif not isinstance(getattr(module, "weight", None), nn.Parameter):
            self.refused.append(
                f"{title} computes its weight anew in each forward: remove the weight or spectral norm first"
            )

    def _source_layer(self, node: fx.Node) -> fx.Node | None:
        """The weighted layer that ``node`` alone reads, through nothing but batch norms and identities."""
        while len(self.inputs(node)) == 1:
            node = self.inputs(node)[0]
            if len(node.users) > 1:
                return None
            if is_weighted(self.module(node)):
                return node
            if not isinstance(self.module(node), (*PASSIVE_MODULES, _BatchNorm)):
                return None
        return None

    def _claim(self, node: fx.Node) -> bool:
        layer, module = self._source_layer(node), self.module(node)
        assert module is not None
        batch_norm, activation = self.claimed.get(layer, (None, None)) if layer else (None, None)
        is_norm = isinstance(module, _BatchNorm)
        title = f"module '{node.target}' ({type(module).__name__})"
        if has_own_forward(module, self.activations):
            self.refused.append(
                f"{title} overrides the forward of torch's layer: use torch's layer itself, "
                "or call register_activation with its type if it equals a ReLU"
            )
        elif layer is None or activation is not None or (is_norm and batch_norm is not None):
            self.refused.append(
                operations.refusal(node, module)
                if is_norm
                else f"activation '{node.target}' must read one convolution or linear layer (with or without "
                "batch normalisation) whose output nothing else reads: put an activation of its own behind "
                "each convolution"
            )
        elif is_norm and getattr(module, "running_mean", None) is None:
            self.refused.append(
                f"{title} has no running statistics to fold: build it with track_running_stats=True"
            )
        else:
            name = str(node.target)
            self.claimed[layer] = (name, None) if is_norm else (batch_norm, name)
            return True
        return False


def _name(node: fx.Node) -> str:
    return operations.function_name(node) if node.op == "call_function" else str(node.target)


def _place(node: fx.Node) -> str:
    return f" ({node.meta['where']})" if node.op == "call_function" else ""


def make_plan(network: GraphNetwork, activations: set[type[nn.Module]]) -> Plan:
    """Find the weighted layers, their batch norms and activations, and everything that has no spiking form.

    :param network: the network
    :param activations: module types that become neurons
    """
    analysis = _Analysis(network, tuple(activations))
    analysis.run()
    return Plan(analysis.plans, list(dict.fromkeys(analysis.refused)), analysis.pools)
