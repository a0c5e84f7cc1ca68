"""Weights in bf16 or int8 for a spiking network, whose spikes stay exact."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from typing import Any, TypeGuard

import torch
from spikingjelly.activation_based import functional
from torch import nn

from sj_lowlat.errors import InputError
from sj_lowlat.graph.edit import replace_layer
from sj_lowlat.layers import Int8Conv2d, LowLatencyIFNode, Synapse, reader_of, share_clock
from sj_lowlat.network import SpikingNetwork, unwrapped

PRECISIONS = ("fp32", "bf16", "int8")


def set_precision(snn: nn.Module, precision: str) -> SpikingNetwork:
    """A spiking network whose inner weights are rounded, to run faster.

    Layers that read spikes get weights of 16 bits (``"bf16"``) or 8 bits (``"int8"``,
    :class:`~sj_lowlat.layers.Int8Conv2d`; layers other than two-dimensional convolutions, and those that read
    averages of spikes, bf16). Spikes are small whole numbers, which both represent exactly (their
    dtype is int8 where all operations that they pass allow it, else bf16), and potentials stay float32.
    Layers that read the input, and heads, which read rates, keep their weights.

    A layer in bf16 rounds its currents as well, its bias times the input gain included, so that what such a
    network settles to depends a little on the schedule. Currents of int8 layers are exact sums.

    :param snn: what :func:`~sj_lowlat.conversion.convert` returned; left untouched
    :param precision: ``"fp32"`` (a copy), ``"bf16"`` or ``"int8"``
    :return: the network, with ``precision``
    :raises InputError: for another precision, or a network that is not spiking or rounded already
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision is {precision!r}, it must be one of {', '.join(PRECISIONS)}")
    snn = unwrapped(snn)
    if not isinstance(snn, SpikingNetwork):
        raise InputError("precision is for spiking networks: call sj_lowlat.convert first")
    if snn.info.precision != "fp32":
        raise InputError(
            f"this network's weights are {snn.info.precision} already: start from the one in fp32"
        )
    snn = copy.deepcopy(snn)
    snn.info = replace(snn.info, precision=precision)
    if precision == "fp32":
        return snn
    inner = _inner_layers(snn)
    whole = _reading_whole_numbers(snn, inner) if precision == "int8" else set()
    for module in snn.modules():
        if isinstance(module, LowLatencyIFNode):
            module.spike_dtype = torch.bfloat16
    for name, layer in inner:
        if name in whole and _takes_int8(layer):
            replace_layer(snn, name, Int8Conv2d(layer))
        else:
            layer.to(torch.bfloat16)
    share_clock(snn)
    if precision == "int8":
        for node in (module for module in snn.modules() if isinstance(module, LowLatencyIFNode)):
            node.spike_dtype = torch.int8
            node.spike_dtype = torch.int8 if _runs(snn) else torch.bfloat16
    return snn


def _runs(snn: SpikingNetwork) -> bool:
    """Whether the functions between the layers (upsampling, say) know the dtypes of the spikes."""
    try:
        _run_once(snn)
    except RuntimeError:
        return False
    return True


@torch.no_grad()
def _run_once(snn: SpikingNetwork) -> None:
    """On a black image of the size that the network was made for."""
    functional.reset_net(snn)
    try:
        snn(next(reader_of(snn).parameters()).new_zeros(1, *snn.input_shape))
    finally:
        functional.reset_net(snn)


def _reading_whole_numbers(snn: SpikingNetwork, layers: list[tuple[str, nn.Module]]) -> set[str]:
    """Names of the layers that read whole numbers of spikes, by a run in which half of the neurons fire."""
    generator = torch.Generator().manual_seed(0)
    whole = {name for name, _ in layers}

    def fire(_node: nn.Module, _args: Any, out: torch.Tensor) -> torch.Tensor:
        return torch.randint(2, out.shape, generator=generator).to(out)

    def check(name: str, _layer: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        if not torch.equal(args[0], args[0].round()):
            whole.discard(name)

    nodes = [module for module in snn.modules() if isinstance(module, LowLatencyIFNode)]
    handles = [node.register_forward_hook(fire) for node in nodes]
    handles += [layer.register_forward_pre_hook(partial(check, name)) for name, layer in layers]
    try:
        _run_once(snn)
    finally:
        for handle in handles:
            handle.remove()
    return whole


def _inner_layers(snn: SpikingNetwork) -> list[tuple[str, nn.Module]]:
    """Layers with weights that read spikes."""
    return [
        (name, module)
        for name, module in snn.named_modules()
        if isinstance(module, Synapse) and not module.reads_input
    ]


def _takes_int8(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    zeros = isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros"
    return zeros and not isinstance(layer.padding, str)
