"""The firing rate of a neuron against its input: Figures 2 and 3 of Qiu & Zhu."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sj_lowlat.errors import InputError
from sj_lowlat.layers import LowLatencyIFNode
from sj_lowlat.plots.style import GREY, PALETTE, new_figure, quiet

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@torch.no_grad()
def neuron_response(node: LowLatencyIFNode, inputs: Tensor, time_steps: int) -> list[tuple[float, float]]:
    """Firing rates of a neuron under constant inputs.

    The neuron is reset before and after; its step mode is put back.

    :param inputs: per step, in thresholds, ``[M]``
    :return: (input, spikes per step) pairs
    :raises InputError: if ``time_steps`` is not positive, ``inputs`` is not ``[M]``, or
        thresholds are per channel
    """
    if time_steps <= 0 or inputs.dim() != 1:
        raise InputError(
            f"neuron_response got time_steps={time_steps} and inputs of shape {tuple(inputs.shape)}; "
            "give a positive number of steps and a 1-d tensor of inputs."
        )
    if node.v_initial.dim():
        raise InputError(
            "neuron_response draws one neuron; give a node with one v_threshold, not one per channel."
        )
    mode, node.step_mode = node.step_mode, "s"
    node.reset()
    try:
        drive = inputs[:, None] * node.v_threshold  # [M, 1]: M samples of one neuron
        spikes = sum(node(drive) for _ in range(time_steps))
    finally:
        node.reset()
        node.step_mode = mode
    rates = torch.as_tensor(spikes).flatten() / time_steps
    return list(zip(inputs.tolist(), rates.tolist(), strict=True))


def plot_neuron_response(
    responses: Mapping[str, Sequence[tuple[float, float]]], title: str | None = None
) -> Figure:
    """Draw firing rates against the input, over the ReLU (clipped at one spike a step) they stand for.

    :param responses: label -> pairs of :func:`neuron_response`
    :raises InputError: if there is no response or one without points
    """
    if not responses or not all(responses.values()):
        raise InputError("plot_neuron_response got nothing to draw; give {label: [(input, rate), ...]}.")
    figure = new_figure(width=5.6)
    axes = figure.add_subplot()
    inputs = [value for points in responses.values() for value, _ in points]
    low, high = min(inputs), max(inputs)
    corners = sorted({low, *(corner for corner in (0.0, 1.0) if low < corner < high), high})
    clipped = [min(max(z, 0.0), 1.0) for z in corners]
    axes.plot(corners, clipped, "--", color=GREY, linewidth=1.3, label="ReLU, clipped")
    for index, (label, points) in enumerate(responses.items()):
        z, rate = zip(*sorted(points), strict=True)
        axes.plot(z, rate, color=PALETTE[index % len(PALETTE)], linewidth=1.8, label=label)
    axes.set_xlabel("input per step (thresholds)")
    axes.set_ylabel("firing rate (spikes per step)")
    axes.set_title(title or "", loc="left")
    axes.legend(frameon=False)
    quiet(axes, grid="both")
    return figure
