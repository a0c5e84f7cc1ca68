"""mAP against the number of time steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sj_lowlat.errors import InputError
from sj_lowlat.plots.style import GREY, MARKERS, PALETTE, new_figure, quiet

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_map_curve(
    curves: Mapping[str, Sequence[tuple[int, float]]],
    ann: float | None = None,
    quant: float | None = None,
    title: str | None = None,
) -> Figure:
    """Draw one line per neuron type: mAP50 at every read-out, on a logarithmic time axis.

    :param curves: label -> (latency in steps, mAP50 in percent) pairs, in any order
    :param ann: mAP50 of the ANN in percent, a dashed level
    :param quant: mAP50 of the Quant-ReLU ANN in percent, a dotted level
    :param title: stands above the axes
    :raises InputError: if there is no curve, a curve has no point, or a latency is not positive
    """
    if not curves:
        raise InputError("plot_map_curve got no curve; give {label: [(steps, map50), ...]}.")
    figure = new_figure()
    axes = figure.add_subplot()
    latencies: set[int] = set()
    for index, (label, points) in enumerate(curves.items()):
        if not points or min(steps for steps, _ in points) <= 0:
            raise InputError(
                f"curve {label!r} is {list(points)!r}; give at least one (steps, map50) pair with steps > 0."
            )
        steps, values = zip(*sorted(points), strict=True)
        latencies.update(steps)
        axes.plot(
            steps,
            values,
            label=label,
            color=PALETTE[index % len(PALETTE)],
            marker=MARKERS[index % len(MARKERS)],
            markersize=5,
            linewidth=1.8,
            clip_on=False,
        )
    for level, label, line in ((ann, "ANN", "--"), (quant, "Quant ANN", ":")):
        if level is not None:
            axes.axhline(level, color=GREY, linestyle=line, linewidth=1.5, label=f"{label} ({level:.1f})")
    axes.set_xscale("log", base=2)
    ticks = _ticks(latencies)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("latency in time steps (flush included)")
    axes.set_ylabel("mAP50 (%)")
    if title:
        axes.set_title(title, loc="left")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    quiet(axes)
    return figure


def _ticks(latencies: set[int]) -> list[int]:
    """Label the read-outs themselves, leaving out those too near to their left neighbour to be legible."""
    ticks: list[int] = []
    span = max(latencies) / min(latencies)
    for steps in sorted(latencies):
        if not ticks or steps >= ticks[-1] * max(1.12, span**0.06):
            ticks.append(steps)
    return ticks
