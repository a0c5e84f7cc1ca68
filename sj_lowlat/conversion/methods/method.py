"""The record of a conversion method, and what its functions are given."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from torch import nn

from sj_lowlat.conversion.build import Folded, Neurons
from sj_lowlat.conversion.examples import Images, like_parameters
from sj_lowlat.conversion.statistics import collect_scales, image_batches
from sj_lowlat.errors import InputError
from sj_lowlat.layers import LowLatencyIFNode, SpikeMaxPool
from sj_lowlat.network import SpikingNetwork
from sj_lowlat.schedule import Schedule

#: name of an activation -> its value at which its neurons fire at every step: a number, or one per channel
Scales: TypeAlias = dict[str, torch.Tensor]
FORMS = ("quantised", "clipped", "plain")


@dataclass
class Case:
    """A conversion that is under way, as statistics and corrections see it.

    :param folded: the network with its batch norms folded, still with the activations of the ANN
    :param images: calibration images, if there are any
    :param time_steps: T of the run that statistics and corrections are made for
    :param per_channel: whether a scale per channel is wanted
    :param neurons: of the method
    :param scales: of the activations, as soon as they are known
    """

    folded: Folded
    images: Images | None
    time_steps: int
    per_channel: bool
    neurons: Neurons
    scales: Scales = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The activations, in the order of their calls."""
        return self.folded.plan.activations

    def batches(self) -> list[torch.Tensor]:
        """The calibration images, batch by batch, ready for the network.

        :raises InputError: if there are none
        """
        network = self.folded.network
        return [like_parameters(network, batch) for batch in image_batches(self._given())]

    def collect(self, statistic: str) -> Scales:
        """Scales from the activations of the ANN.

        :param statistic: ``"max"``, a percentage, or ``"mse"`` (with :attr:`time_steps` levels)
        """
        levels = dict.fromkeys(self.names, self.time_steps) if statistic == "mse" else None
        return collect_scales(
            self.folded.network,
            self.names,
            self._given(f"scale={statistic!r}"),
            statistic,
            self.per_channel,
            levels,
        )

    def clips(self) -> Scales:
        """The clips of trained activations.

        :raises InputError: if an activation has none
        """
        network = self.folded.network
        untrained = [name for name in self.names if not hasattr(network.get_submodule(name), "clip")]
        if untrained:
            raise InputError(
                f"scale='trained' needs a QuantReLU everywhere, but {', '.join(untrained[:3])} "
                f"({len(untrained)} in all) has no clip: call prepare first, or give scale='99.9%' and "
                "calibration images"
            )
        return {name: network.get_submodule(name).clip.detach().clone() for name in self.names}  # type: ignore[operator]

    def given(self, scales: Mapping[str, torch.Tensor]) -> Scales:
        """Scales that the user chose.

        :raises InputError: if they are not one for each activation, positive and finite
        """
        if scales.keys() != set(self.names):
            raise InputError(
                f"scale gives {', '.join(scales) or 'none'}; "
                f"give one for each activation: {', '.join(self.names)}"
            )
        for name, scale in scales.items():
            if not bool(torch.isfinite(scale).all()) or bool((scale <= 0).any()) or scale.dim() > 1:
                raise InputError(
                    f"the scale of {name} is {scale!r}: give a positive tensor, scalar or one per channel [C]"
                )
        return {name: scale.detach().clone() for name, scale in scales.items()}

    def build(self, scales: Mapping[str, torch.Tensor]) -> SpikingNetwork:
        """The spiking network that these scales give, without corrections; may be called again and again."""
        return copy.deepcopy(self.folded).spiking(scales, self.neurons)

    def _given(self, what: str = "this method") -> Images:
        if self.images is None:
            raise InputError(
                f"{what} needs calibration images, a tensor [N, C, H, W] or an iterable of batches"
            )
        return self.images


Statistic: TypeAlias = str | Mapping[str, torch.Tensor] | Callable[[Case], Scales]
Edit: TypeAlias = Callable[[Folded], None]
Correction: TypeAlias = Callable[[SpikingNetwork, Case], None]
Latency: TypeAlias = Callable[[int, int | None, int], Schedule]


def depth_of(snn: SpikingNetwork) -> int:
    """Neurons one behind the other on the longest way from the image to a head."""
    depth: dict[Any, int] = {}
    for node in snn.graph.nodes:
        fires = isinstance(snn.module_of(node), LowLatencyIFNode)
        depth[node] = max((depth[source] for source in node.all_input_nodes), default=0) + fires
    return max(depth.values())


def all_input(total: int, levels: int | None, depth: int) -> Schedule:
    """Every step has input, and T steps carry the charge of T."""
    return Schedule(total, charge=total)


@dataclass(frozen=True)
class Method:
    """How a network becomes a spiking one: all in which published methods differ.

    :param name: what ``convert(model, method=name)`` takes
    :param source: whose method it is, and where it stands
    :param neuron: kind of the neurons, a key of ``sj_lowlat.conversion.NEURONS``
    :param start: V(0) in thresholds
    :param scale: the activation's value at which a neuron fires at every step: ``"trained"`` (the clip of the
        activation), a statistic of calibration images (``"max"``, ``"99.9%"``, ``"mse"``), a function, or the
        scales by name
    :param per_channel: scales per channel; ``None``: for networks with depthwise convolutions
    :param form: what ``prepare`` makes of activations, for training: ``"quantised"``, ``"clipped"``
        (:class:`~sj_lowlat.layers.RateNorm`) or ``"plain"``
    :param edits: of the folded ANN, before all else
    :param members: neurons that share one scale (:class:`~sj_lowlat.conversion.build.Neurons`)
    :param pool: type of the max-pools of spikes
    :param powers: whether the spikes of one step are a power of two
    :param corrections: of the spiking network, in this order
    :param schedule: (steps in all, levels, depth) -> the schedule that answers after so many steps
    :param curve: whether a run of many steps gives the answers of all shorter ones as well
    :param mode: of :func:`~sj_lowlat.simulation.simulate`
    :param labels: whether its training needs labels
    """

    name: str
    source: str
    neuron: str
    start: float = 0.5
    scale: Statistic = "trained"
    per_channel: bool | None = None
    form: str = "plain"
    edits: tuple[Edit, ...] = ()
    members: int = 1
    pool: type[nn.Module] = SpikeMaxPool
    powers: bool = False
    corrections: tuple[Correction, ...] = ()
    schedule: Latency = all_input
    curve: bool = True
    mode: str = "steps"
    labels: bool = False

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise InputError(f"form is {self.form!r}, it must be one of {', '.join(FORMS)}")

    @property
    def trains(self) -> bool:
        """Whether it is meant for a network that was trained in its form."""
        return self.form != "plain" or bool(self.edits)

    def run(self, snn: SpikingNetwork, total: int) -> dict[str, Any]:
        """Arguments of :func:`~sj_lowlat.simulation.simulate` for an answer after so many steps.

        :param snn: that this method made
        :param total: steps in all; a method whose latency is fixed by its levels and depth takes no notice
        """
        return {"schedule": self.schedule(total, snn.info.levels, depth_of(snn)), "mode": self.mode}

    def neurons(self) -> Neurons:
        """What takes the place of activations and max-pools."""
        return Neurons(self.neuron, self.start, self.members, self.pool, self.powers)

    def scales(self, case: Case) -> Scales:
        """The scale of every activation."""
        if isinstance(self.scale, Mapping):
            return case.given(self.scale)
        if not isinstance(self.scale, str):
            return self.scale(case)
        return case.clips() if self.scale == "trained" else case.collect(self.scale)

    def changed(
        self, scale: Statistic | None = None, per_channel: bool | None = None, start: float | None = None
    ) -> Method:
        """This method with other options where they are given."""
        return replace(
            self,
            scale=self.scale if scale is None else scale,
            per_channel=self.per_channel if per_channel is None else per_channel,
            start=self.start if start is None else start,
        )
