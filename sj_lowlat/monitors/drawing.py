"""How monitors print and draw themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: Okabe & Ito: told apart by colour-blind readers
_COLOURS = ("#0072B2", "#D55E00", "#E69F00")


def draw_bars(
    names: Sequence[str], series: Mapping[str, Sequence[float]], ylabel: str, ax: Any = None
) -> Any:
    """Draw one bar per layer; several series are stacked and get a legend.

    :param names: the layers
    :param series: label -> one value per layer
    :param ylabel: what is drawn, with its unit
    :param ax: matplotlib axes to draw into; a new figure when not given
    :return: the matplotlib figure
    """
    from matplotlib.figure import Figure

    if ax is None:
        ax = Figure(figsize=(max(5.0, 1.5 + 0.35 * len(names)), 4.0), layout="constrained").add_subplot()
    base = [0.0] * len(names)
    for (label, values), colour in zip(series.items(), _COLOURS, strict=False):
        ax.bar(range(len(names)), values, bottom=base, label=label, color=colour)
        base = [low + value for low, value in zip(base, values, strict=True)]
    ax.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    ax.tick_params(axis="x", length=0)
    ax.set_ylabel(ylabel)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_axisbelow(True)
    ax.grid(axis="y", color="#dddddd", linewidth=0.8)
    if len(series) > 1:
        ax.legend(frameon=False)
    return ax.figure
