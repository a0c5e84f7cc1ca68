"""NIR nodes and edges for the layers of a spiking network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from sj_lowlat.errors import ConversionError, InputError
from sj_lowlat.export.windows import sides_behind
from sj_lowlat.layers import BranchSum, HardResetIFNode, LowLatencyIFNode, RateReadout, ResidualFixIFNode
from sj_lowlat.layers.int8_conv import Int8Conv2d
from sj_lowlat.network import SpikingNetwork

_PLAIN = (LowLatencyIFNode, ResidualFixIFNode, HardResetIFNode)


def library() -> Any:
    """The package nir.

    :raises InputError: if it is not installed
    """
    try:
        import nir
    except ImportError as error:
        raise InputError(f"NIR files need nir: pip install 'sj-lowlat[nir]' ({error})") from error
    return nir


class Nodes:
    """Collects the nodes and edges of a spiking network.

    :param network: of plain neurons
    :ivar nodes: name -> node; a layer keeps its name
    :ivar edges: (from, to); what several edges bring to a node is added
    :ivar outputs: name of the node ``Output`` of each tensor that the network returns; a single name where it
        returns one tensor and no list
    :raises ConversionError: for a layer that NIR does not hold, by its name
    :raises InputError: if the shape of the images is not known
    """

    def __init__(self, network: SpikingNetwork) -> None:
        self._nir, self._network = library(), network
        shape = network.info.input_shape
        if shape is None:
            raise InputError("the network does not know the shape of its images, and NIR needs it: set info")
        self._free = {str(node.target) for node in network.graph.nodes if node.op == "call_module"}
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.outputs: str | list[str] = []
        self._from: dict[fx.Node, tuple[list[str], tuple[int, ...]]] = {}  # names of nodes, shape
        for node in network.graph.nodes:
            if node.op == "placeholder":
                name = self._new("input")
                self.nodes[name] = self._nir.Input(input_type=np.array(shape))
                self._from[node] = [name], shape
            elif node.op == "output":
                self._output(node.args[0])
            else:
                self._add(node)

    def _new(self, name: str) -> str:
        """A name that no layer has."""
        while name in self._free or name in self.nodes:
            name += "_"
        return name

    def _put(self, name: str, node: Any, sources: Sequence[str]) -> None:
        if name in self.nodes:
            raise refusal(name, "it is called several times, and a node has one place in the graph")
        if "/" in name or len(set(sources)) < len(sources):
            raise refusal(name, "its name holds '/', or it adds a branch to itself")
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]

    def _output(self, found: Any) -> None:
        heads = [found] if isinstance(found, fx.Node) else found
        if not isinstance(heads, (list, tuple)) or not all(isinstance(head, fx.Node) for head in heads):
            raise ConversionError("the network returns more than a list of tensors, which NIR does not hold")
        names = []
        for number, head in enumerate(heads):
            if not isinstance(self._network.module_of(head), RateReadout):
                raise refusal(str(head.target), "the network returns it, and it is no head that reads rates")
            sources, shape = self._from[head]
            name = self._new("output" if isinstance(found, fx.Node) else f"output_{number}")
            about = {"read": "the mean over all steps"}
            self._put(name, self._nir.Output(output_type=np.array(shape), metadata=about), sources)
            names.append(name)
        self.outputs = names[0] if isinstance(found, fx.Node) else names

    def _add(self, node: fx.Node) -> None:
        layer: Any = self._network.module_of(node)
        name = str(node.target) if layer is not None else node.name
        parts = [self._from[item] for item in node.all_input_nodes]
        if not parts:
            raise refusal(name, "it makes a tensor of its own")
        sources, shape = parts[0]
        if isinstance(layer, BranchSum):
            if any(factor is not None for factor in layer.shapes) or any(len(p[0]) > 1 for p in parts):
                raise refusal(name, "edges add branches as they are: no factors, no sums of sums")
            self._from[node] = [part[0][0] for part in parts], shape
            return
        if isinstance(layer, (nn.Identity, nn.Dropout)):
            self._from[node] = parts[0]
            return
        if isinstance(layer, RateReadout):
            made, shape = self._weighted(name, layer.layer, shape)
        elif isinstance(layer, (nn.Conv2d, nn.Linear)):
            made, shape = self._weighted(name, layer, shape)
        elif isinstance(layer, LowLatencyIFNode):
            made = self._neuron(name, layer, shape)
        elif type(layer) is nn.AvgPool2d:
            made, shape = self._pool(name, layer, shape)
        elif _flattens(node, layer):
            made = self._nir.Flatten({"input": np.array(shape)}, 0, -1)
            shape = (int(np.prod(shape)),)
        else:
            raise refusal(name, type(layer).__name__ if layer is not None else f"the operation {node.target}")
        self._put(name, made, sources)
        self._from[node] = [name], shape

    def _weighted(self, name: str, layer: Any, shape: tuple[int, ...]) -> tuple[Any, tuple[int, ...]]:
        if isinstance(layer, Int8Conv2d) or layer.weight.dtype != torch.float32:
            raise refusal(name, "its weights are rounded: give the network in fp32")
        weight = _array(layer.weight)
        bias = None if layer.bias is None else _array(layer.bias)
        if isinstance(layer, nn.Linear):
            if len(shape) != 1:
                raise refusal(name, f"its input is {list(shape)}, and NIR's affine layer takes one axis")
            made = self._nir.Linear(weight) if bias is None else self._nir.Affine(weight, bias)
            return made, (len(weight),)
        if (
            not isinstance(layer, nn.Conv2d)
            or layer.padding_mode != "zeros"
            or isinstance(layer.padding, str)
        ):
            raise refusal(name, f"{type(layer).__name__} with this padding")
        if layer.groups != 1 or weight.shape[2] != weight.shape[3]:
            # its check takes channels from the weights' second axis, and both sides from the kernel's height
            raise refusal(name, "groups, or a kernel that is not square, do not pass NIR's check of shapes")
        sides = sides_behind(shape, layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        bias = np.zeros(len(weight), np.float32) if bias is None else bias
        stride, padding, dilation = layer.stride, layer.padding, layer.dilation
        made = self._nir.Conv2d(shape[1:], weight, stride, padding, dilation, 1, bias)
        return made, (len(weight), *sides)

    def _pool(self, name: str, layer: nn.AvgPool2d, shape: tuple[int, ...]) -> tuple[Any, tuple[int, ...]]:
        size, stride, padding = (
            (value,) * 2 if isinstance(value, int) else tuple(value)
            for value in (layer.kernel_size, layer.stride, layer.padding)
        )
        sums = layer.divisor_override == 1
        if layer.ceil_mode or any(padding) or not (sums or layer.divisor_override is None):
            raise refusal(name, "NIR's pools do not round up, and say nothing of means over a padding")
        kind = self._nir.SumPool2d if sums else self._nir.AvgPool2d
        return kind(*map(np.array, (size, stride, padding))), (shape[0], *sides_behind(shape, size, stride))

    def _neuron(self, name: str, node: LowLatencyIFNode, shape: tuple[int, ...]) -> Any:
        if type(node) not in _PLAIN or node.counts or node.slope or node.powers:
            raise refusal(
                name,
                f"{type(node).__name__}, and NIR's IF sends no negative spikes and counts none: convert with "
                "neuron='residual-fix' or 'if'",
            )
        if node.burst != 1:
            raise refusal(name, f"up to {node.burst} spikes in a step, and NIR's IF sends one")
        channels = shape[0]
        threshold, start = (
            _array(value).astype(np.float32).reshape(-1) + np.zeros(channels, np.float32)
            for value in (node.threshold, node.v_initial)
        )
        # NIR fires at V > v_threshold and this package at V >= V_th: the float32 just below makes them one
        below = np.nextafter(threshold, np.float32(0)).reshape(-1, *[1] * (len(shape) - 1))
        zeros = np.zeros(shape, np.float32)
        about: dict[str, Any] = {"v_initial": start}
        if node.rule.hard_reset:
            about |= {"reset": "to v_reset"}
        else:
            about |= {"reset": "subtract", "subtract": threshold}
        return self._nir.IF(zeros + 1, zeros + below, zeros, metadata=about)


def refusal(name: str, why: str) -> ConversionError:
    """The error for a layer that NIR does not hold."""
    return ConversionError(
        f"layer {name!r} cannot be written as NIR: {why}; the format holds IF neurons that send single "
        "positive spikes, square convolutions without groups, linear layers, average and sum pools, "
        "flattening, and additions"
    )


def _array(tensor: torch.Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().cpu().contiguous().numpy()
    return array


def _flattens(node: fx.Node, layer: Any) -> bool:
    if layer is not None:
        return type(layer) is nn.Flatten and (layer.start_dim, layer.end_dim) == (1, -1)
    return node.target is torch.ops.aten.flatten.using_ints and node.args[1:] in ((1,), (1, -1))
