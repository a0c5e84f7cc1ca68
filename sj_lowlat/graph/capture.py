"""From a network to its graph, by ``torch.export``.

The graph is that of ATen operations with a symbolic batch (and, where the network allows it, height and
width). What a layer of ``torch.nn`` (or a registered one) computes is lifted back into one call of that
layer, so that the graph's nodes are the layers of the network and the functions between them.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from pathlib import Path
from threading import RLock
from typing import Any, cast

import torch
from torch import fx, nn
from torch.export import Dim
from torch.utils._pytree import tree_flatten, tree_unflatten

from sj_lowlat.errors import ConversionError, InputError
from sj_lowlat.graph.edit import drop_unread
from sj_lowlat.graph.operations import is_leaf
from sj_lowlat.record import evaluating

#: images of the example: more than one, so that a forward that touches dimension 0 shows
IMAGES = 2
# frames of these folders are not the user's code; torchvision's models are as good as the user's
_INNER = tuple(str(Path(str(path)).parent) + os.sep for path in (torch.__file__, __file__))
_EXPORTING = RLock()  # torch's tracer keeps its state in globals: one thread at a time
_RESHAPES = {"aten::view", "aten::reshape", "aten::_unsafe_view"}
_REMEDY = "write its forward without branches on values, without NumPy and lists of numbers from tensors"


class _Flat(nn.Module):
    """A network whose output is a list of tensors; what it really returns is kept."""

    def __init__(self, net: nn.Module, keep: Callable[[tuple[list[Any], Any]], None]) -> None:
        super().__init__()
        self.net, self._keep = net, keep  # an attribute set in forward would be put back by export

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        leaves, spec = tree_flatten(self.net(images))
        self._keep((leaves, spec))
        return tuple(leaf for leaf in leaves if isinstance(leaf, torch.Tensor))


def capture(
    model: nn.Module, example: torch.Tensor, any_size: bool = True
) -> tuple[fx.Graph, dict[str, torch.Tensor]]:
    """The graph of a network's forward in eval mode.

    Nodes are ``call_module`` of layers by their names in ``model``, ``call_function`` of ATen operations and
    ``get_attr`` of parameters that no layer owns. Each has in its ``meta``: ``where`` (``file:line``),
    ``owner`` (the module whose forward made the call) and ``dim0`` (size of dimension 0 of its result for two
    images); the node of the images also ``sizes``: height and width that the graph is bound to, 0 where any
    will do, empty if none is.

    :param model: the network, left unchanged
    :param example: input ``[N, *]``, of which the first image is used
    :param any_size: whether to leave height and width open, where the forward does
    :return: the graph; and the tensors that it reads by ``get_attr`` and are no parameters and no buffers,
        such as the numbers of an index
    :raises ConversionError: if the forward cannot be followed, with its line and what to do
    """
    kept: list[tuple[list[Any], Any]] = []
    flat = _Flat(model, kept.append)
    images = torch.cat([example[:1]] * IMAGES)
    batch: dict[int, Any] = {0: Dim.DYNAMIC}
    try:
        sides = range(2, images.dim()) if any_size else ()
        try:
            exported = _export(flat, images, batch | dict.fromkeys(sides, Dim.AUTO))
        except NotImplementedError:  # torch's solver gives up on some sizes; then they are the example's
            exported = _export(flat, images, batch)
    except InputError:
        raise
    except Exception as error:  # export lets out errors of torch's tracers, compilers and solvers
        raise ConversionError(_not_followed(model, error)) from error
    lifting = _Lifting(model, exported, kept[-1])
    return lifting.graph(), lifting.constants


def _export(network: nn.Module, images: torch.Tensor, free: dict[int, Any]) -> Any:
    with _EXPORTING, torch.no_grad(), evaluating(network):
        return torch.export.export(network, (images,), dynamic_shapes=(free,), strict=False)


def _not_followed(model: nn.Module, error: Exception) -> str:
    where = _user_line(traceback.extract_tb(error.__traceback__))
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "specializ" in str(error) and "size()[0]" in str(error).replace("shape[0]", "size()[0]"):
        return (
            f"the forward of {type(model).__name__} binds the number of images to the example's: "
            "the forward must leave dimension 0 alone, where the spiking network keeps its time steps"
        )
    place = f" at {where}" if where else ""
    return f"the forward of {type(model).__name__} cannot be followed{place} ({reason}): {_REMEDY}"


def _user_line(frames: Any) -> str:
    """``file:line`` of the innermost frame that is the user's code; empty if there is none."""
    for frame in reversed(list(frames)):
        if not frame.filename.startswith((*_INNER, "<")):
            return f"{Path(frame.filename).name}:{frame.lineno}"
    return ""


def _stack_line(text: str) -> str:
    """The same of a node's ``stack_trace``."""
    for line in reversed(text.splitlines()):
        words = line.strip().split('"')
        if line.strip().startswith('File "') and not words[1].startswith((*_INNER, "<")):
            return f"{Path(words[1]).name}:{words[2].split()[2].rstrip(',')}"
    return "?"


class _Lifting:
    """One pass over an exported graph."""

    def __init__(self, model: nn.Module, exported: Any, output: tuple[list[Any], Any]) -> None:
        self.model, self.output = model, output
        signature = exported.graph_signature
        owned = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self.owned = {name: target.removeprefix("net.") for name, target in owned.items()}
        self.constants = {
            name: exported.constants[target]
            for name, target in signature.inputs_to_lifted_tensor_constants.items()
        }
        self.nodes = list(exported.graph.nodes)
        images = next(n for n in self.nodes if n.op == "placeholder" and n.name in signature.user_inputs)
        self.batch = images.meta["val"].shape[0].node.expr
        self.new: dict[fx.Node, fx.Node] = {}
        self.result = fx.Graph()
        self.calls = self._whole_calls()

    def _calls_of(self, node: fx.Node) -> list[tuple[str, str]]:
        """Key and name of the module calls within which a node was made, the innermost first."""
        stack = node.meta.get("nn_module_stack") or {}
        calls = [(key, path.split("@")[0]) for key, (path, _) in reversed(list(stack.items()))]
        return [(key, path[4:]) for key, path in calls if path == "net" or path.startswith("net.")]

    def _owner(self, node: fx.Node) -> str:
        """Name of the module whose forward made a node."""
        return next((name for _, name in self._calls_of(node)), "")

    def _leaf_call(self, node: fx.Node) -> tuple[str, str] | None:
        """Key and name of the innermost leaf module whose call made a node."""
        if node.op != "call_function":
            return None
        calls = ((key, name) for key, name in self._calls_of(node) if name)
        return next(((key, name) for key, name in calls if is_leaf(self.model.get_submodule(name))), None)

    def _whole_calls(self) -> dict[str, tuple[str, fx.Node, fx.Node]]:
        """Calls of leaf modules that read one tensor and give one.

        :return: key -> name, what is read, what comes out
        """
        depends: set[fx.Node] = set()
        reads: dict[str, list[fx.Node]] = {}
        gives: dict[str, list[fx.Node]] = {}
        names: dict[str, str] = {}
        inside: dict[fx.Node, str] = {}
        for node in self.nodes:
            if node.op == "placeholder":
                depends |= set() if node.name in self.owned or node.name in self.constants else {node}
                continue
            if any(source in depends for source in node.all_input_nodes):
                depends.add(node)
            call = self._leaf_call(node)
            if call is not None:
                key, names[key] = call
                inside[node] = key
            for source in node.all_input_nodes:
                if source not in depends or _is_size(source):
                    continue
                if call is not None and inside.get(source) != call[0]:
                    reads.setdefault(call[0], []).append(source)
                if source in inside and (call is None or inside[source] != call[0]):
                    gives.setdefault(inside[source], []).append(source)
        whole = {}
        for key, name in names.items():
            inputs, results = set(reads.get(key, ())), set(gives.get(key, ()))
            if len(inputs) == len(results) == 1:
                whole[key] = (name, inputs.pop(), results.pop())
        return whole

    def graph(self) -> fx.Graph:
        for node in self.nodes:
            call = self._leaf_call(node)
            if node.op == "placeholder":
                if node.name not in self.owned and node.name not in self.constants:
                    self.new[node] = self.result.placeholder("images")
                    self.new[node].meta["dim0"] = IMAGES
                    sides = node.meta["val"].shape[2:]
                    fixed = [side if isinstance(side, int) else 0 for side in sides]
                    self.new[node].meta["sizes"] = fixed if any(fixed) else ()
            elif node.op == "output":
                self._return(node)
            elif call is not None and call[0] in self.calls:
                name, source, result = self.calls[call[0]]
                if node is result:
                    self._add(node, self.result.call_module(name, (self.new[source],)))
            else:
                self._add(node, self._function(node))
        drop_unread(self.result)
        self.result.lint()
        return self.result

    def _add(self, old: fx.Node, new: fx.Node) -> None:
        self.new[old] = new
        value = old.meta.get("val")
        new.meta["where"] = _stack_line(old.meta.get("stack_trace") or "")
        new.meta["owner"] = self._owner(old)
        new.meta["dim0"] = _hint(value.shape[0]) if isinstance(value, torch.Tensor) and value.dim() else 0

    def _value(self, node: fx.Node) -> Any:
        if node.name in self.owned:
            return self.result.get_attr(self.owned[node.name])
        if node.name in self.constants:
            return self.result.get_attr(node.name)
        return self.new[node]

    def _function(self, node: fx.Node) -> fx.Node:
        target = cast(Callable[..., Any], node.target)
        args: Any = fx.node.map_arg(node.args, self._value)
        kwargs: Any = fx.node.map_arg(node.kwargs, self._value)
        name = target._schema.name if isinstance(target, torch._ops.OpOverload) else ""
        if name in _RESHAPES:  # a reshape takes any memory format
            args, target = (args[0], self._shape(node, args[0], args[1])), torch.ops.aten.reshape.default
        return self.result.call_function(target, args, kwargs)

    def _shape(self, node: fx.Node, source: fx.Node, shape: Any) -> list[Any]:
        """The shape that a reshape is asked for, its batch not that of the images but that of what it reads:
        spikes have their time steps in it.

        :param node: of the exported graph
        :param source: what it reads, in the new graph
        :param shape: what it is asked for, in the new graph
        """
        sizes, wanted = list(shape), list(node.args[1])  # type: ignore[arg-type]
        own = [place for place, size in enumerate(wanted) if self._depends_on_batch(size)]
        if len(own) == 1 and -1 not in wanted:
            sizes[own[0]] = -1
        elif own and self._is_batch(cast(fx.Node, node.args[0]).meta["val"].shape[0]):
            here = self.result.call_function(torch.ops.aten.sym_size.int, (source, 0))
            sizes = [
                here if place in own and self._is_batch(wanted[place].meta["val"]) else size
                for place, size in enumerate(sizes)
            ]
        return sizes

    def _is_batch(self, size: Any) -> bool:
        return isinstance(size, torch.SymInt) and size.node.expr == self.batch

    def _depends_on_batch(self, size: Any) -> bool:
        value = size.meta.get("val") if isinstance(size, fx.Node) else None
        return isinstance(value, torch.SymInt) and self.batch in value.node.expr.free_symbols

    def _return(self, node: fx.Node) -> None:
        leaves, spec = self.output
        results = iter(node.args[0])  # type: ignore[arg-type]
        values = [self._value(next(results)) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        if not any(isinstance(leaf, torch.Tensor) for leaf in leaves):
            raise ConversionError(
                "the network returns nothing that could be followed from the image: return a tensor, "
                "or a tuple, list or dictionary of tensors"
            )
        self.result.output(tree_unflatten(values, spec))


def _is_size(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), (int, torch.SymInt, torch.SymBool, torch.SymFloat))


def _hint(size: int | torch.SymInt) -> int:
    """A size for two images; 0 for one that depends on values."""
    if isinstance(size, int):
        return size
    return int(size.node.hint or 0) if size.node.has_hint() else 0
