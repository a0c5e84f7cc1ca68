"""The loss of a training, and what the network scores meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sj_lowlat.errors import InputError
from sj_lowlat.plots.scores import Curve
from sj_lowlat.plots.style import PALETTE, new_figure, quiet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDE = 8.0  # from such a ratio on, a logarithmic axis shows more


def plot_training(loss: Curve, map50: Curve = (), title: str | None = None) -> Figure:
    """Draw the loss against the iteration, and mAP50 on an axis of its own.

    :param loss: (iteration, loss) pairs, by rising iteration
    :param map50: (iteration, mAP50 in percent) pairs
    :raises InputError: if there is no loss
    """
    if not loss:
        raise InputError("plot_training got no loss; give at least one (iteration, loss) pair")
    figure = new_figure(width=7.0, height=4.0)
    axes = figure.add_subplot()
    values = [value for _, value in loss]
    lines = axes.plot(*zip(*loss, strict=True), color=PALETTE[0], linewidth=1.5, label="loss")
    wide = min(values) > 0 and max(values) > _WIDE * min(values)
    if wide:
        axes.set_yscale("log")
    axes.set_xlabel("iteration")
    axes.set_ylabel("loss (log scale)" if wide else "loss")
    axes.set_title(title or "", loc="left", fontsize="medium")
    if len(loss) == 1:
        lines[0].set_marker("o")
    quiet(axes)
    if map50:
        right = axes.twinx()
        lines += right.plot(
            *zip(*map50, strict=True), "o-", color=PALETTE[1], linewidth=1.8, markersize=5, label="mAP50"
        )
        right.set_ylabel("mAP50 (%)")
        right.set_ylim(bottom=0)
        right.spines["top"].set_visible(False)
        axes.legend(handles=lines, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    return figure
