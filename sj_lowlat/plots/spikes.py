"""Spikes to look at: layers over time, single neurons, maps of counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from torch import Tensor

from sj_lowlat.errors import InputError
from sj_lowlat.plots.style import GREY, PALETTE, new_figure, quiet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TRACES = 4  # more lines in one frame cannot be told apart


def plot_activity(
    rates: Mapping[str, Sequence[float]], title: str | None = None, ax: Axes | None = None
) -> Figure:
    """Draw a heat map of the spikes per neuron, layers down and steps across.

    :param rates: layer -> spikes per neuron in each step, as of ``LayerSpikes.rates``
    :param ax: axes to draw into; default: a new figure
    :raises InputError: if there is nothing to draw, or layers differ in their steps
    """
    lengths = {len(steps) for steps in rates.values()}
    if len(lengths) != 1 or not lengths.pop():
        raise InputError(
            "plot_activity takes {layer: [spikes per neuron in each step]}, with as many steps each"
        )
    values = list(rates.values())
    steps = len(values[0])
    axes = ax or new_figure(2.4 + max(3.0, 0.5 * steps), 1.2 + 0.3 * len(values)).add_subplot()
    places = range(0, steps, max(1, steps // 12))
    drawn = axes.imshow(values, aspect="auto", cmap="viridis", vmin=0)
    axes.set_xticks(places, [str(place + 1) for place in places])
    axes.set_yticks(range(len(rates)), list(rates))
    axes.tick_params(length=0)
    if steps <= 16:  # beyond, numbers overlap
        for row, layer in enumerate(values):
            for column, value in enumerate(layer):
                colour = "black" if value > 0.6 * drawn.norm.vmax else "white"  # type: ignore[operator]
                axes.text(column, row, f"{value:.2f}", color=colour, ha="center", va="center", fontsize=7)
    axes.set_xlabel("time step")
    axes.set_title(title or "", loc="left")
    axes.spines[:].set_visible(False)
    figure = cast("Figure", axes.figure)
    figure.colorbar(drawn, ax=axes, label="spikes per neuron and step")
    return figure


def plot_neurons(spikes: Tensor, potentials: Tensor, title: str | None = None) -> Figure:
    """Draw single neurons: a raster of their spikes, and below it the potentials of up to four.

    :param spikes: net spikes, ``[T, S]``; negative ones are drawn as crosses, bursts with their number
    :param potentials: behind each step, in thresholds, ``[T, S]``
    :raises InputError: if the shapes differ, or there is no neuron
    """
    if spikes.dim() != 2 or spikes.shape != potentials.shape or not spikes.numel():
        raise InputError(
            f"plot_neurons got spikes {list(spikes.shape)} and potentials {list(potentials.shape)}; give "
            "both as [T, S], with at least one neuron"
        )
    steps, neurons = spikes.shape
    figure = new_figure(max(5.0, 1.6 + 0.45 * steps), 3.2 + 0.16 * neurons)
    raster, traces = figure.subplots(2, sharex=True, height_ratios=(max(1.4, 0.16 * neurons), 1.8))
    for sign, marker, label in ((1, "|", "spike"), (-1, "x", "negative spike")):
        fired = (spikes.sign() == sign).nonzero() + 1
        if len(fired):
            colour = PALETTE[0 if sign > 0 else 1]
            raster.scatter(fired[:, 0], fired[:, 1], marker=marker, s=42, color=colour, label=label)
    for step, neuron in (spikes.abs() > 1).nonzero().tolist():
        number = f"{spikes[step, neuron].abs().item():g}"
        raster.annotate(
            number, (step + 1, neuron + 1), (4, 0), textcoords="offset points", va="center", fontsize=7
        )
    raster.set_ylabel("neuron")
    raster.set_ylim(0, neurons + 1)
    raster.set_title(title or "", loc="left")
    if raster.collections:
        raster.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    shown = [round(i * (neurons - 1) / max(_TRACES - 1, 1)) for i in range(_TRACES)]
    for index, neuron in enumerate(dict.fromkeys(shown)):
        values = potentials[:, neuron].tolist()
        traces.plot(
            range(1, steps + 1), values, "o-", ms=3, color=PALETTE[index], label=f"neuron {neuron + 1}"
        )
    for level in (0.0, 1.0):
        traces.axhline(level, color=GREY, linestyle=":", linewidth=1.2)
    traces.set_ylabel("potential (thresholds)")
    traces.set_xlabel("time step")
    traces.set_xticks(range(1, steps + 1, max(1, steps // 12)))
    traces.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    for axes in (raster, traces):
        quiet(axes, grid="x")
    return figure


def plot_count_maps(
    maps: Tensor, steps: Sequence[int], channels: Sequence[int], title: str | None = None
) -> Figure:
    """Draw maps of net counts, a row for each step and a column for each channel, on one scale of colours.

    :param maps: net spikes so far, ``[len(steps), len(channels), h, w]``
    :raises InputError: if there is no map, or the numbers of steps or channels differ
    """
    if maps.dim() != 4 or maps.shape[:2] != (len(steps), len(channels)) or not maps.numel():
        raise InputError(
            f"plot_count_maps got maps {list(maps.shape)}, {len(steps)} steps and {len(channels)} channels; "
            "give maps [steps, channels, h, w]"
        )
    signed = bool((maps < 0).any())
    most = max(float(maps.abs().max()), 1e-9)
    figure = new_figure(1.2 + 1.1 * len(channels), 0.7 + 1.15 * len(steps))
    grid = figure.subplots(len(steps), len(channels), squeeze=False)
    for row, step in enumerate(steps):
        for column, channel in enumerate(channels):
            axes = grid[row, column]
            drawn = axes.imshow(
                maps[row, column].tolist(),
                cmap="coolwarm" if signed else "viridis",
                vmin=-most if signed else 0,
                vmax=most,
            )
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            if not row:
                axes.set_title(f"channel {channel}", fontsize=8)
            if not column:
                axes.set_ylabel(f"step {step}", fontsize=8)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize="medium")
    figure.colorbar(drawn, ax=list(grid.flat), label="net spikes so far", shrink=0.8)
    return figure
