"""Figures of the speed benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from competitors import MOST_STEPS
from timing import KINDS, REST

from sj_lowlat.plots import plot_rates
from sj_lowlat.plots.style import GREY, MARKERS, PALETTE, new_figure, quiet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = dict(zip((*KINDS, REST), (PALETTE[0], PALETTE[1], PALETTE[2], "#bbbbbb"), strict=True))
_TITLES = {
    "strided": "strided network, IF neurons with residual fix",
    "shipped": "shipped network, signed neurons, exact max-pools",
}


def draw_cases(setting: Mapping[str, Any]) -> Figure:
    """Milliseconds a step of every competitor, divided into kinds of layers.

    :param setting: a record of ``speed.one_setting``
    """
    tables = {title: setting[name] for name, title in _TITLES.items() if name in setting}
    heights = [len(rows) for rows in tables.values()] or [1]
    figure = new_figure(8.5, 1.4 + 0.34 * sum(heights))
    grid = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (title, rows) in zip(grid, tables.items(), strict=False):
        _bars(axes, rows)
        axes.set_title(
            f"{title}: {setting['size']} px, batch {setting['batch']}", loc="left", fontsize="medium"
        )
    grid[-1].set_xlabel("milliseconds per step (ANN: per run)")
    if tables:
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), frameon=False)
    return figure


def _bars(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    for place, row in enumerate(rows):
        whole, left = row.get("ms_per_step", row["ms"]["median"]), 0.0
        for kind, part in (row.get("shares") or {}).items():
            label = kind if place == 0 else None
            axes.barh(place, part * whole, left=left, color=_COLOURS[kind], label=label, height=0.7)
            left += part * whole
        if not left:
            axes.barh(place, whole, color=GREY, height=0.7)
        faster = f"  ({row['times_as_fast']:.2f} times as fast)" if place and "times_as_fast" in row else ""
        axes.annotate(
            f"{whole:.1f}{faster}",
            (whole, place),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.4)
    axes.set_xlim(left=0)
    axes.tick_params(axis="y", length=0)
    quiet(axes, grid="x")


def draw_grid(record: Mapping[str, Any]) -> Figure:
    """Milliseconds per image and step at the most steps of the grid, by size and batch."""
    steps = max(setting["steps"] for setting in record["settings"])
    times: dict[str, dict[str, float]] = {}
    for setting in record["settings"]:
        if setting["steps"] == steps:
            place = f"{setting['size']} px, batch {setting['batch']}"
            for row in setting["strided"]:
                per_step = row.get("ms_per_step", row["ms"]["median"])
                times.setdefault(row["name"], {})[place] = per_step / setting["batch"]
    title = f"strided network, T = {steps} (SpikingJelly: at most {MOST_STEPS})"
    figure = plot_rates(times, title, "milliseconds per image and step (ANN: per image)")
    figure.axes[0].set_xlabel("")
    return figure


def draw_kernels(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Nanoseconds per neuron and step of every kernel, for every layer.

    :param rows: records of ``kernels.measure``
    """
    from matplotlib.ticker import LogLocator, NullLocator

    names = list(dict.fromkeys(name for row in rows for name in row["kernels"]))
    figure = new_figure(8.5, 1.4 + 0.28 * len(rows))
    axes = figure.add_subplot()
    for index, name in enumerate(names):
        points = [
            (row["kernels"][name]["ns_per_neuron_step"], place)
            for place, row in enumerate(rows)
            if name in row["kernels"]
        ]
        axes.plot(*zip(*points, strict=True), MARKERS[index], color=PALETTE[index], label=name)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yticks(range(len(rows)), [row["case"] for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("nanoseconds per neuron and step (copy: as many bytes)")
    figure.legend(loc="outside upper right", ncols=len(names), frameon=False)
    quiet(axes, grid="both")
    return figure
