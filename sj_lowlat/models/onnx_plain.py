"""What onnx2torch leaves with numbers in tensors (the shape of a reshape, the ends of a slice) as plain
functions of torch, so that a forward can be followed; and a batch size of 1 that was written into a reshape
is taken out.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from sj_lowlat.errors import ConversionError


class Plain(fx.Interpreter):
    """Runs a network of onnx2torch on one image, and puts torch functions of plain numbers in the place of
    its modules that take their numbers from tensors.

    :param network: is changed in place
    """

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self.graph: fx.Graph = network.graph

    def run(self, *args: Any) -> None:  # type: ignore[override]
        """One image; a loop of its own, as the graph changes meanwhile."""
        images = iter(args)
        for node in list(self.graph.nodes):
            if node.op == "placeholder":
                self.env[node] = next(images)
            elif node.op != "output":
                value = self.run_node(node)
                self.env[self._plain(node, value)] = value
        self.graph.eliminate_dead_code()

    def _plain(self, node: fx.Node, value: torch.Tensor) -> fx.Node:
        """The node that gives a value, in the place of one that gave it."""
        module = self.module.get_submodule(str(node.target)) if node.op == "call_module" else None
        make = _PLAIN.get(type(module).__name__)
        source, *rest = node.args or (None,)
        tensors = [arg for arg in rest if isinstance(arg, fx.Node)]
        if make is None or any(arg.op != "get_attr" for arg in tensors):
            return node
        assert isinstance(source, fx.Node)
        numbers = [self.env[arg].tolist() if isinstance(arg, fx.Node) else arg for arg in rest]
        new = make(module, self.env[source], value, *numbers)
        with self.graph.inserting_before(node):
            if isinstance(new, nn.Module):
                self.module.add_module(f"{node.target}_layer", new)
                call = self.graph.call_module(f"{node.target}_layer", (source,))
            elif new is not None:
                function, args, kwargs = new
                call = self.graph.call_function(function, (source, *args), kwargs)
            else:
                return node
        node.replace_all_uses_with(call)
        self.graph.erase_node(node)
        return call


#: a function with its further arguments, a layer, or nothing better
Call = tuple[Callable[..., Any], Sequence[Any], dict[str, Any]] | nn.Module | None


def _reshape(module: Any, x: torch.Tensor, out: torch.Tensor, shape: list[int]) -> Call:
    """One image makes dimension 0 of the file's shapes; any number must do."""
    sizes = [x.shape[place] if size == 0 else size for place, size in enumerate(shape)]
    if sizes and sizes[0] == 1 == x.shape[0]:
        return _batched_reshape, (tuple(sizes[1:]),), {}
    if -1 not in sizes and x.shape[0] == 1:
        sizes[0] = -1  # channels of all images, as in a shuffle
    return torch.reshape, (tuple(sizes),), {}


def _batched_reshape(x: torch.Tensor, sizes: tuple[int, ...]) -> torch.Tensor:
    return torch.reshape(x, (x.shape[0], *sizes))


def _slice(
    module: Any, x: Any, out: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None
) -> Call:
    where = [slice(None)] * x.dim()
    for place, axis in enumerate(axes or range(len(starts))):
        step = steps[place] if steps else 1
        if step < 1:
            raise ConversionError("an ONNX Slice runs backwards: export the network without it")
        end = (
            ends[place] if ends[place] < x.shape[axis] else None
        )  # files write a huge number for "to the end"
        where[axis] = slice(starts[place] or None, end, step if step > 1 else None)
    return operator.getitem, (tuple(where),), {}


def _gather(module: Any, x: Any, out: Any, index: Any) -> Call:
    if isinstance(index, int):
        return torch.select, (module._axis, index), {}
    where = [slice(None)] * x.dim()
    where[module._axis] = index
    return operator.getitem, (tuple(where),), {}


def _pad(module: Any, x: Any, out: Any, pads: list[int], value: float | None = None) -> Call:
    half = len(pads) // 2
    pairs = [side for place in reversed(range(half)) for side in (pads[place], pads[place + half])]
    return F.pad, (tuple(pairs), module.mode, value or 0.0), {}


def _resize(module: Any, x: Any, out: torch.Tensor, *numbers: Any) -> Call:
    kind = getattr(module, "onnx_mode", None) or module._resize.onnx_mode
    align = getattr(module, "align_corners", None)
    modes = {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}
    size = tuple(out.shape[2:])
    factors = [new / old for new, old in zip(size, x.shape[2:], strict=True)]
    if kind == "nearest" and all(factor == int(factor) for factor in factors):
        return F.interpolate, (), {"scale_factor": factors, "mode": "nearest"}
    return F.interpolate, (), {"size": size, "mode": modes[kind], "align_corners": align}


def _prelu(module: Any, x: torch.Tensor, out: Any, slope: Any) -> Call:
    slopes = torch.tensor(slope, dtype=x.dtype).flatten()
    if len(slopes) not in (1, x.shape[1]):
        return None
    layer = nn.PReLU(len(slopes))
    layer.weight.data = slopes
    return layer


def _hard_sigmoid(module: Any, x: Any, out: Any) -> Call:
    same = abs(module.alpha - 1 / 6) < 1e-6 and module.beta == 0.5  # files hold float32
    return nn.Hardsigmoid() if same else None


#: class of onnx2torch -> the same as a function of plain numbers, or as a layer of torch
_PLAIN: dict[str, Callable[..., Call]] = {
    "OnnxReshape": _reshape,
    "OnnxSlice": _slice,
    "OnnxGather": _gather,
    "OnnxPadDynamic": _pad,
    "OnnxResize": _resize,
    "OnnxResizeV10": _resize,
    "OnnxPReLU": _prelu,
    "OnnxHardSigmoid": _hard_sigmoid,
}
