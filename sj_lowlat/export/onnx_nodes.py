"""Nodes of an ONNX graph for the layers and operations of a kept graph."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from sj_lowlat.errors import ConversionError
from sj_lowlat.layers import QuantReLU
from sj_lowlat.layers.same_max_pool import SameMaxPool
from sj_lowlat.network import GraphNetwork

_ADDITIONS = (torch.ops.aten.add.Tensor, torch.ops.aten.add_.Tensor, operator.add)


class Nodes:
    """Collects nodes and constants of a network without spiking neurons.

    :param network: float or Quant ANN
    :ivar nodes: ``(operation, inputs, output, attributes)``, in order
    :ivar constants: name -> array; a tensor of the network has its name in the state dict
    :ivar outputs: names of what the network returns
    :raises ConversionError: for a layer that has no equal here, by its name
    """

    def __init__(self, network: GraphNetwork) -> None:
        self.network = network
        self.nodes: list[tuple[str, list[str], str, dict[str, Any]]] = []
        self.constants: dict[str, np.ndarray] = {}
        self.outputs: list[str] = []
        self._rank: dict[str, int] = {}
        for node in network.graph.nodes:
            self._add(node)

    def _add(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self._rank[node.name] = len(self.network.info.input_shape or (3, 0, 0)) + 1
            return
        if node.op == "output":
            found: Any = node.args[0]
            found = [found] if isinstance(found, fx.Node) else found
            if not isinstance(found, (list, tuple)) or not all(isinstance(item, fx.Node) for item in found):
                raise ConversionError(
                    "the network returns more than a list of tensors, which ONNX cannot hold"
                )
            self.outputs = [item.name for item in found]
            return
        inputs, args = [item.name for item in node.all_input_nodes], list[Any](node.args)
        self._rank[node.name] = self._rank[inputs[0]] if inputs else 0
        if node.op == "call_module":
            layer = self.network.get_submodule(str(node.target))
            write = _LAYERS.get(next((kind for kind in type(layer).__mro__ if kind in _LAYERS), object))
            if write is None:
                raise self.refusal(str(node.target), f"{type(layer).__name__} has no ONNX form here")
            write(self, str(node.target), layer, inputs, node.name)
        elif node.target is torch.ops.aten.cat.default:
            names = [item.name for item in args[0]]
            axis = args[1] if len(args) > 1 else 0
            self.nodes.append(("Concat", names, node.name, {"axis": axis}))
        elif node.target in _ADDITIONS and not node.kwargs and all(isinstance(arg, fx.Node) for arg in args):
            self.nodes.append(("Add", [item.name for item in args], node.name, {}))
        elif node.target is torch.ops.aten.flatten.using_ints and node.args[1:] in ((1,), (1, -1)):
            self._rank[node.name] = 2
            self.nodes.append(("Flatten", inputs, node.name, {"axis": 1}))
        else:
            raise self.refusal(str(node.name), f"the operation {node.target} has no ONNX form here")

    @staticmethod
    def refusal(name: str, why: str) -> ConversionError:
        """The error for a layer that the file cannot hold."""
        return ConversionError(
            f"layer {name!r} cannot be written as ONNX: {why}; the file holds convolutions, linear layers, "
            "batch norms, (leaky, quantised) ReLU, max-pools, nearest upsampling, concatenation and addition"
        )

    def tensors(self, name: str, layer: nn.Module, *wanted: str) -> list[str]:
        """Keep tensors of a layer, those that are not ``None``, under their names in the state dict."""
        found = []
        for key in wanted:
            value = getattr(layer, key)
            if value is not None:
                self.constants[f"{name}.{key}"] = value.detach().cpu().numpy()
                found.append(f"{name}.{key}")
        return found

    def step(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node; its output is returned."""
        self.nodes.append((kind, inputs, output, attributes))
        return output

    def constant(self, name: str, value: Any) -> str:
        """Add a number, or one per channel."""
        self.constants[name] = np.asarray(value, dtype=np.float32)
        return name

    def rank(self, name: str) -> int:
        """Dimensions of a value."""
        return self._rank[name]


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


def _conv(to: Nodes, name: str, layer: Any, inputs: list[str], out: str) -> None:
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise to.refusal(name, f"padding {layer.padding!r} ({layer.padding_mode}): give zeros, in numbers")
    about: dict[str, Any] = {"pads": [*layer.padding] * 2, "kernel_shape": [*layer.kernel_size]}
    about |= {"strides": [*layer.stride], "dilations": [*layer.dilation], "group": layer.groups}
    kind = "Conv"
    if isinstance(layer, nn.ConvTranspose2d):
        kind, about = "ConvTranspose", {**about, "output_padding": [*layer.output_padding]}
    to.step(kind, inputs + to.tensors(name, layer, "weight", "bias"), out, **about)


def _linear(to: Nodes, name: str, layer: Any, inputs: list[str], out: str) -> None:
    if to.rank(inputs[0]) != 2:
        raise to.refusal(name, f"its input has {to.rank(inputs[0])} dimensions, it must have 2")
    to.step("Gemm", inputs + to.tensors(name, layer, "weight", "bias"), out, transB=1)


def _batch_norm(to: Nodes, name: str, layer: Any, inputs: list[str], out: str) -> None:
    if not layer.affine or layer.running_mean is None:
        raise to.refusal(name, "this batch norm has no weights or no kept statistics")
    values = to.tensors(name, layer, "weight", "bias", "running_mean", "running_var")
    to.step("BatchNormalization", inputs + values, out, epsilon=layer.eps)


def _quant_relu(to: Nodes, name: str, layer: QuantReLU, inputs: list[str], out: str) -> None:
    """The steps of :func:`sj_lowlat.functional.quant_relu`, in its order, so that only sums may differ."""
    clip = layer.clip.detach().cpu()
    if clip.dim():
        clip = clip.view(-1, *[1] * (to.rank(inputs[0]) - 2))
    levels = layer.levels
    scale = to.constant(f"{name}.levels_per_unit", levels / clip)
    height = to.constant(f"{name}.level", clip / levels)
    half = to.constant(f"{name}.half", 0.5)
    u = to.step("Mul", [*inputs, scale], f"{out}_scaled")
    u = to.step("Add", [u, half], f"{out}_shifted")
    if 0 < layer.slope < 1:
        low = to.step("Mul", [u, to.constant(f"{name}.slope", layer.slope)], f"{out}_sloped")
        u = to.step("Max", [u, to.step("Add", [low, half], f"{out}_low")], f"{out}_leaky")
    u = to.step("Floor", [u], f"{out}_level")
    lowest = to.constant(f"{name}.lowest", -levels if layer.slope else 0)
    u = to.step("Clip", [u, lowest, to.constant(f"{name}.highest", levels)], f"{out}_clipped")
    to.step("Mul", [u, height], out)


def _max_pool(to: Nodes, name: str, layer: Any, inputs: list[str], out: str) -> None:
    pads = _pair(layer.padding) * 2
    if isinstance(layer, SameMaxPool):
        pads = [layer.before] * 2 + [layer.after] * 2
    about = {"kernel_shape": _pair(layer.kernel_size), "strides": _pair(layer.stride), "pads": pads}
    to.step("MaxPool", inputs, out, **about, dilations=_pair(layer.dilation), ceil_mode=int(layer.ceil_mode))


def _upsample(to: Nodes, name: str, layer: Any, inputs: list[str], out: str) -> None:
    factors = layer.scale_factor
    factors = factors if isinstance(factors, tuple) else (factors, factors)
    if layer.mode != "nearest" or None in factors or any(factor % 1 for factor in factors):
        raise to.refusal(name, f"{layer.mode!r} by {layer.scale_factor}: give 'nearest' by whole factors")
    scales = to.constant(f"{name}.scales", [1, 1, *factors])
    about = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    to.step("Resize", [*inputs, "", scales], out, **about)


_LAYERS: dict[type, Callable[..., None]] = {
    nn.Conv2d: _conv,
    nn.ConvTranspose2d: _conv,
    nn.Linear: _linear,
    nn.BatchNorm2d: _batch_norm,
    nn.ReLU: lambda to, name, layer, inputs, out: to.step("Relu", inputs, out),
    nn.LeakyReLU: lambda to, name, layer, inputs, out: to.step(
        "LeakyRelu", inputs, out, alpha=layer.negative_slope
    ),
    nn.Identity: lambda to, name, layer, inputs, out: to.step("Identity", inputs, out),
    nn.Dropout: lambda to, name, layer, inputs, out: to.step("Identity", inputs, out),
    QuantReLU: _quant_relu,
    nn.MaxPool2d: _max_pool,
    nn.Upsample: _upsample,
}
