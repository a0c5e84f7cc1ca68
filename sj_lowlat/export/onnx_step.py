"""One time step of a spiking network as an ONNX file, whose states are inputs and outputs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sj_lowlat.errors import InputError
from sj_lowlat.export.integers import rows
from sj_lowlat.export.onnx_file import checked, fed, library, model_of, opened
from sj_lowlat.files import parse_json
from sj_lowlat.layers import LowLatencyIFNode, RateReadout, SpikeMaxPool
from sj_lowlat.network import SpikingNetwork, schedule_for, unwrapped
from sj_lowlat.schedule import Schedule
from sj_lowlat.simulation import simulate

_ABOUT = "sj_lowlat.step"


class _Step:
    """The nodes of one step.

    :ivar nodes: ``(operation, inputs, output, attributes)``, in order
    :ivar constants: name -> array
    :ivar states: name -> (shape without the batch, what it starts with: a number per channel, or 0)
    :ivar heads: names of the heads' maps
    :ivar spikes: names of what the layers of neurons send
    """

    def __init__(self, snn: SpikingNetwork, schedule: Schedule) -> None:
        self.snn, self.shapes = snn, _shapes(snn)
        self.nodes: list[tuple[str, list[str], str, dict[str, Any]]] = []
        self.constants: dict[str, np.ndarray] = {}
        self.states: dict[str, tuple[tuple[int, ...], list[float] | None]] = {}
        self.heads: list[str] = []
        self.spikes: list[str] = []
        for row in rows(snn, schedule):
            if row["op"] == "output":
                self.heads = row["inputs"]
                continue
            write: Callable[[dict[str, Any]], None] = getattr(self, f"_{row['op']}")
            write(row)

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node; its output is returned."""
        self.nodes.append((kind, inputs, output, attributes))
        return output

    def keep(self, name: str, value: Any) -> str:
        """Keep a tensor of the network or a number."""
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.float32(value)
        self.constants[name] = np.asarray(array, dtype=np.float32)
        return name

    def state(self, name: str, shape: tuple[int, ...], start: list[float] | None = None) -> str:
        """Declare a state; the node that computes its next value has its name and ``.next``."""
        self.states[name] = shape, start
        return name

    def _conv(self, row: dict[str, Any]) -> None:
        """The current, with the bias as often as the schedule brings the charge in this step."""
        name, layer = row["layer"], self.snn.get_submodule(row["layer"])
        assert isinstance(layer, nn.Conv2d)
        weight = self.keep(f"{name}.weight", layer.weight)
        current = self.add("Conv", [*row["inputs"], weight], f"{row['name']}.sum", **_window(row))
        if row["inputs"] == ["images"]:
            current = self.add("Mul", [current, "gain"], f"{row['name']}.image")
        if layer.bias is None:
            self.add("Identity", [current], row["name"])
            return
        bias = self.keep(f"{name}.bias", layer.bias[:, None, None])
        brought = self.add("Mul", [bias, "gain"], f"{row['name']}.brought")
        self.add("Add", [current, brought], row["name"])

    def _neuron(self, row: dict[str, Any]) -> None:
        """The equations of :class:`~sj_lowlat.kernels.FireRule`, in the order of its reference."""
        out, layer = row["name"], self.snn.get_submodule(row["layer"])
        assert isinstance(layer, LowLatencyIFNode)
        self.spikes.append(out)
        shape = self.shapes[row["layer"]]
        threshold = layer.threshold.detach().float()
        start = (layer.ratio * threshold).expand(shape[0], 1, 1).flatten().tolist()
        one = self.keep(f"{out}.threshold", threshold)
        half, zero = self.keep("half", 0.5), self.keep("zero", 0.0)
        v = self.add("Add", [self.state(f"{out}.v", shape, start), *row["inputs"]], f"{out}.charged")
        count = self.state(f"{out}.count", shape) if row["counts"] else ""
        up = self.keep(f"{out}.up", row["burst"])
        if layer.rule.slope:
            low = self.keep(f"{out}.low", threshold / layer.rule.slope)

            def charge(of: str, to: str) -> str:
                below = self.add("Less", [of, zero], f"{to}.below")
                return self.add("Mul", [of, self.add("Where", [below, low, one], f"{to}.each")], to)

            held = charge(count, f"{out}.held")
            whole = self.add("Add", [v, held], f"{out}.whole")
            sloped = self.add("Div", [whole, low], f"{out}.sloped")
            sloped = self.add("Add", [sloped, half], f"{out}.rounded")
            level = self.add("Max", [self.add("Div", [whole, one], f"{out}.above"), sloped], f"{out}.either")
            level = self.add("Floor", [level], f"{out}.floor")
        else:
            level = self.add("Floor", [self.add("Div", [v, one], f"{out}.above")], f"{out}.floor")
        if not count:
            spike = self.add("Clip", [level, zero, up], out)
        else:
            if not layer.rule.slope:
                level = self.add("Add", [level, count], f"{out}.counted")
            most = self.keep(f"{out}.most", row["most"])
            least = self.keep(f"{out}.least", -row["most"]) if layer.rule.slope else zero
            level = self.add("Clip", [level, least, most], f"{out}.level")
            due = self.add("Sub", [level, count], f"{out}.due")
            spike = self.add("Clip", [due, self.keep(f"{out}.down", -row["burst"]), up], out)
            self.add("Add", [count, spike], f"{count}.next")
        if layer.rule.slope:
            gone = self.add("Sub", [charge(f"{count}.next", f"{out}.after"), held], f"{out}.gone")
        else:
            gone = self.add("Mul", [spike, one], f"{out}.gone")
        self.add("Sub", [v, gone], f"{out}.v.next")

    def _pool(self, row: dict[str, Any]) -> None:
        """The change of the maximum of the counts."""
        out, layer = row["name"], row["layer"]
        count = self.state(f"{out}.count", self.shapes[f"{layer}<"])
        now = self.add("Add", [count, *row["inputs"]], f"{count}.next")
        about = _window(row) | {"kernel_shape": [row["size"]] * 2}
        sent = self.state(f"{out}.sent", self.shapes[layer])
        most = self.add("MaxPool", [now], f"{sent}.next", **about)
        self.add("Sub", [most, sent], out)

    def _up(self, row: dict[str, Any]) -> None:
        factor = row["factor"]
        self.constants[f"{row['name']}.scales"] = np.asarray([1, 1, factor, factor], dtype=np.float32)
        about = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        self.add("Resize", [*row["inputs"], "", f"{row['name']}.scales"], row["name"], **about)

    def _cat(self, row: dict[str, Any]) -> None:
        self.add("Concat", row["inputs"], row["name"], axis=1)

    def _head(self, row: dict[str, Any]) -> None:
        """What the rates so far give."""
        out, name = row["name"], row["layer"]
        layer = self.snn.get_submodule(name)
        assert isinstance(layer, nn.Conv2d)
        total = self.state(f"{out}.total", self.shapes[f"{name.removesuffix('.layer')}<"])
        self.add("Add", [total, *row["inputs"]], f"{total}.next")
        rate = self.add("Div", [f"{total}.next", "divisor"], f"{out}.rate")
        tensors = [self.keep(f"{name}.weight", layer.weight)]
        if layer.bias is not None:
            tensors.append(self.keep(f"{name}.bias", layer.bias))
        self.add("Conv", [rate, *tensors], out, **_window(row))


def _window(row: dict[str, Any]) -> dict[str, Any]:
    return {"strides": row["stride"], "pads": [*row["before"], *row["after"]]}


def _shapes(snn: SpikingNetwork) -> dict[str, tuple[int, ...]]:
    """Shapes without the batch, by layer: what it gives; with ``<`` behind the name, what it gets."""
    found: dict[str, tuple[int, ...]] = {}

    def note(name: str, layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        found[f"{name}<"], found[name] = tuple(args[0].shape[1:]), tuple(output.shape[1:])

    hooks = [
        layer.register_forward_hook(partial(note, name))
        for name, layer in snn.named_modules()
        if isinstance(layer, (LowLatencyIFNode, SpikeMaxPool, RateReadout))
    ]
    try:
        simulate(snn, torch.zeros(1, *(snn.info.input_shape or ())), 1)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def write_onnx_step(snn: nn.Module, path: str | Path, schedule: Schedule | str | None = None) -> Path:
    """Write one time step of a spiking network as an ONNX file; a loop over it is the network's simulation.

    Inputs: ``images`` ``[N, C, H, W]`` in [0, 1], ``gain`` and ``divisor``, and the states. Outputs: the
    heads' maps after this step, the spikes of each layer of neurons in this step, and each state's next value
    (``NAME.next``). The metadata ``sj_lowlat.step`` (JSON) say, beside classes, heads and letterbox, with
    which ``gain`` and ``divisor`` each step of the schedule runs, and the ``states``: shape without the
    batch, and ``start``, a number per channel (V(0)) or null for 0. :func:`run_onnx_steps` is such a loop.

    :param snn: of convolutions, signed or plain neurons, max-pools of counts, nearest upsampling,
        concatenations and heads, in float32. Spikes are those of :func:`~sj_lowlat.simulation.simulate` but
        where a sum that onnxruntime adds in another order crosses a border between two levels
    :param path: the file, ``.onnx``; written whole or not at all
    :param schedule: by default the network's own
    :return: the file
    :raises ConversionError: for a layer that cannot be written, by its name
    :raises InputError: for a network or a schedule that cannot be written, or without the library onnx
    """
    onnx = library()
    snn, path = unwrapped(snn), Path(path)
    if not isinstance(snn, SpikingNetwork) or snn.info.precision != "fp32" or snn.info.input_shape is None:
        raise InputError("give a spiking network in fp32 that knows the shape of its images")
    plan = schedule_for(snn, schedule)
    found, helper = _Step(snn, plan), onnx.helper
    number = partial(helper.make_tensor_value_info, elem_type=onnx.TensorProto.FLOAT)
    nodes = [helper.make_node(kind, ins, [out], name=out, **about) for kind, ins, out, about in found.nodes]
    inputs = [number("images", shape=["N", *snn.info.input_shape])]
    inputs += [number(name, shape=[]) for name in ("gain", "divisor")]
    inputs += [number(name, shape=["N", *shape]) for name, (shape, _) in found.states.items()]
    outputs = [number(name, shape=["N", None, None, None]) for name in (*found.heads, *found.spikes)]
    outputs += [number(f"{name}.next", shape=["N", *shape]) for name, (shape, _) in found.states.items()]
    constants = [onnx.numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in found.constants.items()]
    about = {
        "classes": list(snn.info.class_names),
        "heads": snn.info.to_json()["heads"],
        "letterbox": "RGB in [0, 1]; scaled to fit, centred, the border 0.5",
        "schedule": str(plan),
        "steps": [
            {
                "gain": plan.gain * (now < plan.time_steps),
                "divisor": plan.gain * min(now + 1, plan.time_steps),
            }
            for now in range(plan.total)
        ],
        "states": {
            name: {"shape": [*shape], "start": start} for name, (shape, start) in found.states.items()
        },
        "spikes": found.spikes,
    }
    graph = helper.make_graph(nodes, "sj_lowlat_step", inputs, outputs, constants)
    return checked(onnx, model_of(onnx, graph, {_ABOUT: json.dumps(about)}), path)


def run_onnx_steps(path: str | Path, images: Tensor) -> Iterator[dict[str, Tensor]]:
    """Run a file of :func:`write_onnx_step` in onnxruntime, through the steps of its schedule.

    :param images: ``[N, C, H, W]`` in [0, 1]
    :return: of each step the heads' maps and the spikes of each layer, by name
    :raises InputError: without the library onnxruntime, for another file, or images of another shape
    """
    session = opened(path)
    about = session.get_modelmeta().custom_metadata_map.get(_ABOUT)
    if about is None:
        raise InputError(f"{path} holds no time step: give a file that write_onnx_step wrote")
    record = parse_json(about, str(path), "a file that write_onnx_step wrote")
    names = [output.name for output in session.get_outputs()]
    states: dict[str, np.ndarray] = {}
    for name, state in record["states"].items():
        start = np.reshape(np.float32(state["start"] or 0), (-1, 1, 1))
        states[name] = np.broadcast_to(start, (len(images), *state["shape"])).astype(np.float32)
    for step in record["steps"]:
        feed = {"images": images.numpy(), **states}
        feed |= {key: np.asarray(value, dtype=np.float32) for key, value in step.items()}
        found = dict(zip(names, fed(session, path, feed), strict=True))
        states = {name: found.pop(f"{name}.next") for name in states}
        yield {name: torch.from_numpy(value) for name, value in found.items()}
