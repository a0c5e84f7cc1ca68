"""Draws a NIR file as a graph: the nodes and edges that ``nir.read`` gives, for the page of the format."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import nir
import torch
from matplotlib.figure import Figure
from torch import nn

from sj_lowlat.conversion import convert
from sj_lowlat.export import write_nir

COLOURS = {"IF": "#D55E00", "Conv2d": "#0072B2", "Affine": "#0072B2", "Input": "#666666", "Output": "#666666"}


class Example(nn.Module):
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


def example() -> Any:
    """The graph of a small network, written and read."""
    torch.manual_seed(0)
    snn = convert(Example(), neuron="residual-fix", scale="max", calibration=torch.rand(4, 3, 32, 32))
    with tempfile.TemporaryDirectory() as folder:
        return nir.read(write_nir(snn, Path(folder) / "example.nir", "8+0c8"))


def depths(graph: Any) -> dict[str, int]:
    """Node -> edges on the longest way from the input."""
    found = dict.fromkeys(graph.inputs, 0)
    for _ in graph.nodes:
        for first, second in graph.edges:
            if first in found:
                found[second] = max(found.get(second, 0), found[first] + 1)
    return found


def places(graph: Any) -> dict[str, tuple[int, float]]:
    """Node -> column and height: beside those that it reads, apart from others of its column."""
    depth, place = depths(graph), dict[str, tuple[int, float]]()
    for column in range(max(depth.values()) + 1):
        heights = {}
        for name in sorted(name for name in graph.nodes if depth[name] == column):
            read = [place[first][1] for first, second in graph.edges if second == name]
            heights[name] = sum(read) / max(len(read), 1)
        names = sorted(heights, key=lambda name: -heights[name])
        middle = (len(names) - 1) / 2
        for row, name in enumerate(names):
            place[name] = column, heights[name] if len(names) == 1 else middle - row
    return place


def caption(name: str, node: Any) -> str:
    """Name, kind and the shape of what leaves it."""
    kind, shape = type(node).__name__, "x".join(str(int(side)) for side in node.output_type["output"])
    about = {"Conv2d": lambda: f" {node.weight.shape[2]}x{node.weight.shape[3]} / {int(node.stride[0])}"}
    more = about.get(kind, lambda: "")()
    if kind == "IF":
        more = f"\nV(0) = {node.metadata['v_initial'][0]:g}\nreset: {node.metadata['reset']}"
    return f"{name}\n{kind}{more}\n{shape}"


def draw(graph: Any, path: Path) -> None:
    """Draw from left to right.

    :param path: the picture
    """
    place = places(graph)
    columns = max(x for x, _ in place.values()) + 1
    figure = Figure(figsize=(1.5 * columns, 2.4), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    boxes = {}
    for name, (x, y) in place.items():
        node = graph.nodes[name]
        colour = COLOURS.get(type(node).__name__, "#009E73")
        box = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": colour, "linewidth": 1.4}
        text = axes.text(x, y, caption(name, node), ha="center", va="center", fontsize=8, bbox=box)
        boxes[name] = text.get_bbox_patch()
    for first, second in graph.edges:
        ends = {"patchA": boxes[first], "patchB": boxes[second], "shrinkA": 1, "shrinkB": 1}
        arrow = {"arrowstyle": "->", "color": "#666666", **ends}
        axes.annotate("", place[second], place[first], arrowprops=arrow)
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(-1, 1)
    axes.axis("off")
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path)


def setup(app: Any) -> None:
    """As an extension of Sphinx: draw before the pages are read."""
    path = Path(app.srcdir) / "generated" / "nir_graph.png"
    app.connect("builder-inited", lambda _app: draw(example(), path))


if __name__ == "__main__":
    draw(example(), Path(__file__).parent / "generated" / "nir_graph.png")
