"""From a NIR graph to the rows of a spiking network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sj_lowlat.errors import InputError
from sj_lowlat.export.nir_nodes import library
from sj_lowlat.files import parse_json
from sj_lowlat.network import NetworkInfo

_WHAT = "a NIR file that write_nir wrote"


class Rows:
    """Collects layers, nodes and values of a spiking network, for :func:`sj_lowlat.checkpoint.rebuild`.

    :param graph: a ``NIRGraph`` whose shapes nir has checked
    :param source: the file, for errors
    :ivar tensors: name -> value, as in a state dict
    :raises InputError: naming a node that has no layer here
    """

    def __init__(self, graph: Any, source: Path) -> None:
        self._nir, self._graph, self._source = library(), graph, source
        self.tensors: dict[str, torch.Tensor] = {}
        self._layers: list[dict[str, Any]] = []
        self._nodes: list[dict[str, Any]] = []
        self._calls: dict[str, str] = {}  # NIR node -> node of the forward
        self._spikes: dict[str, bool] = {}  # NIR node -> whether spikes leave it
        self._before: dict[str, list[str]] = {name: [] for name in graph.nodes}
        self._behind: dict[str, list[str]] = {name: [] for name in graph.nodes}
        for first, second in graph.edges:
            self._before[second].append(first)
            self._behind[first].append(second)
        self._heads: dict[str, str] = {}  # Output -> what it reads
        self._images: tuple[int, ...] = ()
        for name in self._in_order():
            self._add(name, graph.nodes[name])
        self._return()

    def _error(self, name: str, why: str) -> InputError:
        return InputError(
            f"{self._source}: node {name!r} cannot be read: {why}; NIR files are read with one Input, "
            "Conv2d, Affine, Linear, IF (r = 1), AvgPool2d, SumPool2d, Flatten, and a layer with weights "
            "before each Output"
        )

    def _in_order(self) -> list[str]:
        """The names, each behind those that it reads."""
        missing = {name: len(before) for name, before in self._before.items()}
        order = [name for name, count in missing.items() if not count]
        for name in order:  # which grows
            for reader in self._behind[name]:
                missing[reader] -= 1
                if not missing[reader]:
                    order.append(reader)
        if len(order) < len(missing):
            raise self._error(min(missing.keys() - set(order)), "it reads its own output, through others")
        return order

    def _add(self, name: str, node: Any) -> None:
        nir, before, behind = self._nir, self._before[name], self._behind[name]
        if isinstance(node, nir.Input):
            if self._images or before:
                raise self._error(name, "a graph has one Input, which reads nothing")
            self._images = tuple(int(side) for side in node.input_type["input"])
            self._call(name, "placeholder", "images", [])
            self._spikes[name] = False
            return
        if len(before) != 1 and (not before or isinstance(node, nir.Output)):
            raise self._error(name, f"{len(before)} edges lead to it")
        if isinstance(node, nir.Output):
            self._heads[name] = before[0]
            return
        head = any(isinstance(self._graph.nodes[reader], nir.Output) for reader in behind)
        calls = [self._calls[source] for source in before]
        if len(calls) > 1:
            calls = [self._sum(name, before)]
        self._spikes[name] = all(self._spikes[source] for source in before)
        if isinstance(node, (nir.Conv2d, nir.Affine, nir.Linear)):
            if head and len(behind) > 1:
                raise self._error(name, "an Output reads it, and another node does too")
            if head:
                self._layers.append({"name": name, "type": "RateReadout"})
            self._weighted(f"{name}.layer" if head else name, node)
            self._spikes[name] = False
        elif head:
            raise self._error(name, f"an Output reads it, and {type(node).__name__} has no weights")
        elif isinstance(node, nir.IF):
            self._neuron(name, node)
            self._spikes[name] = True
        elif isinstance(node, (nir.AvgPool2d, nir.SumPool2d)):
            args: dict[str, Any] = {"kernel_size": _pair(node.kernel_size), "stride": _pair(node.stride)}
            if any(_pair(node.padding)):
                raise self._error(name, "NIR does not say what a pool makes of its padding")
            args |= {"divisor_override": 1} if isinstance(node, nir.SumPool2d) else {}
            self._layer(name, "AvgPool2d", args)
        elif isinstance(node, nir.Flatten) and len(node.output_type["output"]) == 1:
            self._layer(name, "Flatten", {})
        else:
            raise self._error(name, type(node).__name__)
        self._call(name, "call_module", name, calls)

    def _call(self, name: str, op: str, target: str, inputs: Sequence[str]) -> None:
        taken = {row["name"] for row in self._nodes}
        own = "images" if op == "placeholder" else re.sub(r"\W", "_", f"at_{name}")
        while own in taken:
            own += "_"
        args = {"tuple": [{"node": item} for item in inputs]}
        self._nodes.append({"name": own, "op": op, "target": target, "args": args, "dim0": 2})
        self._calls[name] = own

    def _layer(self, name: str, kind: str, args: dict[str, Any]) -> None:
        self._layers.append({"name": name, "type": kind, "args": args})

    def _sum(self, name: str, before: Sequence[str]) -> str:
        own = f"{name}_sum"
        while own in self._graph.nodes:
            own += "_"
        spikes = [self._spikes[source] for source in before]
        self._layer(own, "BranchSum", {"shapes": [None] * len(before), "spikes": spikes})
        self._call(own, "call_module", own, [self._calls[source] for source in before])
        return self._calls[own]

    def _weighted(self, name: str, node: Any) -> None:
        weight, bias = np.asarray(node.weight, np.float32), getattr(node, "bias", None)
        if isinstance(node, self._nir.Conv2d):
            if isinstance(node.padding, str) or int(node.groups) != 1:
                raise self._error(name, f"padding {node.padding!r}, groups {node.groups}: give numbers and 1")
            windows = {key: _pair(getattr(node, key)) for key in ("stride", "padding", "dilation")}
            sizes = dict(zip(("out_channels", "in_channels"), weight.shape[:2], strict=True))
            self._layer(name, "Conv2d", {**sizes, "kernel_size": [*weight.shape[2:]], **windows})
        elif weight.ndim != 2:
            raise self._error(name, f"its weights have {weight.ndim} axes, a linear layer has 2")
        else:
            about = {"in_features": weight.shape[1], "out_features": weight.shape[0]}
            self._layer(name, "Linear", about | ({} if bias is not None else {"bias": False}))
        self.tensors[f"{name}.weight"] = torch.from_numpy(weight)
        if bias is not None:
            self.tensors[f"{name}.bias"] = torch.from_numpy(np.asarray(bias, np.float32))

    def _neuron(self, name: str, node: Any) -> None:
        below, resistance, reset = (
            np.asarray(value, np.float32).reshape(len(node.v_threshold), -1)
            for value in (node.v_threshold, node.r, node.v_reset)
        )
        if (resistance != 1).any() or (reset != 0).any() or (below != below[:, :1]).any():
            raise self._error(name, "r must be 1, v_reset 0, and v_threshold one number in each channel")
        threshold = np.nextafter(below[:, 0], np.float32(np.inf))  # see write_nir
        about = node.metadata
        start = np.asarray(about.get("v_initial", np.zeros(len(threshold))), np.float32)
        kind = {"subtract": "ResidualFixIFNode", "to v_reset": "HardResetIFNode"}.get(
            str(about.get("reset", "to v_reset"))
        )
        if kind is None or start.shape != threshold.shape:
            raise self._error(name, f"its metadata say reset {about.get('reset')!r}, v_initial {start.shape}")
        if kind == "ResidualFixIFNode" and not np.array_equal(about.get("subtract"), threshold):
            raise self._error(name, "a spike subtracts another value than its threshold")
        values = {"v_threshold": threshold, "ratio": _ratio(start, threshold)}
        args = {
            key: value.tolist() if (value != value[0]).any() else float(value[0])
            for key, value in values.items()
        }
        self._layer(name, kind, args)
        for key, value in (("threshold", "v_threshold"), ("ratio", "ratio")):
            if isinstance(args[value], list):
                self.tensors[f"{name}.{key}"] = torch.from_numpy(values[value])

    def _return(self) -> None:
        about, found = self._graph.metadata, sorted(self._heads)
        order: Any = found[0] if len(found) == 1 else found
        if "outputs" in about:
            order = parse_json(str(about["outputs"]), str(self._source), _WHAT)
        names = [order] if isinstance(order, str) else list(order)
        if not self._images or not names or sorted(names) != found:
            raise self._error(str(names), f"the outputs are {found}, and there must be an Input")
        heads = [{"node": self._calls[self._heads[name]]} for name in names]
        returned = heads[0] if isinstance(order, str) else {"tuple": heads}
        row = {"name": "output", "op": "output", "target": "output", "args": {"tuple": [returned]}}
        self._nodes.append(row)

    @property
    def config(self) -> dict[str, Any]:
        """The network's structure, as :func:`sj_lowlat.checkpoint.describe` gives it."""
        own = {row["name"] for row in self._layers}
        above = {name[: dot.start()] for name in own for dot in re.finditer(r"\.", name)} - own
        parents = [{"name": name, "type": "Module"} for name in ("", *sorted(above))]
        network = {
            "kind": "SpikingNetwork",
            "layers": parents + self._layers,
            "nodes": self._nodes,
            "tied": [],
        }
        about = self._graph.metadata
        info = NetworkInfo(input_shape=self._images)
        if "info" in about:
            info = NetworkInfo.from_json(parse_json(str(about["info"]), str(self._source), _WHAT))
            if info.input_shape != self._images:
                raise self._error("input", f"it is {self._images}, the metadata say {info.input_shape}")
        return {"format": 2, "build": None, "network": network, "info": info.to_json()}


def _pair(value: Any) -> list[int]:
    """Height and width."""
    height, width = np.broadcast_to(np.asarray(value, np.int64), 2).tolist()
    return [height, width]


def _ratio(start: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """V(0) in thresholds: the float32 whose product with the threshold is V(0) again, where there is one."""
    near = (start / threshold).astype(np.float32)
    tries = [near, *(np.nextafter(near, np.float32(end)) for end in (-np.inf, np.inf))]
    apart = np.abs(np.stack([ratio * threshold - start for ratio in tries]))
    best: np.ndarray = np.stack(tries)[apart.argmin(0), np.arange(len(near))]
    return best
