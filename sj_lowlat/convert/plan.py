"""From a trace to a plan: which layer feeds which activation, and what cannot be converted, with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from sj_lowlat.convert.trace import Node, Trace

# operations that hand on values of 0 and 1 channel by channel (or average them), so that spikes stay rates
CARRY_MODULES: tuple[type[nn.Module], ...] = (
    nn.Identity, nn.Flatten, nn.Unflatten, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ReplicationPad2d,
    nn.ReflectionPad2d, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle, nn.UpsamplingNearest2d,
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d,
)  # fmt: skip
CARRY_FUNCTIONS = {
    "cat", "concat", "concatenate", "view", "view_as", "reshape", "flatten", "unflatten", "permute", "transpose",
    "movedim", "contiguous", "clone", "detach", "to", "float", "double", "half", "bfloat16", "chunk", "split",
    "tensor_split", "narrow", "index_select", "select", "unbind", "__getitem__", "squeeze", "unsqueeze", "mean",
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
    "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "roll", "flip", "_adaptive_avg_pool2d", "__get__",
    "dropout", "dropout2d",
}  # fmt: skip
_REPLACEABLE = {"max_pool1d", "max_pool2d", "max_pool2d_with_indices", "boolean_dispatch", "fn", "amax", "max"}
_SUMS = {"add", "add_", "__add__", "__iadd__", "__radd__", "sum", "stack"}


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


def is_weighted(module: nn.Module | None) -> bool:
    """Convolutions (plain and transposed) and linear layers."""
    return isinstance(module, (_ConvNd, nn.Linear))


def _is_nearest(node: Node) -> bool:
    if node.kind == "module":
        return isinstance(node.module, nn.Upsample) and node.module.mode == "nearest"
    if node.name != "interpolate":
        return False
    _, args, kwargs = node.call
    return (kwargs.get("mode") or (args[3] if len(args) > 3 else "nearest")) == "nearest"


def _is_zero_pad(node: Node) -> bool:
    if node.name != "pad":
        return False
    _, args, kwargs = node.call
    mode = kwargs.get("mode") or (args[2] if len(args) > 2 else "constant")
    value = kwargs.get("value") or (args[3] if len(args) > 3 else 0)
    return mode != "constant" or not value


def is_carry(node: Node) -> bool:
    """Whether an operation hands spikes on as spikes (or averages of spikes)."""
    if node.kind == "module":
        return isinstance(node.module, CARRY_MODULES) or _is_nearest(node)
    return node.name in CARRY_FUNCTIONS or _is_nearest(node) or _is_zero_pad(node)


def _refusal(node: Node) -> str:
    if node.kind == "module":
        kind = type(node.module).__name__
        if isinstance(node.module, (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.Upsample)):
            remedy = "run replace_layers first"
        elif isinstance(node.module, _BatchNorm):
            remedy = "a batch normalisation is folded only into the convolution right before it, which nothing else may read"
        else:
            remedy = "run replace_layers first if it is an activation, else write it as convolutions"
        return f"module '{node.name}' ({kind}) has no spiking form: {remedy}"
    place = f"the forward of '{node.owner or 'the network'}' ({node.where}) calls {node.name}"
    if node.name in _SUMS:
        return (
            f"{place}, which adds branches of different scale: write the sum as one convolution over torch.cat of the branches"
        )
    if node.name in _REPLACEABLE:
        return f"{place}: make it a module (self.pool = nn.MaxPool2d(...), one for each call) so that replace_layers finds it"
    if node.name == "interpolate":
        return (
            f"{place} with a mode other than nearest: make it self.up = nn.Upsample(..., mode='nearest') "
            "or a transposed convolution"
        )
    return (
        f"{place}: if it is an activation, make it a module (self.act = nn.ReLU(), one for each call); "
        "other operations on spikes have no spiking form"
    )


class _Analysis:
    """Values are ``input`` (the image and what is computed from it alone), ``current`` (of a weighted layer, not yet
    through an activation) or ``spike``."""

    def __init__(self, trace: Trace, activations: tuple[type[nn.Module], ...]) -> None:
        self.trace = trace
        self.activations = activations
        self.value: dict[int, str] = {}
        self.refused: list[str] = []
        self.plans: list[LayerPlan] = []
        self.claimed: dict[int, tuple[str | None, str | None]] = {}  # weighted node -> batch norm, activation

    def run(self) -> None:
        calls = Counter(node.name for node in self.trace.nodes if node.kind == "module")
        for name, count in calls.items():
            module = next(node.module for node in self.trace.nodes if node.name == name)
            if count > 1 and (is_weighted(module) or isinstance(module, (*self.activations, _BatchNorm))):
                self.refused.append(
                    f"module '{name}' ({type(module).__name__}) is called {count} times in one forward: "
                    "give each call a module of its own, because each needs its own state and scale"
                )
        for node in self.trace.nodes:
            self.value[id(node)] = self._value(node)
        for node in self.trace.nodes:
            if node.kind == "module" and is_weighted(node.module):
                batch_norm, activation = self.claimed.get(id(node), (None, None))
                reads = {self.value[id(source)] for source in node.inputs}
                self.plans.append(
                    LayerPlan(node.name, batch_norm, activation, self._is_head(node), reads == {"input"})
                )

    def _is_head(self, node: Node) -> bool:
        return not any(is_weighted(n.module) or isinstance(n.module, self.activations) for n in self.trace.downstream(node))

    def _after_heads(self, node: Node) -> bool:
        """Whether only read-outs reach this node, so that it acts on the network's output."""
        inputs = [source for source in node.inputs if self.value[id(source)] != "input"]
        return bool(inputs) and self._is_head(node) and all(self.value[id(source)] == "output" for source in inputs)

    def _value(self, node: Node) -> str:
        if node.kind == "input":
            return "input"
        values = {self.value[id(source)] for source in node.inputs}
        if is_weighted(node.module):
            return "output" if self._is_head(node) else "current"
        if values <= {"input"}:
            return "input"
        if self._after_heads(node):
            if isinstance(node.module, _BatchNorm):
                self._claim(node)
            return "output"
        if isinstance(node.module, _BatchNorm) or isinstance(node.module, self.activations):
            if not self._claim(node):
                return "spike"
            return "spike" if isinstance(node.module, self.activations) else "current"
        if not is_carry(node):
            self.refused.append(_refusal(node))
            return "spike"
        if len(values) > 1:
            self.refused.append(
                f"{node.name} ({node.where or node.name}) joins {' and '.join(sorted(values))}: "
                "put a convolution and an activation on each branch before they meet"
            )
        return "spike" if "spike" in values else values.pop()

    def _source_layer(self, node: Node) -> Node | None:
        """The weighted layer that ``node`` reads, through nothing but identities, unfolded batch norms aside."""
        while len(node.inputs) == 1:
            node = node.inputs[0]
            if len(node.users) > 1:
                return None
            if is_weighted(node.module):
                return node
            if not isinstance(node.module, (nn.Identity, nn.Dropout, nn.Dropout2d, _BatchNorm)):
                return None
        return None

    def _claim(self, node: Node) -> bool:
        layer = self._source_layer(node)
        batch_norm, activation = self.claimed.get(id(layer), (None, None))
        is_norm = isinstance(node.module, _BatchNorm)
        if layer is None or activation is not None or (is_norm and batch_norm is not None):
            if is_norm:
                self.refused.append(_refusal(node))
            else:
                self.refused.append(
                    f"activation '{node.name}' must read one convolution or linear layer (with or without batch "
                    "normalisation) whose output nothing else reads: put an activation of its own behind each convolution"
                )
            return False
        self.claimed[id(layer)] = (node.name, None) if is_norm else (batch_norm, node.name)
        return True


def make_plan(
    trace: Trace, activations: Collection[type[nn.Module]]
) -> tuple[list[LayerPlan], list[str]]:
    """Find the weighted layers, their batch norms and activations, and everything that has no spiking form.

    :param trace: the watched forward pass
    :param activations: module types that become neurons
    :return: the layers in the order of their calls, and sentences that say what is refused, why, and the remedy
    """
    analysis = _Analysis(trace, tuple(activations))
    analysis.run()
    silent = [n for n in trace.outputs if analysis.value[id(n)] == "spike"]
    refused: list[Any] = list(dict.fromkeys(analysis.refused))
    if silent and not refused:
        refused.append(
            f"the network returns the activation '{silent[0].name}' itself: end it with a convolution or linear layer, "
            "which reads the firing rates"
        )
    return analysis.plans, refused
