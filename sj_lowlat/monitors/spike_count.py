"""Spikes of each image of a run."""

from __future__ import annotations

from typing import Any

import torch
from spikingjelly.activation_based.monitor import BaseMonitor
from torch import Tensor, nn

from sj_lowlat.layers import LowLatencyIFNode
from sj_lowlat.monitors.presentation import as_steps


class SpikeCount(BaseMonitor):
    """Counts the spikes of each image of one run, whatever their sign; a burst of n counts n.

    .. code-block:: python

        with SpikeCount(snn) as count:
            simulate(snn, images)
        print(count.spikes())

    :param net: a spiking network; any other has no spikes
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self._counts: list[Tensor] = []
        for module in net.modules():
            if isinstance(module, LowLatencyIFNode):
                self.hooks.append(module.register_forward_hook(self._count))

    def _count(self, node: LowLatencyIFNode, _inputs: Any, output: Tensor) -> None:
        spikes = as_steps(node, output.detach())  # [T, N, *]
        axes = [axis for axis in range(spikes.dim()) if axis != 1]
        self._counts.append(torch.linalg.vector_norm(spikes, 1, axes, dtype=torch.float64))

    def spikes(self) -> list[int]:
        """Return the spikes of all neurons for each image; exact up to 2^53."""
        return torch.stack(self._counts).sum(0).long().tolist() if self._counts else []

    def clear_recorded_data(self) -> None:
        """Begin at 0 again."""
        super().clear_recorded_data()
        self._counts.clear()
