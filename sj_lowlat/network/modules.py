"""Layers as rows that JSON can hold, and back; nothing but layers of torch.nn and of this package is made."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from sj_lowlat import layers
from sj_lowlat.errors import FOREIGN, InputError
from sj_lowlat.graph.operations import LEAF_TYPES

_MOST_CHANNELS = 2**16  # of a layer of this package, which takes memory before its values are there
_STACKS = (nn.RNNBase, nn.Transformer)
_CONTAINERS = {kind.__name__: kind for kind in (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.Module)}
# layers that are made around another one, their only child
_AROUND: dict[str, Callable[[nn.Module], nn.Module]] = {
    "RateReadout": layers.RateReadout, "SpikeMaxPool": layers.SpikeMaxPool,
    "RateGatedMaxPool": layers.RateGatedMaxPool,
}  # fmt: skip
_NEURONS: dict[str, type[layers.LowLatencyIFNode]] = {
    kind.__name__: kind
    for kind in (
        layers.ResidualFixIFNode,
        layers.SignedIFNode,
        layers.ImbalancedIFNode,
        layers.MultiThresholdIFNode,
        layers.DifferentialIFNode,
        layers.HardResetIFNode,
        layers.SRPIFNode,
        layers.COSIFNode,
    )
}
_OWN: dict[str, Callable[..., nn.Module]] = {
    **_NEURONS,
    "QuantReLU": layers.QuantReLU,
    "RateNorm": layers.RateNorm,
    "SameMaxPool": layers.SameMaxPool,
    "Symmetric": layers.Symmetric,
    "QuantPointwise": layers.QuantPointwise,
    "PointwiseIFNode": layers.PointwiseIFNode,
    "SpikeProduct": layers.SpikeProduct,
    "BranchSum": layers.BranchSum,
    "Int8Conv2d": lambda **args: layers.Int8Conv2d(nn.Conv2d(**args, device="meta")),
}


def module_rows(network: nn.Module) -> list[dict[str, Any]]:
    """One row per submodule, parents first: its name, its type, and the arguments that make it anew.

    A module of several names has one row, and one for each further name that says ``same``.

    :param network: its modules are containers and layers of ``torch.nn`` and of this package
    :raises InputError: for a layer of another kind
    """
    rows: list[dict[str, Any]] = []
    seen: dict[int, str] = {}
    inside: tuple[str, ...] = ("\0",)  # prefixes of names below a module whose row tells all
    for name, module in network.named_modules(remove_duplicate=False):
        if name.startswith(inside):
            continue
        if id(module) in seen:
            rows.append({"name": name, "same": seen[id(module)]})
            inside += (f"{name}.",)
        else:
            seen[id(module)] = name
            rows.append({"name": name, "type": _kind(module).__name__, **_arguments(name, module)})
            whole = isinstance(module, (layers.LowLatencyIFNode, layers.QuantPointwise))
            inside += (f"{name}.",) if whole else ()
    return rows


def _kind(module: nn.Module) -> type[nn.Module]:
    """Its type; of a synapse that of the layer of ``torch.nn`` (the network connects its layers anew)."""
    kinds = type(module).__mro__
    if isinstance(module, layers.Synapse) and not isinstance(module, layers.Int8Conv2d):
        return next(kind for kind in kinds if getattr(nn, kind.__name__, None) is kind)
    return kinds[0]


def _arguments(name: str, module: nn.Module) -> dict[str, Any]:
    kind: Any = _kind(module)
    if not name or kind in _CONTAINERS.values():
        tensors = [*module._parameters.items(), *module._buffers.items()]
        shapes = {key: [*value.shape] for key, value in tensors if value is not None}
        kept = {"parameters": [key for key in module._parameters if key in shapes], "shapes": shapes}
        return kept if shapes else {}
    if kind.__name__ in _AROUND:
        return {}
    if isinstance(module, layers.PointwiseIFNode):
        args = {
            key: getattr(module, key) for key in ("step_mode", "detach_reset", "burst", "max_count", "levels")
        }
        args |= {"v_threshold": module.threshold.tolist(), "scale": module.scale.tolist()}
        args |= {"powers": True} if module.powers else {}
        args |= {"headroom": module.headroom} if module.headroom > 1 else {}
        return {"args": args | {"fn": _function_row(name, module.fn)}, **_spikes(module)}
    if isinstance(module, layers.QuantPointwise):
        channels = len(module.clip_raw) if module.clip_raw.dim() else None
        return {"args": {"fn": _function_row(name, module.fn), "levels": module.levels, "channels": channels}}
    if isinstance(module, layers.SpikeProduct):
        return {"args": {"levels": module.levels}}
    if isinstance(module, layers.LowLatencyIFNode):
        args = {"v_threshold": module.threshold.tolist(), "ratio": module.ratio.tolist()}
        for key in ("step_mode", "detach_reset", "burst", "slope", "max_count"):
            args |= {key: getattr(module, key)} if hasattr(module, key) else {}
        args |= {"powers": True} if module.powers else {}
        args |= {"headroom": module.headroom} if module.headroom > 1 else {}
        return {"args": args, **_spikes(module)}
    if isinstance(module, layers.QuantReLU):
        channels = len(module.clip_raw) if module.clip_raw.dim() else None
        return {"args": {"levels": module.levels, "channels": channels, "slope": module.slope}}
    if isinstance(module, layers.SameMaxPool):
        size, stride, padding = module.kernel_size, module.stride, module.before + module.after
        return {"args": {"size": size, "stride": stride, "padding": padding}}
    if isinstance(module, layers.BranchSum):
        return {"args": {"shapes": module.shapes, "spikes": list(module.spikes)}}
    if isinstance(module, (layers.Symmetric, layers.RateNorm)):
        return {}
    if isinstance(module, layers.Int8Conv2d):
        kind = nn.Conv2d
    elif getattr(nn, kind.__name__, None) is not kind and kind not in LEAF_TYPES:
        raise InputError(
            f"module '{name}' ({kind.__module__}.{kind.__qualname__}) cannot be written: a saved network "
            "holds layers of torch.nn and of sj_lowlat; build it of these"
        )
    args = {}
    for key, parameter in inspect.signature(kind.__init__).parameters.items():
        if key not in ("self", "device", "dtype", "args", "kwargs"):
            value = getattr(module, key)
            value = value is not None if key == "bias" else value
            if value != parameter.default:  # an older torch may not know what a newer one added
                args[key] = _plain(value)
    return {"args": args}


def _spikes(node: layers.LowLatencyIFNode) -> dict[str, str]:
    return {"spikes": str(node.spike_dtype).removeprefix("torch.")} if node.spike_dtype else {}


def _function_row(name: str, fn: nn.Module) -> dict[str, Any]:
    return {"type": _kind(fn).__name__, **_arguments(f"{name}.fn", fn)}


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise InputError(f"a layer's argument is {value!r}, which JSON cannot hold")


def root_from_rows(rows: Sequence[Mapping[str, Any]]) -> nn.Module:
    """A module that holds the layers of :func:`module_rows`.

    Those of ``torch.nn`` are without values, on the device ``meta``: no memory is taken before the values are
    there.

    :param rows: as JSON keeps them
    :raises InputError: for rows of an unknown type, or arguments that it does not take
    """
    made: dict[str, nn.Module] = {}
    children: dict[str, dict[str, nn.Module | str]] = {}
    root_row = next((row for row in rows if row.get("name") == ""), {"name": ""})
    below = [row for row in rows if row.get("name") != ""]
    for row in reversed([{**root_row, "type": "Module"}, *below]):  # children first
        try:
            name = row["name"]
            if "same" not in row:
                made[name] = _made(row, children.pop(name, {}))
            parent, _, child = name.rpartition(".")
            if name:
                children.setdefault(parent, {})[child] = made[name] if "same" not in row else row["same"]
        except FOREIGN as error:
            raise InputError(f"a layer cannot be made as its row says ({error}): {row!r:.200}") from error
    if children:
        raise InputError(f"the rows name layers of {min(children)!r}, which has no row")
    root = made[""]
    for row in below:
        if "same" in row:
            if row["same"] not in made:
                raise InputError(f"{row['name']!r} is said to be {row['same']!r}, which has no row")
            parent, _, child = row["name"].rpartition(".")
            root.get_submodule(parent)._modules[child] = made[row["same"]]
    return root


def _hang(parent: nn.Module, children: dict[str, nn.Module | str]) -> None:
    for name in reversed(children):
        child = children[name]
        parent.add_module(name, None if isinstance(child, str) else child)


def _made(row: Mapping[str, Any], children: dict[str, nn.Module | str]) -> nn.Module:
    name, args = row["type"], row.get("args", {})
    args = {key: tuple(value) if isinstance(value, list) else value for key, value in args.items()}
    if name in _CONTAINERS:
        container = _CONTAINERS[name]()
        _hang(container, children)
        for key, shape in row.get("shapes", {}).items():
            tensor = torch.empty(shape, device="meta")
            if key in row["parameters"]:
                container.register_parameter(key, nn.Parameter(tensor))
            else:
                container.register_buffer(key, tensor)
        return container
    if name in _AROUND:
        (inner,) = children.values()
        return _AROUND[name](inner)  # type: ignore[arg-type]
    if children:
        raise ValueError(f"{name} holds no other layers")
    if isinstance(args.get("fn"), Mapping):
        args["fn"] = _made(args["fn"], {})
    if name in _OWN:
        sizes = [args.get("channels") or 1, *(math.prod(shape or ()) for shape in args.get("shapes", ()))]
        if max(sizes) > _MOST_CHANNELS:
            raise ValueError(f"{max(sizes)} channels; at most {_MOST_CHANNELS} are read")
        module: Any = _OWN[name](**args)
        if "spikes" in row:
            module.spike_dtype = {"bfloat16": torch.bfloat16, "int8": torch.int8}[row["spikes"]]
        return module
    kind = {kind.__name__: kind for kind in LEAF_TYPES}.get(name) or getattr(nn, str(name), None)
    # a number of layers in a row could ask for any number of modules
    if not isinstance(kind, type) or not issubclass(kind, nn.Module) or issubclass(kind, _STACKS):
        raise ValueError(f"the layer type {name!r} is unknown: it is none of torch.nn and of sj_lowlat")
    with torch.device("meta"):
        return kind(**args)
