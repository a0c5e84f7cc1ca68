"""Levels for each activation: finer where that lowers the error of the outputs most per spike."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch.utils import _pytree as pytree

from sj_lowlat.conversion.examples import like_parameters
from sj_lowlat.graph.edit import replace_layer
from sj_lowlat.layers import QuantReLU
from sj_lowlat.network import GraphNetwork
from sj_lowlat.record import evaluating

_BATCH = 8
_MOST = 16  # the highest factor: bursts stay small


class Sensitivity(NamedTuple):
    """What the quantisation of one activation does at L levels.

    :param error: mean squared error of the outputs that it causes alone, each output in units of its variance
    :param spikes: unit spikes of its neurons per image, without those that are taken back
    """

    error: float
    spikes: float


@torch.no_grad()
def measure(
    network: GraphNetwork, quantisers: Mapping[str, QuantReLU], images: torch.Tensor
) -> dict[str, Sensitivity]:
    """Quantise one activation at a time, by 1 + n passes over the images for n activations.

    :param network: the network before its activations were quantised; is left as it was
    :param quantisers: activation name -> its quantised form
    :param images: ``[N, C, H, W]``
    """
    with evaluating(network):
        wanted = _outputs(network, images)
        spread = [max(float(out.var()), torch.finfo(out.dtype).tiny) for out in wanted]
        found = {}
        for name, quantiser in quantisers.items():
            counted: list[float] = []
            handle = quantiser.register_forward_hook(
                lambda module, _, out, to=counted: to.append(_unit_spikes(module, out))
            )
            old = network.get_submodule(name)
            replace_layer(network, name, quantiser)
            try:
                outputs = _outputs(network, images)
            finally:
                replace_layer(network, name, old)
                handle.remove()
            errors = [
                float((out - want).square().mean()) / unit
                for out, want, unit in zip(outputs, wanted, spread, strict=True)
            ]
            found[name] = Sensitivity(sum(errors) / len(errors), sum(counted) / len(images))
    return found


def _outputs(network: GraphNetwork, images: torch.Tensor) -> list[torch.Tensor]:
    """All outputs for all images, in float64."""
    parts = [pytree.tree_leaves(network(like_parameters(network, batch))) for batch in images.split(_BATCH)]
    return [torch.cat(part).double() for part in zip(*parts, strict=True)]


def _unit_spikes(quantiser: QuantReLU, out: torch.Tensor) -> float:
    clip = quantiser.clip
    clip = clip.view(-1, *[1] * (out.dim() - 2)) if clip.dim() else clip
    return float((out.abs() / clip).sum()) * quantiser.levels


def choose_factors(sensitivities: Mapping[str, Sensitivity], budget: float) -> dict[str, int]:
    r"""Powers of 2 by which activations get finer. With a factor k an activation costs k times its spikes
    and causes :math:`1 / k^2` of its error (of rounding); errors of activations add up. The step from k to 2k
    that lowers the error most per spike is taken first, as long as the budget lasts.

    :param sensitivities: activation name -> of :func:`measure`
    :param budget: spikes of all activations, in units of those at factors of 1
    """
    left = (budget - 1) * sum(own.spikes for own in sensitivities.values())
    factors = dict.fromkeys(sensitivities, 1)
    steps = [(-_gain(own, 1), name) for name, own in sensitivities.items()]
    heapq.heapify(steps)
    while steps:
        _, name = heapq.heappop(steps)
        own, cost = sensitivities[name], sensitivities[name].spikes * factors[name]
        if 0 < cost <= left and own.error > 0:
            left -= cost
            factors[name] *= 2
            if factors[name] < _MOST:
                heapq.heappush(steps, (-_gain(own, factors[name]), name))
    return factors


def _gain(own: Sensitivity, factor: int) -> float:
    """Error that is saved per spike by the step from k to 2k."""
    saved, cost = own.error * 0.75 / factor**2, own.spikes * factor
    return saved / cost if cost else 0.0
