"""Which operations spikes can pass as they are, and what to say about the others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeGuard

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from sj_lowlat.conversion.trace import Node
from sj_lowlat.models.darknet_layers import SameMaxPool

#: in eval mode they do nothing
PASSIVE_MODULES: tuple[type[nn.Module], ...] = (
    nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d,
)  # fmt: skip
# operations that hand on values of 0 and 1 channel by channel (or average them), so that spikes stay rates
_CARRY_MODULES: tuple[type[nn.Module], ...] = (
    *PASSIVE_MODULES, nn.Flatten, nn.Unflatten, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.ZeroPad1d, nn.ZeroPad2d,
    nn.ZeroPad3d, nn.ReplicationPad2d, nn.ReflectionPad2d, nn.PixelShuffle, nn.PixelUnshuffle,
    nn.ChannelShuffle,
)  # fmt: skip
_CARRY_FUNCTIONS = {
    "cat", "concat", "concatenate", "view", "view_as", "reshape", "flatten", "unflatten", "permute",
    "transpose", "movedim", "contiguous", "clone", "detach", "to", "float", "double", "half", "bfloat16",
    "chunk", "split", "tensor_split", "narrow", "index_select", "select", "unbind", "__getitem__",
    "squeeze", "unsqueeze", "mean", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d",
    "adaptive_avg_pool2d", "adaptive_avg_pool3d", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle",
    "roll", "flip", "__get__", "dropout", "dropout2d",
}  # fmt: skip
#: max-pools that can count spikes (:class:`~sj_lowlat.layers.SpikeMaxPool`)
MAX_POOLS: tuple[type[nn.Module], ...] = (
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d,
    nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
)  # fmt: skip
_POOLS = {"max_pool1d", "max_pool2d", "max_pool2d_with_indices", "boolean_dispatch", "fn", "amax", "max"}
_SUMS = {"add", "add_", "__add__", "__iadd__", "__radd__", "sum"}


def is_weighted(module: nn.Module | None) -> TypeGuard[_ConvNd | nn.Linear]:
    """Convolutions (plain and transposed) and linear layers."""
    return isinstance(module, (_ConvNd, nn.Linear))


def has_own_forward(module: nn.Module | None, known: Iterable[type[nn.Module]] = ()) -> bool:
    """Whether a module derives from a layer of torch.nn but computes something of its own.

    :param module: the module
    :param known: further types whose forward is known
    """
    forward = type(module).forward  # type: ignore[union-attr]
    own = not forward.__module__.startswith("torch.nn.modules.")
    return own and all(forward is not kind.forward for kind in known)


def _is_nearest(node: Node) -> bool:
    if node.kind == "module":
        return isinstance(node.module, nn.Upsample) and node.module.mode.startswith("nearest")
    if node.name != "interpolate":
        return False
    _, args, kwargs = node.call
    return str(kwargs.get("mode") or (args[3] if len(args) > 3 else "nearest")).startswith("nearest")


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
        # an empty container stands for the identity in many residual networks
        carries = isinstance(node.module, (*_CARRY_MODULES, nn.Sequential)) or _is_nearest(node)
        return carries and not has_own_forward(node.module)
    return node.name in _CARRY_FUNCTIONS or _is_nearest(node) or _is_zero_pad(node)


def is_spike_pool(node: Node) -> bool:
    """Whether a node is a max-pool that :class:`~sj_lowlat.layers.SpikeMaxPool` can stand for."""
    return (
        isinstance(node.module, MAX_POOLS)
        and not has_own_forward(node.module, (SameMaxPool,))
        and not node.module.return_indices
    )


def place(node: Node) -> str:
    """Where a function is called: module, file and line."""
    owner = repr(node.owner) if node.owner else "the network"
    return f"the forward of {owner} ({node.where}) calls {node.name}"


def refusal(node: Node) -> str:
    """The sentence for an operation that has no spiking form: where it is, and what to do."""
    if node.kind == "module":
        if isinstance(node.module, nn.Upsample):
            remedy = "run replace_layers first"
        elif isinstance(node.module, MAX_POOLS):
            remedy = (
                "a max-pool can count spikes only behind activations, and as torch's own layer that returns "
                "values and no indices; move it there, or run replace_layers first"
            )
        elif isinstance(node.module, _BatchNorm):
            remedy = (
                "a batch normalisation is folded only into the convolution right before it, "
                "which nothing else may read; move it there"
            )
        else:
            remedy = "run replace_layers first if it is an activation, else write it as convolutions"
        return f"module '{node.name}' ({type(node.module).__name__}) has no spiking form: {remedy}"
    where = place(node)
    if node.name in _SUMS:
        return (
            f"{where}, which adds branches of different scale: "
            "write the sum as one convolution over torch.cat of the branches"
        )
    if node.name in _POOLS:
        return (
            f"{where}: make it a module (self.pool = nn.MaxPool2d(...), one for each call) "
            "so that it can count spikes"
        )
    if node.name == "interpolate":
        return (
            f"{where} with a mode other than nearest: make it self.up = nn.Upsample(..., mode='nearest') "
            "or a transposed convolution"
        )
    return (
        f"{where}: if it is an activation, make it a module (self.act = nn.ReLU(), one for each call); "
        "other operations on spikes have no spiking form"
    )
