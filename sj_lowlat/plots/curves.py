"""mAP against the number of time steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sj_lowlat.errors import InputError
from sj_lowlat.plots.style import GREY, MARKERS, PALETTE, new_figure, quiet, widen

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Points = Sequence[tuple[int, float]]

_LATENCY = "latency in time steps (flush included), log scale"
_LINES = ("-", "--", ":", "-.")


def plot_map_curve(
    curves: Mapping[str, Points],
    ann: float | None = None,
    quant: float | None = None,
    title: str | None = None,
    context: Mapping[str, Points] | None = None,
) -> Figure:
    """Draw one line per neuron type: mAP50 at every read-out, on a logarithmic time axis.

    :param curves: label -> (latency in steps, mAP50 in percent) pairs, in any order
    :param ann: mAP50 of the ANN in percent, a dashed level
    :param quant: mAP50 of the Quant-ReLU ANN in percent, a dotted level
    :param context: further curves, thin and grey behind the others and not named: more than five colours
        are hard to tell apart
    :raises InputError: if there is no curve, a curve has no point, or a latency is not positive
    """
    if not curves:
        raise InputError("plot_map_curve got no curve; give {label: [(steps, map50), ...]}.")
    figure = new_figure()
    axes = figure.add_subplot()
    for index, (label, points) in enumerate(curves.items()):
        _line(axes, label, points, index)
    for points in (context or {}).values():
        axes.plot(*zip(*sorted(points), strict=True), color=GREY, alpha=0.35, linewidth=1, zorder=0)
    for level, label, line in ((ann, "ANN", "--"), (quant, "Quant ANN", ":")):
        if level is not None:
            axes.axhline(level, color=GREY, linestyle=line, linewidth=1.5, label=f"{label} ({level:.1f})")
    every = [*curves.values(), *(context or {}).values()]
    _dress(axes, {steps for points in every for steps, _ in points})
    axes.set_title(title or "", loc="left")
    axes.set_xlabel(_LATENCY)
    axes.set_ylabel("mAP50 (%)")
    widen(figure, axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5)))
    return figure


def plot_map_panels(
    panels: Mapping[str, Mapping[tuple[str, str], Points]],
    title: str | None = None,
    columns: int = 3,
    xlabel: str = _LATENCY,
) -> Figure:
    """Draw several sets of curves side by side on shared axes, with one legend.

    :param panels: title of a panel -> (what, of which network) -> points as of :func:`plot_map_curve`;
        colour and marker tell the first apart, the line style the second
    :raises InputError: as :func:`plot_map_curve`
    """
    if not panels or not all(panels.values()):
        raise InputError(
            "plot_map_panels got no curve; give {panel: {(what, network): [(steps, map50), ...]}}."
        )
    keys = [key for curves in panels.values() for key in curves]
    whats, networks = (list(dict.fromkeys(part)) for part in zip(*keys, strict=True))
    latencies = {steps for curves in panels.values() for points in curves.values() for steps, _ in points}
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(0.6 + 3.0 * columns, 0.8 + 2.6 * rows)
    grid = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
    drawn: dict[str, Line2D] = {}
    for axes, (panel, curves) in zip(grid, panels.items(), strict=False):
        for (what, network), points in curves.items():
            label = f"{what}, {network}" if len(networks) > 1 else what
            drawn[label] = _line(axes, label, points, whats.index(what), networks.index(network))
        axes.set_title(panel, loc="left", fontsize="medium")
    for axes in grid[: len(panels)]:  # now that all curves are in: the axes' limits are shared
        _dress(axes, latencies)
        axes.tick_params(labelbottom=True)  # also above a place without a panel
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    figure.supxlabel(xlabel, fontsize="medium")
    figure.supylabel("mAP50 (%)", fontsize="medium")
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize="large")
    widen(figure, figure.legend(handles=list(drawn.values()), frameon=False, loc="outside right center"))
    return figure


def _line(axes: Axes, label: str, points: Points, style: int, kind: int = 0) -> Line2D:
    """Draw a curve, with colour and marker by ``style``, line style and marker fill by ``kind``."""
    if not points or min(steps for steps, _ in points) <= 0:
        raise InputError(
            f"curve {label!r} is {list(points)!r}; give at least one (steps, map50) pair with steps > 0."
        )
    steps, values = zip(*sorted(points), strict=True)
    colour = PALETTE[style % len(PALETTE)]
    (line,) = axes.plot(
        steps,
        values,
        label=label,
        color=colour,
        marker=MARKERS[style % len(MARKERS)],
        markerfacecolor="white" if kind else colour,
        linestyle=_LINES[kind % len(_LINES)],
        markersize=5,
        linewidth=1.8,
        clip_on=False,
    )
    return line


def _dress(axes: Axes, latencies: set[int]) -> None:
    """Scales, and ticks at the read-outs, without those too near to their left neighbour to be legible."""
    gap = max(1.12, (max(latencies) / min(latencies)) ** 0.06)
    ticks: list[int] = []
    for steps in sorted(latencies):
        if not ticks or steps >= ticks[-1] * gap:
            ticks.append(steps)
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_ylim(bottom=0)
    quiet(axes)
