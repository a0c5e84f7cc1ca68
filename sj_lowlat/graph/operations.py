"""Which operations spikes can pass unchanged, and the remedy for all others: a table of modules and one of
functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from sj_lowlat.errors import InputError
from sj_lowlat.layers import QuantReLU, RateNorm, SameMaxPool, Symmetric


@dataclass(frozen=True)
class Operation:
    """One row: an operation between layers.

    :param carries: whether it passes spikes on as spikes (or averages of them), channel by channel; or a
        predicate, which gets a module or, for a function, its node
    :param remedy: what to do where it does not, for the error
    """

    carries: bool | Callable[[fx.Node], bool]
    remedy: str = ""


_CARRY = Operation(True)
_TO_CONVOLUTION = "run replace_layers first if it is an activation, else write it as convolutions"
_POOL_BEHIND = (
    "a max-pool can count spikes only behind activations, and as torch's own layer that returns "
    "values and no indices; move it there, or run replace_layers first"
)

#: in eval mode they do nothing
PASSIVE_MODULES: tuple[type[nn.Module], ...] = (
    nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d,
)  # fmt: skip
#: max-pools that can count spikes (:class:`~sj_lowlat.layers.SpikeMaxPool`)
MAX_POOLS: tuple[type[nn.Module], ...] = (
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d,
    nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
)  # fmt: skip

#: module type -> its row; for a type that is not here, that of the first of its bases that is
MODULES: dict[type[nn.Module], Operation] = {
    **dict.fromkeys(
        (
            *PASSIVE_MODULES, nn.Flatten, nn.Unflatten, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
            nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.ZeroPad1d, nn.ZeroPad2d,
            nn.ZeroPad3d, nn.ReplicationPad2d, nn.ReflectionPad2d, nn.PixelShuffle, nn.PixelUnshuffle,
            nn.ChannelShuffle, nn.UpsamplingNearest2d,
        ),
        _CARRY,
    ),
    **dict.fromkeys(MAX_POOLS, Operation(False, _POOL_BEHIND)),
    nn.Upsample: Operation(
        lambda module: str(module.mode).startswith("nearest"),  # type: ignore[attr-defined]
        "run replace_layers first",
    ),
    _BatchNorm: Operation(
        False,
        "a batch normalisation is folded only into the convolution right before it, "
        "which nothing else may read; move it there",
    ),
    **dict.fromkeys(
        (nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.LocalResponseNorm),
        Operation(
            False,
            "it divides by statistics of the image itself, which no weights can hold; train the network with "
            "batch normalisation",
        ),
    ),
    nn.MultiheadAttention: Operation(False, "attention has no spiking form here"),
    nn.Module: Operation(False, _TO_CONVOLUTION),
}  # fmt: skip

_ADDS = Operation(
    False,
    "which adds something else than two branches: write numbers as the bias of a convolution",
)
_POOLS = Operation(
    False, "make it a module (self.pool = nn.MaxPool2d(...), one for each call) so that it can count spikes"
)
_INTERPOLATES = Operation(
    False, "make it self.up = nn.Upsample(..., mode='nearest') or a transposed convolution"
)


def _pads_with_zeros(node: fx.Node) -> bool:
    mode = node.args[2] if len(node.args) > 2 else "constant"
    return bool(mode != "constant" or not (node.args[3] if len(node.args) > 3 else 0))


#: name of an ATen function (without its overload) or of ``operator`` -> its row
FUNCTIONS: dict[str, Operation] = {
    **dict.fromkeys(
        (
            "cat", "view", "reshape", "flatten", "unflatten", "permute", "transpose", "movedim",
            "contiguous", "clone", "detach", "alias", "to", "_to_copy", "chunk", "split",
            "split_with_sizes", "tensor_split", "narrow", "slice", "index", "index_select", "select",
            "unbind", "getitem", "squeeze", "unsqueeze", "mean", "avg_pool1d", "avg_pool2d", "avg_pool3d",
            "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "pixel_shuffle",
            "pixel_unshuffle", "channel_shuffle", "roll", "flip",
            "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "_upsample_nearest_exact1d",
            "_upsample_nearest_exact2d", "_upsample_nearest_exact3d", "lift_fresh_copy",
        ),
        _CARRY,
    ),
    **dict.fromkeys(
        ("dropout", "dropout_", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"),
        Operation(
            lambda node: len(node.args) > 2 and not node.args[2],
            "it drops values in eval mode as well: pass training=self.training, or make it a module",
        ),
    ),
    "pad": Operation(_pads_with_zeros, "pad with zeros, or in front of the first layer"),
    "constant_pad_nd": Operation(
        lambda node: len(node.args) < 3 or not node.args[2], "pad with zeros, or in front of the first layer"
    ),
    **dict.fromkeys(("add", "add_", "sum"), _ADDS),
    **dict.fromkeys(
        ("max_pool1d", "max_pool2d", "max_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices",
         "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "amax", "max"),
        _POOLS,
    ),
    **dict.fromkeys(
        ("upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d",
         "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"),
        _INTERPOLATES,
    ),
}  # fmt: skip
_AS_FUNCTION = Operation(
    False,
    "make it a module (self.conv = nn.Conv2d(...), one for each call), kept in nn.ModuleList or "
    "nn.ModuleDict and not in a plain list or dictionary",
)
FUNCTIONS |= dict.fromkeys(
    ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "linear",
     "batch_norm"),
    _AS_FUNCTION,
)  # fmt: skip
_OTHER = Operation(
    False,
    "if it is an activation, make it a module (self.act = nn.ReLU(), one for each call); "
    "other operations on spikes have no spiking form",
)
# functions of zeros, which are spikes that nobody fires
ZEROS = {"zeros", "new_zeros", "zeros_like"}
_FRESH = ("new_", "zeros", "ones", "full", "empty", "rand", "arange", "linspace", "scalar_tensor")
# what users write for a function
_WRITTEN = {"copy_": "__setitem__", **{name: "interpolate" for name in FUNCTIONS if "upsample" in name}}

#: childless modules that become one node though they don't derive from a layer of torch.nn
LEAF_TYPES: set[type[nn.Module]] = {QuantReLU, RateNorm, Symmetric}


def register_operation(what: type[nn.Module] | str, operation: Operation) -> None:
    """Register an operation between layers for ``prepare`` and ``convert``.

    :param what: a module type, whose modules then become one node of the graph each; or the name of an ATen
        function, such as ``"narrow"``
    :param operation: its row. One that carries must be linear (its output for a sum of inputs is the sum of
        its outputs), with one scale per input channel giving one scale per output channel
    :raises InputError: for anything else than a type or a name
    """
    if isinstance(what, str):
        FUNCTIONS[what] = operation
    elif isinstance(what, type) and issubclass(what, nn.Module):
        MODULES[what] = operation
        LEAF_TYPES.add(what)
    else:
        raise InputError(f"what is {what!r}; give a module type, or the name of an ATen function")


def is_leaf(module: nn.Module) -> bool:
    """Whether a module becomes one node: torch's own layers do; capture looks into containers and the user's
    modules."""
    if list(module.children()):
        return False
    bases = (base for base in type(module).__mro__ if base is not nn.Module)
    return any(base in LEAF_TYPES or base.__module__.startswith("torch.nn.modules.") for base in bases)


def is_weighted(module: Any) -> TypeGuard[_ConvNd | nn.Linear]:
    """Convolutions (plain and transposed) and linear layers."""
    return isinstance(module, (_ConvNd, nn.Linear))


def has_own_forward(module: nn.Module, known: tuple[type[nn.Module], ...] = ()) -> bool:
    """Whether a module derives from a layer of torch.nn but computes something of its own.

    :param module: the module
    :param known: further types whose forward is known
    """
    forward = type(module).forward
    own = not forward.__module__.startswith("torch.nn.modules.")
    return own and all(forward is not kind.forward for kind in known)


def is_sum(node: fx.Node) -> bool:
    """Whether a node adds two tensors."""
    return _joins_two(node, "add")


def is_product(node: fx.Node) -> bool:
    """Whether a node multiplies two tensors."""
    return _joins_two(node, "mul")


def _joins_two(node: fx.Node, name: str) -> bool:
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return False  # sizes are added by Python's operator
    two = len(node.args) == 2 and all(isinstance(term, fx.Node) for term in node.args)
    return two and not node.kwargs and function_name(node) == name


def is_spike_pool(module: nn.Module | None) -> bool:
    """Whether it is a max-pool that :class:`~sj_lowlat.layers.SpikeMaxPool` can stand for."""
    return (
        isinstance(module, MAX_POOLS)
        and not has_own_forward(module, (SameMaxPool,))
        and not module.return_indices
    )


def function_name(node: fx.Node) -> str:
    """Name of a function's node without namespace and overload."""
    schema = getattr(node.target, "_schema", None)
    if schema is not None:
        return str(schema.name).split("::")[1]
    return getattr(node.target, "__name__", str(node.target))


def is_size(node: fx.Node) -> bool:
    """Whether a node computes with sizes and not with tensors."""
    if isinstance(node.target, torch._ops.OpOverload):
        return function_name(node).startswith("sym_")
    return function_name(node) != "getitem"


def writes(node: fx.Node) -> bool:
    """Whether a function changes one of its arguments."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and bool(schema.is_mutable)


def is_fresh(node: fx.Node) -> bool:
    """Whether a function reads the shape of a tensor and not its values."""
    return function_name(node).startswith(_FRESH) and not function_name(node).endswith("_")


def _row(module: nn.Module) -> Operation:
    return next(MODULES[base] for base in type(module).__mro__ if base in MODULES)


def carries(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node passes spikes on as spikes (or averages of spikes).

    :param node: a call
    :param module: the module that is called; ``None`` for a function
    """
    if module is None:
        row = FUNCTIONS.get(function_name(node), _OTHER)
        return row.carries if isinstance(row.carries, bool) else row.carries(node)
    row = _row(module)
    held = row.carries if isinstance(row.carries, bool) else row.carries(module)  # type: ignore[arg-type]
    return held and (type(module) in MODULES or not has_own_forward(module))


def place(node: fx.Node) -> str:
    """Where a function is called: module, file and line."""
    owner = repr(node.meta["owner"]) if node.meta.get("owner") else "the network"
    name = function_name(node)
    return f"the forward of {owner} ({node.meta.get('where', '?')}) calls {_WRITTEN.get(name, name)}"


def refusal(node: fx.Node, module: nn.Module | None) -> str:
    """The sentence for an operation that has no spiking form: where it is, and what to do."""
    if module is not None:
        return f"module '{node.target}' ({type(module).__name__}) has no spiking form: {_row(module).remedy}"
    row = FUNCTIONS.get(function_name(node), _OTHER)
    if row is _ADDS:
        return f"{place(node)}, {row.remedy}"
    if row is _INTERPOLATES:
        return f"{place(node)} with a mode other than nearest: {row.remedy}"
    return f"{place(node)}: {row.remedy}"
