"""From a trace to a plan: which layer feeds which activation, and what cannot be converted and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sj_lowlat.conversion.operations import (
    MAX_POOLS,
    PASSIVE_MODULES,
    has_own_forward,
    is_carry,
    is_spike_pool,
    is_weighted,
    refusal,
)
from sj_lowlat.conversion.trace import TRACED_IMAGES, Node, Trace


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
    """What becomes of a network.

    :param layers: the weighted layers in the order of their calls
    :param refused: sentences that say what has no spiking form, why, and the remedy
    :param pools: names of the max-pools that count spikes
    """

    layers: list[LayerPlan]
    refused: list[str]
    pools: list[str]


class _Analysis:
    """Values are ``input`` (the image and what is computed from it alone), ``current`` (of a weighted layer,
    not yet through an activation), ``spike`` and ``output`` (of a head, and what is computed from heads
    alone)."""

    def __init__(self, trace: Trace, activations: tuple[type[nn.Module], ...]) -> None:
        self.trace = trace
        self.activations = activations
        self.value: dict[int, str] = {}
        self.refused: list[str] = []
        self.plans: list[LayerPlan] = []
        self.pools: list[str] = []
        self.claimed: dict[int, tuple[str | None, str | None]] = {}  # weighted node -> batch norm, activation

    def run(self) -> None:
        self._refuse_repeated_calls()
        for node in self.trace.nodes:
            self.value[id(node)] = self._value(node)
        for node in self.trace.modules:
            if is_weighted(node.module):
                batch_norm, activation = self.claimed.get(id(node), (None, None))
                reads = {self.value[id(source)] for source in node.inputs}
                self.plans.append(
                    LayerPlan(node.name, batch_norm, activation, self._is_head(node), reads == {"input"})
                )
        self._check_outputs()

    def _refuse_repeated_calls(self) -> None:
        modules = {node.name: node.module for node in self.trace.modules}
        for name, count in Counter(node.name for node in self.trace.modules).items():
            module = modules[name]
            stateful = is_weighted(module) or isinstance(module, (*self.activations, *MAX_POOLS, _BatchNorm))
            if count > 1 and stateful:
                self.refused.append(
                    f"module '{name}' ({type(module).__name__}) is called {count} times in one forward: "
                    "give each call a module of its own, because each needs its own state and scale"
                )

    def _check_outputs(self) -> None:
        for node in self.trace.outputs:
            value = self.value[id(node)]
            if value == "spike" and not self.refused:  # after a refusal values are guesses
                self.refused.append(
                    f"the network returns the activation '{node.name}' itself: "
                    "end it with a convolution or linear layer, which reads the firing rates"
                )
            elif value == "current":
                self.refused.append(
                    f"the network returns '{node.name}', which goes on into other layers: "
                    "give the output a convolution or linear layer of its own"
                )
            elif value == "input":
                self.refused.append(
                    f"the network returns '{node.name}', which no layer has computed: return the heads only"
                )
            elif node.batch != TRACED_IMAGES:
                self.refused.append(
                    f"the network returns '{node.name}' with dimension 0 of size {node.batch} for "
                    f"{TRACED_IMAGES} images: leave dimension 0 to the images, to tell read-outs apart"
                )
        if not self.trace.outputs:
            self.refused.append(
                "the network returns nothing that could be followed from the image: return a tensor, "
                "or a tuple, list or dictionary of tensors"
            )

    def _is_head(self, node: Node) -> bool:
        return not any(
            is_weighted(other.module) or isinstance(other.module, self.activations)
            for other in self.trace.downstream(node)
        )

    def _value(self, node: Node) -> str:
        if node.kind == "input":
            return "input"
        values = {self.value[id(source)] for source in node.inputs}
        if is_weighted(node.module):
            self._check_layer(node)
            return "output" if self._is_head(node) else "current"
        if values <= {"input"}:
            return "input"
        if "output" in values:  # nothing that a head computes meets a layer again
            if len(values) > 1:
                others = {"input": "the image", "spike": "spikes", "current": "currents"}
                joined = " and ".join(others[value] for value in sorted(values - {"output"}))
                self.refused.append(
                    f"'{node.name}'{_place(node)} joins the network's output and {joined}: "
                    "return them one by one from convolutions or linear layers, and join them outside"
                )
            if isinstance(node.module, _BatchNorm):
                self._claim(node)
            return "output"
        if isinstance(node.module, (_BatchNorm, *self.activations)):
            claimed = self._claim(node)
            return "current" if claimed and isinstance(node.module, _BatchNorm) else "spike"
        if values == {"spike"} and is_spike_pool(node):
            self.pools.append(node.name)
            return "spike"
        if not is_carry(node):
            self.refused.append(refusal(node))
            return "spike"
        if len(values) > 1:
            self.refused.append(
                f"'{node.name}'{_place(node)} joins {' and '.join(sorted(values))}: "
                "put a convolution and an activation on each branch before they meet"
            )
        return "spike" if "spike" in values else values.pop()

    def _check_layer(self, node: Node) -> None:
        """Refuse a layer that is not what its type says, or that reads what could not be followed."""
        title = f"module '{node.name}' ({type(node.module).__name__})"
        if has_own_forward(node.module, self.activations):
            self.refused.append(f"{title} overrides the forward of torch's layer: use torch's layer itself")
        if not node.inputs:
            self.refused.append(
                f"{title} reads nothing that could be followed from the image: "
                "give it a tensor computed from the image as its first argument"
            )
        elif any(source.batch != TRACED_IMAGES for source in node.inputs):
            self.refused.append(
                f"{title} reads a batch of {node.inputs[0].batch} for {TRACED_IMAGES} images: "
                "the forward must leave dimension 0 alone, where the spiking network keeps its time steps"
            )
        elif not isinstance(getattr(node.module, "weight", None), nn.Parameter):
            self.refused.append(
                f"{title} computes its weight anew in each forward: remove the weight or spectral norm first"
            )

    def _source_layer(self, node: Node) -> Node | None:
        """The weighted layer that ``node`` alone reads, through nothing but batch norms and identities."""
        while len(node.inputs) == 1:
            node = node.inputs[0]
            if len(node.users) > 1:
                return None
            if is_weighted(node.module):
                return node
            if not isinstance(node.module, (*PASSIVE_MODULES, _BatchNorm)):
                return None
        return None

    def _claim(self, node: Node) -> bool:
        layer = self._source_layer(node)
        batch_norm, activation = self.claimed.get(id(layer), (None, None))
        is_norm = isinstance(node.module, _BatchNorm)
        title = f"module '{node.name}' ({type(node.module).__name__})"
        if has_own_forward(node.module, self.activations):
            self.refused.append(
                f"{title} overrides the forward of torch's layer: use torch's layer itself, "
                "or call register_activation with its type if it equals a ReLU"
            )
        elif layer is None or activation is not None or (is_norm and batch_norm is not None):
            self.refused.append(
                refusal(node)
                if is_norm
                else f"activation '{node.name}' must read one convolution or linear layer (with or without "
                "batch normalisation) whose output nothing else reads: put an activation of its own behind "
                "each convolution"
            )
        elif is_norm and getattr(node.module, "running_mean", None) is None:
            self.refused.append(
                f"{title} has no running statistics to fold: build it with track_running_stats=True"
            )
        else:
            self.claimed[id(layer)] = (node.name, None) if is_norm else (batch_norm, node.name)
            return True
        return False


def _place(node: Node) -> str:
    return f" ({node.where})" if node.where else ""


def make_plan(trace: Trace, activations: Collection[type[nn.Module]]) -> Plan:
    """Find the weighted layers, their batch norms and activations, and everything that has no spiking form.

    :param trace: the watched forward pass
    :param activations: module types that become neurons
    """
    analysis = _Analysis(trace, tuple(activations))
    analysis.run()
    return Plan(analysis.plans, list(dict.fromkeys(analysis.refused)), analysis.pools)
