"""How often the neurons of each layer fire."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sj_lowlat.kernels import SpikeSums
from sj_lowlat.layers import LowLatencyIFNode
from sj_lowlat.monitors.presentation import LayerRecord, Presentation, PresentationMonitor, Sums
from sj_lowlat.plots import plot_rates
from sj_lowlat.record import table


@dataclass(frozen=True)
class LayerRate(LayerRecord):
    """Firing of one layer, over all presentations that were watched.

    :param rate: spikes, whatever their sign, per neuron and step
    :param net_rate: positive minus negative spikes per neuron and step: the rate that the next layer reads
    :param rate_per_channel: ``rate`` of each channel (dim 1), ``[C]``; ``net_rate_per_channel`` likewise
    :param spikes: all spikes; a burst of n counts n
    :param negative_spikes: those of them that were negative
    :param events: neuron and step pairs with a spike: a burst counts one
    :param silent: fraction of neurons that did not fire during an image
    :param saturated: fraction of neurons that fired in every step of an image
    :param spikes_per_neuron_and_image: ``spikes`` per neuron and image
    :param events_per_neuron_and_image: ``events`` likewise
    """

    rate: float
    net_rate: float
    rate_per_channel: list[float]
    net_rate_per_channel: list[float]
    spikes: int
    negative_spikes: int
    events: int
    silent: float
    saturated: float
    spikes_per_neuron_and_image: float
    events_per_neuron_and_image: float


@dataclass
class _RateSums(Sums):
    events: int
    silent: int
    saturated: int
    net: Tensor  # [C]
    absolute: Tensor  # [C]


class FiringRateMonitor(PresentationMonitor[SpikeSums, _RateSums, LayerRate]):
    """Mean firing rates per layer and per channel, silent and saturated neurons, negative spikes.

    .. code-block:: python

        with FiringRateMonitor(snn) as rates:
            simulate(snn, images)
        print(rates.table())

    Memory, whatever T is: sums of O(channels) per layer, and one int32 count per neuron ``[N, *]`` of the
    presentation under way. Everything is detached. In dense layers ``[N, F]`` each feature is a channel.

    :param instance: the class (or classes) of neurons to watch, :class:`LowLatencyIFNode` or below
    :raises InputError: if ``net`` has no such neuron
    """

    def __init__(self, net: nn.Module, instance: type | tuple[type, ...] = LowLatencyIFNode) -> None:
        self._nodes: list[LowLatencyIFNode] = []
        self._summed: set[str] = set()  # layers whose kernel has added the spikes of the present call
        super().__init__(net, instance)
        for name in self.monitored_layers:
            node = net.get_submodule(name)
            assert isinstance(node, LowLatencyIFNode)
            if node.sums_wanted is None:
                node.sums_wanted = partial(self._sums_for, name, node)
                self._nodes.append(node)

    def _sums_for(self, name: str, node: LowLatencyIFNode, v: Tensor) -> SpikeSums | None:
        if not self.is_enable():
            return None
        self._summed.add(name)
        return self._present(name, node, v, node.steps).state

    def _begin(self, name: str, node: LowLatencyIFNode, like: Tensor, first_step: int) -> SpikeSums:
        return SpikeSums.of(like)

    def _watch(self, name: str, state: SpikeSums, node: LowLatencyIFNode, spikes: Tensor) -> None:
        if name in self._summed:
            self._summed.remove(name)
        else:  # with gradients, or where another monitor watches too
            state.add_(spikes)

    def close(self) -> None:
        """Stop watching; what was seen stays readable."""
        super().close()
        for node in self._nodes:
            node.sums_wanted = None
        self._nodes.clear()

    def _fold(self, presentation: Presentation[SpikeSums]) -> _RateSums:
        state = presentation.state
        neurons = state.active.numel()
        return _RateSums(
            images=presentation.images,
            neurons=neurons,
            neuron_steps=neurons * presentation.steps,
            events=int(state.active.sum()),
            silent=int((state.active == 0).sum()),
            saturated=int((state.active == presentation.steps).sum()),
            net=state.net.cpu(),
            absolute=state.absolute.cpu(),
        )

    def _record_of(self, name: str, sums: _RateSums) -> LayerRate:
        spikes, net = float(sums.absolute.sum()), float(sums.net.sum())
        channel_steps = sums.neuron_steps / len(sums.net)
        return LayerRate(
            name=name,
            **sums.per_image(),
            rate=spikes / sums.neuron_steps,
            net_rate=net / sums.neuron_steps,
            rate_per_channel=(sums.absolute / channel_steps).tolist(),
            net_rate_per_channel=(sums.net / channel_steps).tolist(),
            spikes=round(spikes),
            negative_spikes=round((spikes - net) / 2),
            events=sums.events,
            silent=sums.silent / sums.neurons,
            saturated=sums.saturated / sums.neurons,
            spikes_per_neuron_and_image=spikes / sums.neurons,
            events_per_neuron_and_image=sums.events / sums.neurons,
        )

    def sums(self) -> dict[str, list[Any]]:
        """Return everything counted so far in whole numbers, as ``json`` can write it; for :meth:`add`."""
        totals = {name: self._total(name) for name in (*self._sums, *self._running)}
        return {
            name: [value.tolist() if isinstance(value, Tensor) else value for value in vars(sums).values()]
            for name, sums in totals.items()
        }

    def add(self, counted: dict[str, list[Any]]) -> None:
        """Add what a monitor of the same network counted (its :meth:`sums`) to the counts."""
        for name, values in counted.items():
            fields: list[Any] = [torch.tensor(v) if isinstance(v, list) else v for v in values]
            sums = _RateSums(*fields)
            self._sums[name] = self._sums[name] + sums if name in self._sums else sums

    def rates(self) -> dict[str, float]:
        """Return layer name -> spikes per neuron and step, for ``plots.plot_rates``."""
        return {layer.name: layer.rate for layer in self.layers()}

    def spikes_per_neuron_and_image(self) -> float:
        """Return the spikes per neuron and image of the whole network, which decide on its energy."""
        return self._per_neuron_and_image([layer.spikes for layer in self.layers()])

    def events_per_neuron_and_image(self) -> float:
        """Return the same, a burst counting one: what hardware with graded spikes sends."""
        return self._per_neuron_and_image([layer.events for layer in self.layers()])

    def _per_neuron_and_image(self, counts: list[int]) -> float:
        return sum(counts) / sum(layer.neurons * layer.images for layer in self.layers())

    def table(self) -> str:
        """Return one aligned line per layer."""
        header = ["layer", "neurons", "rate", "spikes/neuron/image", "negative %", "silent %", "saturated %"]
        rows = []
        for layer in self.layers():
            rates = [f"{layer.rate:.4f}", f"{layer.spikes_per_neuron_and_image:.3f}"]
            shares = (layer.negative_spikes / max(layer.spikes, 1), layer.silent, layer.saturated)
            percent = [f"{100 * share:.1f}" for share in shares]
            rows.append([layer.name, f"{layer.neurons:,}", *rates, *percent])
        return table(header, rows)

    def plot(self, ax: Any = None) -> Any:
        """Return a figure of each layer's rate as a bar, drawn into matplotlib's ``ax`` if given."""
        return plot_rates({"rate": self.rates()}, ax=ax)
