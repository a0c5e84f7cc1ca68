"""Draws what exported files hold, read back from the files: a picture for the page of each format."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nir
import numpy as np
import onnx
import torch
from graph_drawing import ENDS, NEURONS, OTHERS, WEIGHTS, Node, draw
from torch import nn

from sj_lowlat.conversion import convert, prepare
from sj_lowlat.export import speck_plan, to_sinabs, write_integers, write_nir, write_onnx, write_onnx_step

Graph = dict[str, Node]
FOLDER = Path(__file__).parent / "generated"


class Pyramid(nn.Module):
    """Two scales, a max-pool, and two heads, of which one reads both."""

    def __init__(self) -> None:
        super().__init__()
        self.input_shape = (3, 32, 32)
        self.stem, self.stem_act, self.pool = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        self.deep, self.deep_act = nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU()
        self.up, self.coarse, self.fine = (
            nn.Upsample(scale_factor=2),
            nn.Conv2d(16, 9, 1),
            nn.Conv2d(24, 9, 1),
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.pool(self.stem_act(self.stem(x)))
        deep = self.deep_act(self.deep(x))
        return self.coarse(deep), self.fine(torch.cat([self.up(deep), x], 1))


class Branches(nn.Module):
    """A branch that is added, a pool, and two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.input_shape = (3, 32, 32)
        self.stem, self.act = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU()
        self.wide, self.narrow, self.joined = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1), nn.ReLU()
        self.pool = nn.AvgPool2d(2)
        self.map, self.flat, self.score = nn.Conv2d(8, 9, 1), nn.Flatten(), nn.Linear(512, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.act(self.stem(x))
        x = self.pool(self.joined(self.wide(x) + self.narrow(x)))
        return self.map(x), self.score(self.flat(x))


class Chain(nn.Sequential):
    """A chain with the layers of the traffic detector of ``benchmarks/speck.py``."""

    input_shape = (3, 128, 128)
    cores = ((2, 1, 1), (8, 3, 2), (16, 3, 2), (32, 3, 1), (64, 3, 2), (64, 3, 1), (64, 3, 1), (32, 3, 1),
             (32, 3, 1))  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        before = 3
        for channels, size, stride in self.cores:
            self.extend([nn.Conv2d(before, channels, size, stride, size // 2), nn.ReLU()])
            before = channels
        self.append(nn.Conv2d(before, 45, 1))


def quantised() -> nn.Module:
    return prepare(Pyramid(), levels=4, calibration=torch.rand(4, 3, 32, 32))


def onnx_graph(folder: Path) -> Graph:
    """The Quant ANN's nodes, those of an activation in one box, as in the file."""
    return of_onnx(
        write_onnx(quantised(), folder / "quant.onnx"), ("_scaled", "_shifted", "_level", "_clipped")
    )


def step_graph(folder: Path) -> Graph:
    """The nodes of one step, those of a layer in one box, with the inputs and states that they read."""
    path = write_onnx_step(convert(quantised()), folder / "step.onnx")
    parts = "sum image brought charged above floor counted level due gone total rate v count sent next"
    return of_onnx(path, [f".{part}" for part in parts.split()])


def of_onnx(path: Path, suffixes: Sequence[str]) -> Graph:
    """A file's nodes; those whose names differ by suffixes only share a box.

    :param path: an ONNX file
    :param suffixes: what is cut off names
    """

    def layer(name: str) -> str:
        while cut := next((suffix for suffix in suffixes if name.endswith(suffix)), ""):
            name = name.removesuffix(cut)
        return name

    model = onnx.load(path).graph
    constants = {tensor.name for tensor in model.initializer}
    kinds: dict[str, list[str]] = {}
    inputs: dict[str, list[str]] = {}
    for node in model.node:
        box = layer(node.output[0])
        kinds.setdefault(box, []).append(node.op_type)
        inputs.setdefault(box, []).extend(name for name in node.input if name and name not in constants)
    arguments = [value.name for value in model.input]
    found = {"images": Node("images\ninput", ENDS)}
    for name, ops in kinds.items():
        colour = WEIGHTS if "Conv" in ops else NEURONS if "Floor" in ops else OTHERS
        lines = [name, *(" ".join(ops[start : start + 2]) for start in range(0, len(ops), 2))]
        reads = dict.fromkeys(inputs[name])
        for value in arguments[1:]:
            if value in reads:
                own = value.removeprefix(f"{name}.")
                lines.append(f"input {value}" if own == value else f"state {own}")
        before = dict.fromkeys(layer(value) for value in reads)
        found[name] = Node("\n".join(lines), colour, [box for box in before if box in found and box != name])
    ends = [value.name for value in model.output if value.name in ("coarse", "fine")]
    return found | {f"output {end}": Node(f"{end}\noutput", ENDS, (end,)) for end in ends}


def integers_graph(folder: Path) -> Graph:
    """The rows of the JSON with the shapes of the arrays."""
    path = write_integers(convert(quantised()), folder / "tiny.npz")
    about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    with np.load(path) as file:
        arrays = {name: file[name].shape for name in file}
    colours = {"conv": WEIGHTS, "head": WEIGHTS, "neuron": NEURONS, "output": ENDS}
    found = {"images": Node("images\nuint8", ENDS)}
    for row in about["graph"]:
        own = {key: shape for key, shape in arrays.items() if key.rpartition(".")[0] == row.get("layer")}
        lines = [row["name"], f"op: {row['op']}"] if row["op"] != "output" else ["output"]
        lines += [f"{key.rpartition('.')[2]} {'x'.join(map(str, shape)) or 1}" for key, shape in own.items()]
        found[row["name"]] = Node("\n".join(lines), colours.get(row["op"], OTHERS), row["inputs"])
    return found


def nir_graph(folder: Path) -> Graph:
    """Nodes and edges that ``nir.read`` gives, with the shape of what leaves a node."""
    snn = convert(Branches(), neuron="residual-fix", scale="max", calibration=torch.rand(4, 3, 32, 32))
    graph = nir.read(write_nir(snn, folder / "example.nir", "8+0c8"))
    colours = {"IF": NEURONS, "Conv2d": WEIGHTS, "Affine": WEIGHTS, "Input": ENDS, "Output": ENDS}
    waiting, found = dict(graph.nodes), Graph()
    while waiting:
        reads = {name: [a for a, b in graph.edges if b == name] for name in waiting}
        name = next(name for name in waiting if all(first in found for first in reads[name]))
        node = waiting.pop(name)
        kind, shape = type(node).__name__, "x".join(str(int(side)) for side in node.output_type["output"])
        lines = [name, kind, shape]
        if kind == "Conv2d":
            lines[1] += f" {node.weight.shape[2]}x{node.weight.shape[3]} / {int(node.stride[0])}"
        if kind == "IF":
            lines[2:2] = [f"V(0) = {node.metadata['v_initial'][0]:g}", f"reset: {node.metadata['reset']}"]
        found[name] = Node("\n".join(lines), colours.get(kind, OTHERS), reads[name])
    return found


def sinabs_graph(_folder: Path) -> Graph:
    """Layers of ``to_sinabs``, each convolution with its neurons, and the core of Speck that holds them."""
    snn = convert(Chain(), neuron="residual-fix", scale="max", calibration=torch.rand(4, 3, 128, 128))
    cores = {row.layer: f"core {row.core}" for row in speck_plan(snn).layers}
    layers = list(to_sinabs(snn, "8+0c8").named_children())
    found, last = {"images": Node("images", ENDS)}, "images"
    for name, layer in layers:
        if isinstance(layer, nn.Conv2d):
            held = cores.get(name, "host")
            window = f"{layer.kernel_size[0]}x{layer.kernel_size[0]} / {layer.stride[0]}"
            text = "\n".join((held, window, f"{layer.out_channels} maps"))
            found[name] = Node(text, ENDS if held == "host" else WEIGHTS, (last,))
            last = name
        else:
            found[last] = replace(found[last], text=f"{found[last].text}\n{type(layer).__name__}")
    return found


PICTURES: dict[str, tuple[Callable[[Path], Graph], float, float]] = {
    "onnx_graph": (onnx_graph, 1.1, 2.4), "onnx_step_graph": (step_graph, 1.12, 3.4),
    "integers_graph": (integers_graph, 1.2, 2.4), "nir_graph": (nir_graph, 1.3, 2.4),
    "sinabs_graph": (sinabs_graph, 1.05, 1.4),
}  # fmt: skip


def pictures(folder: Path) -> None:
    """Draw all of them."""
    for name, (graph, width, height) in PICTURES.items():
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as files:
            draw(graph(Path(files)), folder / f"{name}.png", width, height)


def setup(app: Any) -> None:
    """As an extension of Sphinx: draw before the pages are read."""
    app.connect("builder-inited", lambda _app: pictures(Path(app.srcdir) / "generated"))


if __name__ == "__main__":
    pictures(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
