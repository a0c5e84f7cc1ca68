"""Graphs of layers as pictures: boxes with text from left to right, and arrows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

WEIGHTS, NEURONS, ENDS, OTHERS = "#0072B2", "#D55E00", "#666666", "#009E73"
BEND = 0.32  # of an arrow over several columns, in its lengths


@dataclass(frozen=True)
class Node:
    """A box.

    :param text: its lines
    :param colour: of its frame
    :param inputs: names of the nodes that it reads
    """

    text: str
    colour: str
    inputs: Sequence[str] = ()


def draw(graph: Mapping[str, Node], path: Path, width: float = 1.5, height: float = 2.4) -> None:
    """Draw from left to right.

    :param graph: name -> node, each behind those that it reads
    :param path: the picture
    :param width: inches per column
    :param height: inches in all
    """
    place = places(graph)
    columns, rows = (max(values) + 1 for values in zip(*place.values(), strict=True))
    figure = Figure(figsize=(width * columns, height), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    boxes = {}
    for name, (x, y) in place.items():
        node = graph[name]
        box = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": node.colour, "linewidth": 1.4}
        text = axes.text(x, y, node.text, ha="center", va="center", fontsize=8, bbox=box)
        boxes[name] = text.get_bbox_patch()
    for name, node in graph.items():
        for first in node.inputs:
            ends = {"patchA": boxes[first], "patchB": boxes[name], "shrinkA": 1, "shrinkB": 1}
            arrow = {"arrowstyle": "->", "color": "#666666", **ends}
            if place[name][0] - place[first][0] > 1:  # around the boxes between
                arrow["connectionstyle"] = f"arc3,rad={-BEND if place[first][1] > 0 else BEND}"
            axes.annotate("", place[name], place[first], arrowprops=arrow)
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(-rows, rows)
    axes.axis("off")
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path)


def places(graph: Mapping[str, Node]) -> dict[str, tuple[int, float]]:
    """Node -> column and height: beside those that it reads, apart from others of its column."""
    depth, place = dict[str, int](), dict[str, tuple[int, float]]()
    for name, node in graph.items():
        depth[name] = max((depth[first] + 1 for first in node.inputs), default=0)
    for column in range(max(depth.values()) + 1):
        heights = {}
        for name in (name for name in graph if depth[name] == column):
            read = [place[first][1] for first in graph[name].inputs]
            heights[name] = sum(read) / max(len(read), 1)
        names = sorted(heights, key=lambda name: -heights[name])
        middle = (len(names) - 1) / 2
        for row, name in enumerate(names):
            place[name] = column, heights[name] if len(names) == 1 else middle - row
    return place
