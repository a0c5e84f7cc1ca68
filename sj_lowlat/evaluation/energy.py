"""Energy of a spiking network against its ANN, from operations counted in the run that is scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sj_lowlat.errors import InputError
from sj_lowlat.monitors import FiringRateMonitor, SynOpMonitor
from sj_lowlat.monitors.fan_out import weighted_layers
from sj_lowlat.record import evaluating

#: 32-bit floating point in 45 nm: Horowitz, "Computing's energy problem", ISSCC 2014
MAC_PJ = 4.6
AC_PJ = 0.9


@dataclass(frozen=True)
class EnergyReport:
    """Energy of the arithmetic of one image, in picojoules (45 nm, 32 bit; memory traffic is left out).

    :param steps: time steps per image, flush included
    :param ann_macs: multiply-accumulates of the ANN per image, products with padding zeros included
    :param snn_macs: multiply-accumulates of the SNN per image: layers with analog input, once
    :param snn_acs: accumulates of the SNN per image: every spike times the outputs that it reaches
    :param spikes_per_neuron_and_image: spikes, whatever their sign, per neuron and image
    :param events_per_neuron_and_image: the same, a burst counting one
    """

    images: int
    steps: float
    ann_macs: int
    snn_macs: float
    snn_acs: float
    spikes_per_neuron_and_image: float
    events_per_neuron_and_image: float

    @property
    def ann_pj(self) -> float:
        """Energy of the ANN, pJ per image."""
        return self.ann_macs * MAC_PJ

    @property
    def snn_pj(self) -> float:
        """Energy of the SNN, pJ per image."""
        return self.snn_macs * MAC_PJ + self.snn_acs * AC_PJ

    @property
    def ratio(self) -> float:
        """Energy of the SNN over that of the ANN; below 1 the SNN is cheaper."""
        return self.snn_pj / self.ann_pj

    @property
    def break_even_spikes(self) -> float:
        """Spikes per neuron and image at which the SNN costs about as much as the ANN: 4.6 / 0.9."""
        return MAC_PJ / AC_PJ

    def to_json(self) -> dict[str, Any]:
        """A dict that ``json`` can write, with the derived figures."""
        derived = ("ann_pj", "snn_pj", "ratio", "break_even_spikes")
        return asdict(self) | {name: getattr(self, name) for name in derived}

    def __str__(self) -> str:
        spikes, events = self.spikes_per_neuron_and_image, self.events_per_neuron_and_image
        work = f"{self.snn_macs / 1e9:.3f} G MACs, {self.snn_acs / 1e9:.3f} G ACs in {self.steps:g} steps"
        lines = (
            f"energy per image, estimated on {self.images} (45 nm, 32 bit):",
            f"  ANN {self.ann_pj / 1e9:.3f} mJ: {self.ann_macs / 1e9:.3f} G MACs",
            f"  SNN {self.snn_pj / 1e9:.3f} mJ: {work}; {self.ratio:.3f} of the ANN's",
            f"  {spikes:.3f} spikes a neuron in {events:.3f} events; as much as the ANN's near "
            f"{self.break_even_spikes:.1f} spikes",
        )
        return "\n".join(lines)


def energy(synops: SynOpMonitor, rates: FiringRateMonitor, ann_macs: int | None = None) -> EnergyReport:
    """Turn what two monitors counted in the same run into energy per image.

    :param ann_macs: MACs per image of the ANN to compare with (:func:`count_macs`); those of the ANN with the
        same layers when not given
    :raises InputError: if the monitors saw no image, or not the same number of images
    """
    layers = rates.layers()
    seen = {layer.images for layer in layers}
    if seen != {synops.images}:
        counted = f"SynOpMonitor counted {synops.images} images, FiringRateMonitor {sorted(seen)}"
        raise InputError(f"{counted}: attach both before the first image, read both after the same run")
    return EnergyReport(
        images=synops.images,
        steps=max(layer.steps for layer in layers),
        ann_macs=synops.ann_macs if ann_macs is None else ann_macs,
        snn_macs=synops.macs / synops.images,
        snn_acs=synops.synops / synops.images,
        spikes_per_neuron_and_image=rates.spikes_per_neuron_and_image(),
        events_per_neuron_and_image=rates.events_per_neuron_and_image(),
    )


def count_macs(net: nn.Module, input_shape: Sequence[int]) -> int:
    """Count the multiply-accumulates of an ANN for one image, by running it once on zeros (torch's flop
    counter, a multiply-accumulate being two flops).

    Convolutions, transposed convolutions and linear layers count, products with padding zeros included;
    biases, normalisation and activations do not.

    :param input_shape: shape of one image, ``(C, H, W)``
    :raises InputError: if ``net`` has weights in a layer of another kind, or no weighted layer ran
    """
    weighted_layers(net)  # refuses weights whose products would go uncounted
    like = next(net.parameters(), torch.empty(0))
    image = torch.zeros(1, *input_shape, dtype=like.dtype, device=like.device)
    with torch.no_grad(), evaluating(net), FlopCounterMode(display=False) as counter:
        net(image)
    total = counter.get_total_flops() // 2
    if not total:
        raise InputError(f"{type(net).__name__} ran no convolution and no Linear; there are no MACs to count")
    return total
