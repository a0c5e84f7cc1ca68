"""Tables 1 and 2 of Qiu & Zhu on the subsets at hand; what table1_coco.py and table2_voc.py share.

Columns are steps in all. A network with ReLUs is converted as the paper does it (scale: 99.9 % of the
activations on calibration photos), and one long run gives all of its columns, since read-out t of a run is
what a run of t steps gives; it takes few images. A network trained for L levels runs for T = L steps, and by
its schedule with flush.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import Runs, Schedule, arguments, costs, curve, markdown, neurons_for, save_figure
from inputs import Photos, levels_of, named, open_network


@dataclass(frozen=True)
class Table:
    """What the two tables differ in.

    :param photos: opens the photos of ``--data``
    :param quoted: rows of the paper: label, then steps -> mAP50
    """

    title: str
    name: str
    photos: Callable[[Path], Photos]
    quoted: Mapping[str, Mapping[int, float]]


@dataclass
class Row:
    """One line, from one run or several; points are steps in all -> mAP50, and mAP where there is one."""

    label: str
    images: int
    record: Mapping[str, Any]
    points: dict[int, tuple[float, float | None]]


def points_of(record: Mapping[str, Any]) -> dict[Any, tuple[float, float | None]]:
    """Steps -> mAP50 and mAP."""
    strict = curve(record, strict=True)
    return {steps: (value, strict.get(steps)) for steps, value in curve(record).items()}


def cell(point: tuple[float, float | None] | None) -> str:
    """``mAP50 / mAP`` in percent."""
    return "" if point is None else " / ".join(f"{value:.1f}" for value in point if value is not None)


def relu_rows(runs: Runs, name: str, spec: str, photos: Photos, steps: list[int]) -> list[Row]:
    """The paper's setting: one run to the last column for each neuron."""
    rows = []
    for neuron, label in neurons_for(spec).items():
        record = runs(f"{name} {neuron}, {len(photos)} images, {steps[-1]} steps", spec, photos, neuron,
                      **Schedule(steps[-1]).options(None, steps))  # fmt: skip
        rows.append(Row(f"{name}, {label}", len(photos), record, points_of(record)))
    return rows


def quant_rows(
    runs: Runs, name: str, spec: str, photos: Photos, steps: list[int], flushed: Schedule
) -> list[Row]:
    """A network trained for L levels: T = L for each neuron, and the schedule with flush."""
    levels = levels_of(spec)
    assert levels is not None
    plans = [(neuron, label, Schedule(levels)) for neuron, label in neurons_for(spec).items()]
    plans.append(("signed", f"signed, {flushed}", flushed))
    rows = []
    for neuron, label, schedule in plans:
        readout = {step for step in steps if step <= schedule.total} | {schedule.total}
        record = runs(f"{name} {neuron} {schedule}, {len(photos)} images", spec, photos, neuron,
                      **schedule.options(levels, readout))  # fmt: skip
        rows.append(Row(f"{name}, {label}", len(photos), record, points_of(record)))
    return rows


def recommended(schedule: Mapping[str, int] | None, levels: int, flush: int) -> Schedule:
    """The schedule that a network ships with; else L steps and then ``flush``."""
    if not schedule or "flush" not in schedule:
        return Schedule(levels, flush)
    return Schedule(schedule["time_steps"], schedule["flush"], schedule.get("burst", 1))


def parse(table: Table, doc: str | None, argv: Sequence[str] | None) -> argparse.Namespace:
    """The options of both tables."""
    parser = arguments(doc, table.name)
    parser.add_argument("--networks", nargs="+", type=named, required=True, metavar="NAME=FOLDER")
    parser.add_argument(
        "--steps", type=int, nargs="+", default=[2, 4, 8, 16, 32, 64, 100, 150, 200, 250, 300]
    )
    parser.add_argument("--flush", type=int, default=4, help="of the signed neurons")
    parser.add_argument(
        "--schedule",
        nargs="+",
        type=named,
        default=[],
        metavar="NAME=8+4",
        help="instead of L steps and FLUSH",
    )
    parser.add_argument("--long-images", type=int, default=60, help="for the long runs of ReLU networks")
    return parser.parse_args(argv)


def make(table: Table, doc: str | None, argv: Sequence[str] | None = None) -> None:
    """Score all networks, print the table, draw the curves."""
    from sj_lowlat.plots import plot_map_curve
    from sj_lowlat.plots.style import PALETTE

    args = parse(table, doc, argv)
    steps = sorted(set(args.steps))
    every = table.photos(args.data)
    photos, few = (
        every.spaced(args.images),
        every.spaced(min(args.long_images, args.images or args.long_images)),
    )
    chosen = {name: Schedule.parse(text) for name, text in args.schedule}
    runs, rows, beside = Runs(args), [], []
    networks = [("darknet teacher", str(args.data / "darknet" / "yolov3-tiny.weights")), *args.networks]
    for name, spec in networks:
        levels = levels_of(spec)
        kind = (
            name
            if name == networks[0][0]
            else f"{name}, {f'Quant ANN, L = {levels}' if levels else 'ReLU ANN'}"
        )
        sets = [photos] if levels else [photos, few]
        for part in sets:
            point = points_of(runs(f"{name} ANN, {len(part)} images", spec, part))[None]
            beside.append((kind, str(len(part)), cell(point)))
    for name, spec in args.networks:
        levels = levels_of(spec)
        if levels is not None:
            schedule = getattr(open_network(spec), "schedule", None)  # a shipped network knows its own
            flushed = chosen.get(name) or recommended(schedule, levels, args.flush)
            rows += quant_rows(runs, name, spec, photos, steps, flushed)
            continue
        rows += relu_rows(runs, name, spec, few, steps)

    print(f"\n{table.title}: {every.label} (rows say how many of {len(every)} images), {args.size} px\n")
    strict = every.protocol == "coco"
    print(markdown(("ANN", "images", "mAP50 / mAP" if strict else "mAP50"), beside) + "\n")
    head = ["mAP50 / mAP at steps in all" if strict else "mAP50 at steps in all", "images", *map(str, steps)]
    lines = [
        [row.label, str(row.images), *(cell(row.points.get(step)) for step in steps),
         f"{cell(row.points[max(row.points)])} at {max(row.points)}", *costs(row.record)]
        for row in rows
    ]  # fmt: skip
    for label, quoted in table.quoted.items():
        last = max(quoted)
        cells = [f"{quoted[step]:g}" if step in quoted else "" for step in steps]
        lines.append([label, "paper's", *cells, f"{quoted[last]:g} at {last}", "", ""])
    print(markdown([*head, "at the end", "spikes/neuron", "energy/ANN"], lines))
    runs.save()
    curves = {
        f"{row.label} ({row.images})": [(step, point[0]) for step, point in row.points.items()]
        for row in rows
    }
    curves |= {label: list(quoted.items()) for label, quoted in table.quoted.items() if len(quoted) > 1}
    figure = plot_map_curve(curves, title=f"{table.title} (images in brackets)")
    axes = figure.axes[0]
    for line in axes.lines[len(PALETTE) :]:  # colours and markers start anew
        line.set(linestyle="--", markerfacecolor="white")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save_figure(figure, args.figure)
