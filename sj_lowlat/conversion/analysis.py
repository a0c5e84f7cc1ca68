"""From a graph to a plan: which layer feeds which activation, and what cannot be converted, and why."""

from __future__ import annotations

import operator
from typing import cast

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sj_lowlat.conversion.plan import LayerPlan, Plan, Sum
from sj_lowlat.graph import IMAGES, operations
from sj_lowlat.graph.edit import upstream
from sj_lowlat.graph.operations import PASSIVE_MODULES, has_own_forward, is_weighted
from sj_lowlat.network import GraphNetwork


class _Analysis:
    """Values are ``input`` (the image and what is computed from it alone), ``current`` (of a weighted layer,
    not yet through an activation), ``spike``, ``output`` (of a head, and what is computed from heads alone)
    and ``constant`` (computed from no image)."""

    def __init__(self, network: GraphNetwork, activations: tuple[type[nn.Module], ...]) -> None:
        self.network, self.activations = network, activations
        self.nodes = list(network.graph.nodes)
        self.inner = self._read_by_layers()
        self.value: dict[fx.Node, str] = {}
        self.refused: list[str] = []
        self.plans: list[LayerPlan] = []
        self.pools: list[str] = []
        self.claimed: dict[fx.Node, tuple[str | None, str | None]] = {}  # weighted -> batch norm, activation
        self.found: list[str] = []
        self.sums: dict[str, Sum] = {}
        self.products: list[str] = []

    def _read_by_layers(self) -> set[fx.Node]:
        """What a weighted layer reads in the end, also through a tensor that something is written into."""
        inner: set[fx.Node] = set()
        for node in self.nodes:
            if is_weighted(self.module(node)):
                inner |= upstream(node)
        for node in self.nodes:
            if operations.writes(node):
                base = node.args[0]
                while isinstance(base, fx.Node) and base.args and isinstance(base.args[0], fx.Node):
                    base = base.args[0]
                inner |= upstream(node) if base in inner else set()
        return inner

    def module(self, node: fx.Node) -> nn.Module | None:
        return self.network.module_of(node)

    def inputs(self, node: fx.Node) -> list[fx.Node]:
        """What it reads that depends on the image."""
        return [source for source in node.all_input_nodes if self.value[source] != "constant"]

    def run(self) -> None:
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
        return node not in self.inner

    def _fires(self, node: fx.Node) -> bool:
        """Whether it is an activation between layers; one behind a head works on the output."""
        return node in self.inner and isinstance(self.module(node), self.activations)

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
        if isinstance(module, _BatchNorm) or self._fires(node):
            claimed = self._claim(node)
            return "current" if claimed and isinstance(module, _BatchNorm) else "spike"
        if values == {"spike"} and operations.is_spike_pool(module):
            self.pools.append(str(node.target))
            return "spike"
        if operations.is_sum(node) and values <= {"spike", "current"}:
            terms = [self.value[term] for term in node.all_input_nodes]
            if "constant" not in terms:
                branches = cast(tuple[fx.Node, ...], node.args)
                self.sums[node.name] = Sum(tuple(self.value[term] == "spike" for term in branches))
                return "current" if "current" in values else "spike"
        if operations.is_product(node) and values == {"spike"}:
            self.products.append(node.name)
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

    def _sources(self, node: fx.Node) -> tuple[list[fx.Node], list[fx.Node]] | None:
        """The weighted layers and the sums that ``node`` alone reads, through nothing but batch norms,
        identities and sums; ``None`` if something else reads one of them, or there is no layer and no sum."""
        layers: list[fx.Node] = []
        sums: list[fx.Node] = []
        stack = self.inputs(node)
        while stack:
            source = stack.pop()
            if source.name in self.sums:
                stack += [term for term in source.args if self.value[term] == "current"]  # type: ignore[index,misc]
                sums.append(source)
            elif is_weighted(self.module(source)):
                layers.append(source)
            elif isinstance(self.module(source), (*PASSIVE_MODULES, _BatchNorm)):
                stack += self.inputs(source)
            else:
                return None
            if len(source.users) > 1:
                return None
        return (layers, sums) if layers or sums else None

    def _claim(self, node: fx.Node) -> bool:
        sources, module = self._sources(node), self.module(node)
        assert module is not None
        layers, sums = sources or ([], [])
        held = [self.claimed.get(layer, (None, None)) for layer in layers]
        batch_norm = next((norm for norm, _ in held if norm), None)
        is_norm = isinstance(module, _BatchNorm)
        title = f"module '{node.target}' ({type(module).__name__})"
        if has_own_forward(module, self.activations):
            self.refused.append(
                f"{title} overrides the forward of torch's layer: use torch's layer itself, "
                "or call register_activation with its type if it equals a ReLU"
            )
        elif (
            sources is None
            or any(activation for _, activation in held)
            or (is_norm and (bool(sums) or batch_norm is not None))
        ):
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
            for layer, (norm, _) in zip(layers, held, strict=True):
                self.claimed[layer] = (name, None) if is_norm else (norm, name)
            for branches in sums:
                self.sums[branches.name].activation = name
            self.found += [] if is_norm else [name]
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
    refused = list(dict.fromkeys(analysis.refused))
    return Plan(analysis.plans, analysis.found, refused, analysis.pools, analysis.sums, analysis.products)
