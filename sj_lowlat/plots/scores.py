"""Precision against recall, and precision, recall and F1 against the score of detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sj_lowlat.errors import InputError
from sj_lowlat.plots.style import GREY, PALETTE, new_figure, quiet, widen

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = Sequence[tuple[float, float]]

_MOST = 5  # curves in one frame; more cannot be told apart


def plot_precision_recall(curves: Mapping[str, Curve], title: str | None = None) -> Figure:
    """Draw precision against recall, the first curve thick.

    :param curves: label -> (recall, precision) pairs in percent, by rising recall; at most five
    :raises InputError: if there is no curve, one without points, or more than five
    """
    figure = new_figure(width=5.6)
    axes = figure.add_subplot()
    for index, (label, points) in enumerate(_checked(curves, "plot_precision_recall").items()):
        x, y = zip(*points, strict=True)
        width, front = (2.6, 3) if index == 0 else (1.3, 2)
        axes.plot(x, y, color=PALETTE[index], linewidth=width, zorder=front, label=label)
    _frame(axes, "recall (%)", "precision (%)", title)
    axes.set_xlim(0, 100)
    widen(figure, axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5)))
    return figure


def plot_against_score(
    curves: Mapping[str, Curve], marks: Mapping[str, float] | None = None, title: str | None = None
) -> Figure:
    """Draw what changes with the least score of detections, such as F1, the first curve thick.

    :param curves: label -> (score, percent) pairs, by rising score; at most five
    :param marks: label -> score at which a line is drawn
    :raises InputError: as :func:`plot_precision_recall`
    """
    figure = new_figure(width=5.6)
    axes = figure.add_subplot()
    for index, (label, points) in enumerate(_checked(curves, "plot_against_score").items()):
        x, y = zip(*points, strict=True)
        width, front = (2.6, 3) if index == 0 else (1.5, 2)
        axes.plot(x, y, color=PALETTE[index], linewidth=width, zorder=front, label=label)
    for (label, score), line in zip((marks or {}).items(), ("--", ":", "-."), strict=False):
        axes.axvline(score, color=GREY, linestyle=line, linewidth=1.3, label=label)
    _frame(axes, "least score of a detection", "percent", title)
    axes.set_xlim(0, 1)
    widen(figure, axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5)))
    return figure


def _checked(curves: Mapping[str, Curve], name: str) -> Mapping[str, Curve]:
    if not 0 < len(curves) <= _MOST or not all(curves.values()):
        raise InputError(
            f"{name} got {len(curves)} curves; give 1 to {_MOST}, as {{label: [(x, percent), ...]}}, "
            "each with a point"
        )
    return curves


def _frame(axes: Axes, xlabel: str, ylabel: str, title: str | None) -> None:
    axes.set_ylim(0, 102)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.set_title(title or "", loc="left", fontsize="medium")
    quiet(axes, grid="both")
