"""A graph as rows that JSON can hold, and back; nothing but the operations of the table is read."""

from __future__ import annotations

import keyword
import math
import operator
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx

from sj_lowlat.errors import FOREIGN, InputError

_OPS = ("placeholder", "call_module", "call_function", "get_attr", "output")
_NAME = re.compile(r"[\w +:-]+(\.[\w +:-]+)*")  # what a user may call a layer, without quotes
_META = ("where", "owner", "dim0", "sizes")
_NONE: dict[str, Any] = {"where": "", "owner": "", "dim0": 0, "sizes": ()}
# calls that are not ATen's: sizes are computed with Python's operators
_OPERATORS = {
    name: getattr(operator, name) for name in ("getitem", "add", "sub", "mul", "floordiv", "mod", "neg")
}
_SIZES = {
    name: getattr(torch, name)
    for name in ("sym_int", "sym_float", "sym_max", "sym_min", "sym_ite", "sym_not")
}


def to_rows(graph: fx.Graph) -> list[dict[str, Any]]:
    """One row per node: name, operation, target, arguments, and where it stands in the user's code.

    :param graph: of :func:`~sj_lowlat.graph.capture`
    :raises InputError: for a node that has no written form
    """
    rows = []
    for node in graph.nodes:
        row = {"name": node.name, "op": node.op, "target": _target_name(node), "args": _write(node.args)}
        row |= {"kwargs": _write(dict(node.kwargs))} if node.kwargs else {}
        row |= {key: node.meta[key] for key in _META if node.meta.get(key)}
        rows.append(row)
    return rows


def from_rows(rows: Sequence[Mapping[str, Any]]) -> fx.Graph:
    """The graph that :func:`to_rows` wrote.

    :param rows: as JSON keeps them
    :raises InputError: for rows that are no graph, or name an operation that is not ATen's
    """
    graph = fx.Graph()
    nodes: dict[str, fx.Node] = {}
    for row in rows:
        try:
            op, name = row["op"], row["name"]
            if op not in _OPS or name in nodes:
                raise InputError(f"the graph has a node {name!r} of kind {op!r}")
            target = _target(row["target"]) if op == "call_function" else _name(row["target"], op)
            args, kwargs = _read(row["args"], nodes), _read(row.get("kwargs", {"dict": {}}), nodes)
            for key in kwargs:
                _name(key, "placeholder")
            if op == "output":
                node = graph.output(args[0])
            else:
                node = graph.create_node(op, target, args, kwargs, name)
            nodes[name] = node
            node.meta.update({key: row.get(key, _NONE[key]) for key in _META})
        except FOREIGN as error:
            raise InputError(f"a row of the graph cannot be read ({error!r}): {row!r:.200}") from error
    try:
        graph.lint()
    except FOREIGN as error:
        raise InputError(f"the rows are no graph: {error}") from error
    return graph


def _target_name(node: fx.Node) -> str:
    target: Any = node.target
    if node.op != "call_function":
        return str(target)
    if isinstance(target, torch._ops.OpOverload):
        return str(target)  # "aten.cat.default"
    for table in (_OPERATORS, _SIZES):
        for name, function in table.items():
            if function is target:
                return name
    raise InputError(f"the graph calls {target!r}, which has no written form")


def _name(text: str, op: str) -> str:
    """A name that may stand in code: of an argument an identifier, of a layer words with dots.

    :raises ValueError: for anything else
    """
    if op == "placeholder":
        fits = text.isidentifier() and not keyword.iskeyword(text)
    else:
        fits = _NAME.fullmatch(text) is not None
    if not fits:
        raise ValueError(f"{text!r} is no name")
    return text


def _target(name: str) -> Any:
    if name in _OPERATORS or name in _SIZES:
        return _OPERATORS.get(name) or _SIZES[name]
    space, function, overload = name.split(".")
    if space != "aten":
        raise InputError(f"the graph calls {name!r}, which is no operation of ATen")
    found = getattr(getattr(torch.ops.aten, function), overload)
    schema = found._schema
    if not schema.returns or any(argument.name == "filename" for argument in schema.arguments):
        raise InputError(f"the graph calls {name!r}, which does something else than compute")
    return found


def _write(value: Any) -> Any:
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, (list, fx.immutable_collections.immutable_list)):
        return [_write(item) for item in value]
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return {"tuple": [_write(item) for item in value]}
    if isinstance(value, dict):
        return {"dict": {key: _write(item) for key, item in value.items()}}
    if isinstance(value, slice):
        return {"slice": [_write(item) for item in (value.start, value.stop, value.step)]}
    for kind in (torch.dtype, torch.layout, torch.memory_format):
        if isinstance(value, kind):
            return {"torch": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise InputError(f"the graph holds {value!r} ({type(value).__name__}), which has no written form")


def _read(value: Any, nodes: Mapping[str, fx.Node]) -> Any:
    if isinstance(value, list):
        return [_read(item, nodes) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "node":
        return nodes[inner]
    if kind == "tuple":
        return tuple(_read(item, nodes) for item in inner)
    if kind == "dict":
        return {key: _read(item, nodes) for key, item in inner.items()}
    if kind == "slice":
        return slice(*(_read(item, nodes) for item in inner))
    if kind == "torch":
        found = getattr(torch, inner)
        if not isinstance(found, (torch.dtype, torch.layout, torch.memory_format)):
            raise ValueError(f"torch.{inner} is no dtype, layout or memory format")
        return found
    if kind == "device":
        return torch.device(inner)
    return float({"float": inner}[kind])
