"""From a folded network and its scales to a spiking one: normalise, and put neurons for activations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from spikingjelly.activation_based import functional
from torch import nn

from sj_lowlat.conversion.additions import place_products, place_sums
from sj_lowlat.conversion.normalise import normalise_layer, probe_input_scales, sum_factors
from sj_lowlat.conversion.plan import Plan
from sj_lowlat.conversion.spike import NEURONS
from sj_lowlat.graph.edit import replace_layer
from sj_lowlat.layers import PointwiseIFNode, RateReadout, SpikeMaxPool
from sj_lowlat.network import ConversionReport, GraphNetwork, LayerReport, SpikingNetwork
from sj_lowlat.schedule import Schedule


@dataclass(frozen=True)
class Neurons:
    """What takes the place of activations and max-pools.

    :param kind: key of ``NEURONS``
    :param start: V(0) in thresholds
    :param members: neurons that share one scale: each spike is worth a part of it, and so many fit in a step
    :param pool: type of the max-pools of spikes
    :param powers: whether the spikes of one step are a power of two
    """

    kind: str
    start: float = 0.5
    members: int = 1
    pool: type[nn.Module] = SpikeMaxPool
    powers: bool = False


@dataclass
class Folded:
    """A network whose batch norms are folded, ready for its scales.

    :param network: its activations and max-pools are those of the ANN
    :param example: one input
    :param norms: layer -> batch norm that was folded into it
    """

    network: GraphNetwork
    plan: Plan
    example: torch.Tensor
    norms: Mapping[str, str] = field(default_factory=dict)

    def units(self, scales: Mapping[str, torch.Tensor], members: int = 1) -> dict[str, torch.Tensor]:
        """What one spike of an activation's neurons stands for, in float64.

        :param scales: of the activations
        """
        at_clip = self._at_clip()
        return {name: scale.double() / (members * at_clip[name]) for name, scale in scales.items()}

    def bursts(self, members: int = 1) -> dict[str, int]:
        """Most spikes of a neuron per step: 1, or by how much its levels are finer than the network's; times
        the members."""
        headroom = self._headroom()
        return {name: members * own // headroom[name] for name, own in self._at_clip().items()}

    def _at_clip(self) -> dict[str, int]:
        """Levels of the activations in units of the network's, 1 where they are no multiple of these."""
        base, names = self.network.info.levels, self.plan.activations
        levels = {name: getattr(self.network.get_submodule(name), "levels", base) for name in names}
        return {name: own // base if base and own and own % base == 0 else 1 for name, own in levels.items()}

    def _headroom(self) -> dict[str, int]:
        headroom = self.network.info.headroom
        return {name: headroom if own % headroom == 0 else 1 for name, own in self._at_clip().items()}

    def spiking(self, scales: Mapping[str, torch.Tensor], neurons: Neurons) -> SpikingNetwork:
        """The spiking network; this one is used up.

        :param scales: of the activations: their values at which a neuron fires at its most
        """
        network, plan, sample = self.network, self.plan, self.example
        report = ConversionReport(replaced=dict(network.info.replaced))
        bursts, units = self.bursts(neurons.members), self.units(scales, neurons.members)
        headroom = self._headroom()
        found = probe_input_scales(network, plan, units, sample)
        fires_as = {
            name: _spike(network, name, neurons, bursts[name], headroom[name]) for name in plan.activations
        }
        for name in plan.activations:
            node = network.get_submodule(name)
            if isinstance(node, PointwiseIFNode):
                node.scale = scales[name].to(sample)
        for own in plan.layers:
            layer = network.get_submodule(own.name)
            scale_out = units[own.activation] if own.activation else torch.ones(())
            normalise_layer(layer, found[own.name, 0], scale_out)
            becomes = fires_as[own.activation] if own.activation else "current"
            if own.is_head:
                replace_layer(network, own.name, RateReadout(network.get_submodule(own.name)))
                becomes = RateReadout.__name__
            report.layers.append(
                LayerReport(
                    own.name, type(layer).__name__, self.norms.get(own.name), own.activation, becomes,
                    _span(scale_out.to(sample.dtype)), _span(found[own.name, 0]),
                )
            )  # fmt: skip
        place_products(network, plan.products, network.info.levels)
        report.sums += place_sums(network, plan.sums, sum_factors(plan, found, units))
        for name in plan.pools:
            replace_layer(network, name, neurons.pool(network.get_submodule(name)))
            report.pools.append(name)
        info = network.info
        schedule = info.schedule or (Schedule(info.levels) if info.levels else None)
        snn = SpikingNetwork.from_graph(network, replace(info, report=report, schedule=schedule))
        snn.to(sample.device)
        functional.invalidate_reset_cache(snn)
        return snn


def _spike(network: GraphNetwork, name: str, neurons: Neurons, burst: int, headroom: int) -> str:
    node = NEURONS[neurons.kind](network.get_submodule(name), neurons.start)
    node.burst, node.headroom, node.powers = burst, headroom, neurons.powers
    replace_layer(network, name, node)
    return type(node).__name__ + (f" x{burst}" if burst > 1 else "")


def _span(scale: torch.Tensor) -> tuple[float, ...]:
    return tuple(sorted({float(scale.min()), float(scale.max())}))
