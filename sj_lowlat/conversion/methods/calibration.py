"""SNN calibration: layer by layer, the spiking network is moved towards the activations of the ANN."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from sj_lowlat.conversion.methods.method import Case, Method
from sj_lowlat.network import SpikingNetwork
from sj_lowlat.record import evaluating
from sj_lowlat.schedule import Schedule
from sj_lowlat.simulation import simulate

_STEPS, _RATE = 100, 1e-3  # of the optimiser of weights, for each layer; its rate in units of the mean weight


def correct_biases(snn: SpikingNetwork, case: Case) -> None:
    r"""Add each channel's mean error to its bias: :math:`b \leftarrow b + E[a / \lambda - N(T) / T]`.

    The error that is left then is spread over the T steps of a run.
    """
    for name in case.names:
        shift_bias(snn, name, _channels(_error(snn, case, name)))


def correct_starts(snn: SpikingNetwork, case: Case) -> None:
    r"""Add the missing charge to the start: :math:`V(0) \leftarrow V(0) + T \, E[a / \lambda - N(T) / T]`."""
    for name in case.names:
        node: Any = snn.get_submodule(name)
        missing = case.time_steps * _channels(_error(snn, case, name))
        node.set_ratio((node.v_initial / node.threshold).cpu() + missing.cpu())


def correct_weights(snn: SpikingNetwork, case: Case) -> None:
    r"""Fit each layer to what its neurons should have sent, given the spikes that it receives:

    .. math:: \min_{W, b} E \| N(T) / T - a / \lambda \|^2

    by Adam. The count is taken as the clipped current of the mean input, plus the error that the simulation
    has now (straight-through).
    """
    for name in case.names:
        layer: Any = snn.get_submodule(_feeder(snn, name))
        inputs = _mean(snn, case, _feeder(snn, name), reads=True)
        have, want = _mean(snn, case, name), _wanted(case, name)
        most = case.folded.bursts(case.neurons.members)[name]
        if layer.bias is None:
            shift_bias(snn, name, torch.zeros(want[0].shape[1]))
        best = [parameter.detach().clone() for parameter in (layer.weight, layer.bias)]
        with torch.no_grad():
            off = [now - _current(layer, x, most) for now, x in zip(have, inputs, strict=True)]
        rate = _RATE * float(layer.weight.detach().abs().mean())
        with torch.enable_grad():
            tuned = [value.clone().requires_grad_() for value in best]
            optimiser = torch.optim.Adam(tuned, lr=rate)
            for step in range(_STEPS):
                k = step % len(inputs)
                found = _current(layer, inputs[k], most, *tuned) + off[k]
                optimiser.zero_grad()
                (found - want[k]).square().mean().backward()
                optimiser.step()
        _put(layer, tuned)
        now = _mean(snn, case, name)  # the simulation has the last word
        if _distance(now, want) >= _distance(have, want):
            _put(layer, best)


def shift_bias(snn: SpikingNetwork, name: str, shift: torch.Tensor) -> None:
    """Add to the bias of the layer in front of some neurons.

    :param name: of the neurons
    :param shift: per channel, in thresholds a step
    """
    layer: Any = snn.get_submodule(_feeder(snn, name))
    bias = torch.zeros_like(shift) if layer.bias is None else layer.bias.detach()
    layer.bias = nn.Parameter(bias.to(layer.weight) + shift.to(layer.weight), requires_grad=False)


def _put(layer: Any, values: list[torch.Tensor]) -> None:
    with torch.no_grad():
        layer.weight.copy_(values[0])
        layer.bias.copy_(values[1])


def _current(layer: nn.Module, x: torch.Tensor, most: int, *tuned: torch.Tensor) -> torch.Tensor:
    """Spikes a step of neurons without memory that read the mean input, by the layer's own weight and bias or
    by tuned ones, whose gradient passes the clipping."""
    if not tuned:
        return layer(x).clamp(0, most)
    current = torch.func.functional_call(layer, dict(zip(("weight", "bias"), tuned, strict=True)), (x,))
    return current + (current.clamp(0, most) - current).detach()


def _feeder(snn: SpikingNetwork, name: str) -> str:
    """The layer in front of some neurons; the first, where several add up."""
    assert snn.info.report is not None
    return next(row.layer for row in snn.info.report.layers if row.activation == name)


def _channels(error: list[torch.Tensor]) -> torch.Tensor:
    """Mean over images and positions, ``[C]``."""
    return torch.cat([part.double().transpose(0, 1).flatten(1) for part in error], 1).mean(1)


def _distance(have: list[torch.Tensor], want: list[torch.Tensor]) -> float:
    return sum(float((a - b).square().sum(dtype=torch.float64)) for a, b in zip(have, want, strict=True))


def _error(snn: SpikingNetwork, case: Case, name: str) -> list[torch.Tensor]:
    """What is missing in the spikes a step of some neurons, per batch ``[N, C, *]``."""
    pairs = zip(_wanted(case, name), _mean(snn, case, name), strict=True)
    return [want - have for want, have in pairs]


@torch.no_grad()
def _wanted(case: Case, name: str) -> list[torch.Tensor]:
    """The ANN's activations in spikes a step, per batch."""
    network, kept = case.folded.network, []
    unit = case.folded.units(case.scales, case.neurons.members)[name]
    handle = network.get_submodule(name).register_forward_hook(lambda m, i, out: kept.append(out))
    with evaluating(network):
        for images in case.batches():
            network(images)
    handle.remove()
    shape = (-1, *[1] * (kept[0].dim() - 2)) if unit.dim() else ()
    return [out / unit.to(out).reshape(shape) for out in kept]


def _mean(snn: SpikingNetwork, case: Case, name: str, reads: bool = False) -> list[torch.Tensor]:
    """The mean over T steps of what a module sends (or reads), per batch."""
    found = []
    for images in case.batches():
        with _summing(snn.get_submodule(name), len(images), reads) as total:
            simulate(snn, images, Schedule(case.time_steps, charge=case.time_steps))
        found.append(total[0] / total[1])
    return found


@contextmanager
def _summing(module: nn.Module, batch: int, reads: bool) -> Iterator[list[Any]]:
    """Sum and number of steps of what passes a module ``[T * N, *]``."""
    total: list[Any] = [0.0, 0]

    def add(_: nn.Module, inputs: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        x = inputs[0] if reads else out
        steps = x.unflatten(0, (-1, batch))
        total[0] = total[0] + steps.sum(0, dtype=torch.promote_types(x.dtype, torch.float32))
        total[1] += len(steps)

    handle = module.register_forward_hook(add)
    try:
        yield total
    finally:
        handle.remove()


_SOURCE = (
    "Y. Li et al., A free lunch from ANN: towards efficient, accurate spiking neural networks "
    "calibration, ICML 2021: thresholds of least square error"
)
LIGHT = Method(
    "calibration-light",
    f"{_SOURCE}; initial potentials and biases per channel",
    neuron="residual-fix",
    scale="mse",
    corrections=(correct_starts, correct_biases),
)
ADVANCED = Method(
    "calibration-advanced",
    f"{_SOURCE}; initial potentials per channel and weights",
    neuron="residual-fix",
    scale="mse",
    corrections=(correct_starts, correct_weights),
)
