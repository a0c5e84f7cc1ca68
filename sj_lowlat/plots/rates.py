"""Firing rates, or other figures, of the layers of one or several networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from sj_lowlat.errors import InputError
from sj_lowlat.plots.style import PALETTE, new_figure, quiet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_rates(
    rates: Mapping[str, Mapping[str, float]],
    title: str | None = None,
    ylabel: str = "spikes per neuron and step",
    stacked: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Draw a group of bars for each layer, one bar per network.

    A layer that a network does not have leaves a gap.

    :param rates: network label -> layer name -> rate, as of ``FiringRateMonitor.rates()``; layers stand in
        the order of their first appearance
    :param ylabel: what the rates are, with their unit
    :param stacked: bars of a layer stand on each other, not side by side
    :param ax: axes to draw into; default: a new figure
    :raises InputError: if there is nothing to draw
    """
    layers = list(dict.fromkeys(name for record in rates.values() for name in record))
    if not layers:
        raise InputError(
            "plot_rates got no rates; give {label: {layer: rate}}, e.g. from FiringRateMonitor.rates()."
        )
    beside = 1 if stacked else len(rates)
    axes = ax or new_figure(width=max(5.0, 1.8 + 0.16 * len(layers) * (beside + 1))).add_subplot()
    width = 0.8 / beside
    base = dict.fromkeys(layers, 0.0)
    for index, (label, record) in enumerate(rates.items()):
        offset = 0.0 if stacked else (index - (beside - 1) / 2) * width
        drawn = [(place + offset, layer) for place, layer in enumerate(layers) if layer in record]
        axes.bar(
            [place for place, _ in drawn],
            [record[layer] for _, layer in drawn],
            width=width,
            bottom=[base[layer] for _, layer in drawn],
            label=label,
            color=PALETTE[index % len(PALETTE)],
        )
        if stacked:
            base |= {layer: base[layer] + record[layer] for _, layer in drawn}
    tilted: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(layers)), layers, **(tilted if max(map(len, layers)) > 3 else {}))
    axes.tick_params(axis="x", length=0)
    axes.set_xlabel("layer")
    axes.set_ylabel(ylabel)
    axes.set_title(title or "", loc="left")
    if len(rates) > 1:
        axes.legend(frameon=False)
    quiet(axes)
    return cast("Figure", axes.figure)
