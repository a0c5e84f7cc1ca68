"""Spikes of one picture, step by step, kept small: sums, coarse maps, and a sample of neurons."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from spikingjelly.activation_based.monitor import BaseMonitor
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from sj_lowlat.errors import InputError
from sj_lowlat.layers import LowLatencyIFNode
from sj_lowlat.monitors.presentation import as_steps
from sj_lowlat.plots import plot_activity, plot_count_maps, plot_neurons


@dataclass
class LayerSpikes:
    """What one layer did in each of T steps for one picture.

    :param shape: of the layer, ``(C, H, W)`` or ``(F,)``
    :param sample: places of the neurons that are kept one by one in the flattened layer, ``[S]``
    :param totals: spikes of all neurons in each step, whatever their sign; a burst of n counts n
    :param step_maps: net spikes of each step, the mean of the neurons in each cell, T times ``[C, h, w]``
    :param step_spikes: net spikes of the sample in each step, T times ``[S]``
    :param step_potentials: potentials of the sample behind each step, in thresholds, T times ``[S]``
    """

    name: str
    shape: tuple[int, ...]
    sample: Tensor
    totals: list[int] = field(default_factory=list)
    step_maps: list[Tensor] = field(default_factory=list)
    step_spikes: list[Tensor] = field(default_factory=list)
    step_potentials: list[Tensor] = field(default_factory=list)

    @property
    def neurons(self) -> int:
        """Neurons of the layer."""
        return torch.Size(self.shape).numel()

    @property
    def rates(self) -> list[float]:
        """Spikes per neuron in each step."""
        return [total / self.neurons for total in self.totals]

    @property
    def spikes(self) -> Tensor:
        """Net spikes of the sample, ``[T, S]``."""
        return torch.stack(self.step_spikes)

    @property
    def potentials(self) -> Tensor:
        """Potentials of the sample behind each step, in thresholds, ``[T, S]``."""
        return torch.stack(self.step_potentials)

    def counts(self) -> Tensor:
        """Net spikes up to and with each step, the mean of the neurons in each cell, ``[T, C, h, w]``."""
        return torch.stack(self.step_maps).cumsum(0)

    def busiest_channels(self, count: int) -> list[int]:
        """The channels with the most net spikes at the end, whatever their sign, most first."""
        strength = self.counts()[-1].abs().sum((1, 2))
        return strength.argsort(descending=True, stable=True)[:count].tolist()

    def chosen_neurons(self, count: int) -> list[int]:
        """Places in the sample: neurons that fired, from the quietest to the busiest, in even strides."""
        fired = self.spikes.abs().sum(0)
        ranked = fired.argsort(stable=True)
        ranked = ranked[fired[ranked] > 0]
        places = torch.linspace(0, max(len(ranked) - 1, 0), min(count, len(ranked))).round().long()
        return ranked[places].tolist()

    def plot(self, count: int = 24) -> Any:
        """Return a figure of up to ``count`` neurons: their spikes as a raster, the potentials of four."""
        chosen = self.chosen_neurons(count)
        return plot_neurons(self.spikes[:, chosen], self.potentials[:, chosen], title=self.name)

    def plot_maps(self, channels: int = 8, steps: tuple[int, ...] | None = None) -> Any:
        """Return a figure of the net counts of the busiest channels, a row for each of the ``steps``."""
        counts = self.counts()
        steps = steps or tuple(range(1, len(counts) + 1))
        if not all(1 <= step <= len(counts) for step in steps):
            raise InputError(f"steps are {steps}; the picture had steps 1 to {len(counts)}")
        chosen = self.busiest_channels(channels)
        maps = counts[[step - 1 for step in steps]][:, chosen]
        return plot_count_maps(maps, steps, chosen, title=self.name)


class SpikeRecorder(BaseMonitor):
    """Records what the neurons do for one picture, to look at single spikes.

    .. code-block:: python

        with SpikeRecorder(snn) as spikes:
            simulate(snn, images[:1], chunk=1)
        spikes.plot()
        spikes["layers.4.act"].plot()

    Of each layer it keeps the number of spikes of each step, maps of at most ``side`` x ``side`` cells for
    every channel, and spikes and potentials of ``sample`` neurons, drawn with a fixed seed. A new picture
    (the network is reset) takes the place of the one before; of a batch it is the first.

    :param side: cells of a map, down and across
    :param sample: neurons of a layer that are kept one by one
    :raises InputError: if ``net`` has no spiking neuron; while it runs, if it sees several steps at once
        (potentials are known behind a pass: give ``chunk=1``), or not the whole run
    """

    def __init__(self, net: nn.Module, side: int = 64, sample: int = 2048) -> None:
        super().__init__()
        if side < 1 or sample < 1:
            raise InputError(f"side is {side} and sample {sample}; give at least 1 of each")
        self.side, self.sample = side, sample
        self._layers: dict[str, LayerSpikes] = {}
        layers = self._monitor_modules(net, LowLatencyIFNode)
        if not layers:
            raise InputError(f"no spiking neuron in {type(net).__name__}; convert it first")
        for name, node in layers:
            self.hooks.append(node.register_forward_hook(partial(self._see, name)))

    def _see(self, name: str, node: LowLatencyIFNode, _inputs: Any, output: Tensor) -> None:
        if not self.is_enable():
            return
        steps = as_steps(node, output.detach())  # [T, N, *]
        if len(steps) > 1:
            raise InputError(
                f"layer {name!r} came with {len(steps)} steps at once, behind which only the last potential "
                "is known: simulate with chunk=1"
            )
        spikes = steps[0, 0]  # [*]
        if node.steps == 1:
            self._layers[name] = self._begin(name, spikes)
        layer = self._layers.get(name)
        if layer is None or len(layer.totals) != node.steps - 1:
            raise InputError(f"steps of layer {name!r} were not watched: start the recorder before the run")
        flat = spikes.float().cpu().flatten()
        threshold = node.threshold.view(-1, *[1] * (spikes.dim() - 1))
        potentials = (node.v[0] / threshold).float().cpu().flatten()
        layer.totals.append(round(float(flat.abs().sum(dtype=torch.float64))))
        layer.step_maps.append(_coarse(spikes.float().cpu(), self.side))
        layer.step_spikes.append(flat[layer.sample])
        layer.step_potentials.append(potentials[layer.sample])

    def _begin(self, name: str, spikes: Tensor) -> LayerSpikes:
        generator = torch.Generator().manual_seed(0)
        neurons = spikes.numel()
        sample = torch.randperm(neurons, generator=generator)[: self.sample].sort().values
        return LayerSpikes(name, tuple(spikes.shape), sample)

    def layers(self) -> list[LayerSpikes]:
        """Return the records of all layers that ran, in the order of the network."""
        return [self._layers[name] for name in self.monitored_layers if name in self._layers]

    def __getitem__(self, name: str) -> LayerSpikes:
        """Return the record of one layer.

        :raises InputError: if there is no such layer, or it has not run yet
        """
        if name not in self._layers:
            watched = ", ".join(self.monitored_layers)
            raise InputError(f"nothing on layer {name!r}: it has not run, or is none of {watched}")
        return self._layers[name]

    def spikes_per_step(self) -> list[int]:
        """Return the spikes of the whole network in each step, whatever their sign."""
        return [sum(step) for step in zip(*(layer.totals for layer in self.layers()), strict=True)]

    def clear_recorded_data(self) -> None:
        """Forget the picture, and continue with the next one."""
        super().clear_recorded_data()
        self._layers.clear()

    def plot(self, ax: Any = None) -> Any:
        """Return a figure of the spikes per neuron, layers down and steps across."""
        return plot_activity({layer.name: layer.rates for layer in self.layers()}, ax=ax)


def _coarse(spikes: Tensor, side: int) -> Tensor:
    """``[C, H, W]`` -> ``[C, h, w]``, means over cells; ``[F]`` and ``[C, L]`` get axes of length 1."""
    maps = (
        spikes
        if spikes.dim() == 3
        else spikes.flatten(1)[:, None]
        if spikes.dim() > 1
        else spikes[:, None, None]
    )
    height, width = maps.shape[1:]
    return adaptive_avg_pool2d(maps, (min(side, height), min(side, width)))
