"""Places of boxes, labels, spikes and curves in the page's drawings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from sj_lowlat.detect import Detections
from sj_lowlat.detect.draw import class_colour

WIDTH = 640.0  # of a chart, in its own units
_LETTER = 0.6  # width of a letter over its size, more than any common font's mean


@dataclass(frozen=True)
class Box:
    """A detection and its label, in pixels of the picture: corner and size of both."""

    text: str
    colour: str
    ink: str
    box: tuple[float, float, float, float]
    label: tuple[float, float, float, float]


def boxes(found: Detections, names: Sequence[str], width: int, height: int) -> list[Box]:
    """Boxes with labels that do not hide each other where there is room, the best last, on top.

    :param width: of the picture, like ``height``
    """
    size = label_size(width, height)
    placed: list[tuple[float, float, float, float]] = []
    drawn = []
    for place in found.scores.argsort(descending=True, stable=True).tolist():
        x1, y1, x2, y2 = (float(side) for side in found.boxes[place])
        x1, x2 = max(0.0, x1), min(float(width), x2)
        y1, y2 = max(0.0, y1), min(float(height), y2)
        label = int(found.labels[place])
        text = f"{names[label]} {float(found.scores[place]):.2f}"
        wide, high = min(_LETTER * size * len(text) + 0.4 * size, width), 1.3 * size
        left = min(x1, width - wide)
        tries = [(left, y) for y in (y1 - high, y1, y2, y2 - high, y1 + high)]
        spots = [(x, y, wide, high) for x, y in tries if 0 <= y <= height - high] or [(left, 0.0, wide, high)]
        spot = next((spot for spot in spots if not any(_meet(spot, other) for other in placed)), spots[0])
        placed.append(spot)
        red, green, blue = class_colour(label)
        ink = "#000" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#fff"
        drawn.append(
            Box(text, f"rgb({red} {green} {blue})", ink, (x1, y1, max(0.0, x2 - x1), max(0.0, y2 - y1)), spot)
        )
    return drawn[::-1]


def label_size(width: int, height: int) -> float:
    """Height of letters in a picture, in its pixels."""
    return max(width, height) / 38


def _meet(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


def step_places(steps: int) -> list[float]:
    """Places of the steps 1 to T across a chart."""
    return [WIDTH * (step + 0.5) / steps for step in range(steps)]


def labelled(places: Sequence[float], gap: float = 24.0) -> set[int]:
    """Which of ascending places get a label: the last one, and others that keep a distance."""
    kept = [len(places) - 1]
    for index in reversed(range(len(places))):
        if places[kept[-1]] - places[index] >= gap:
            kept.append(index)
    return set(kept)


def raster_paths(spikes: Tensor, row: float = 11.0) -> tuple[str, str]:
    """Spikes as SVG paths, those that are positive and those that are negative; a burst is a taller bar.

    :param spikes: ``[T, S]``
    :param row: height of a neuron
    """
    places, most = step_places(len(spikes)), max(float(spikes.abs().max()), 1.0)
    paths: dict[bool, list[str]] = {True: [], False: []}
    for step, neuron in spikes.nonzero().tolist():
        value = float(spikes[step, neuron])
        tall = (0.3 + 0.6 * abs(value) / most) * row
        paths[value > 0].append(f"M{places[step]:.1f} {(neuron + 0.5) * row - tall / 2:.1f}v{tall:.1f}")
    return "".join(paths[True]), "".join(paths[False])


def trace_points(potentials: Tensor, height: float) -> tuple[list[str], float, float]:
    """Potentials as the points of SVG polylines, one a neuron, and the places of 0 and of the threshold.

    :param potentials: in thresholds, ``[T, S]``
    :param height: of the chart
    """
    low, high = min(0.0, float(potentials.min())) - 0.1, max(1.0, float(potentials.max())) + 0.1
    places = step_places(len(potentials))

    def down(value: float) -> float:
        return round(height * (high - value) / (high - low), 1)

    lines = [
        " ".join(f"{x:.1f},{down(value)}" for x, value in zip(places, trace, strict=True))
        for trace in potentials.T.tolist()
    ]
    return lines, down(0.0), down(1.0)


@dataclass(frozen=True)
class Curve:
    """Scores over steps in a chart: its line, marks, and lines of the grid."""

    line: str
    points: dict[int, tuple[float, float, float]]  # step -> across, down, score
    labels: list[tuple[float, int]]  # across, step
    levels: list[tuple[float, float]]  # down, score


def curve(scores: Sequence[tuple[int, float]], height: float) -> Curve:
    """A curve of (steps, score from 0 to 1) pairs, ascending."""
    last, best = scores[-1][0], max(score for _, score in scores)
    stride = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 1.0) if best / s <= 6)
    top = stride * (int(best / stride) + 1)
    points = {step: (WIDTH * step / last, height * (1 - score / top), score) for step, score in scores}
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points.values())
    levels = [(height * (1 - i * stride / top), i * stride) for i in range(round(top / stride) + 1)]
    kept = labelled([x for x, _, _ in points.values()])
    labels = [(x, step) for i, (step, (x, _, _)) in enumerate(points.items()) if i in kept]
    return Curve(line, points, labels, levels)
