"""Synapses: torch's weighted layers, which read the clock of a spiking network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from sj_lowlat.errors import InputError
from sj_lowlat.layers.clock import Clock, Clocked, share_clock
from sj_lowlat.layers.readout import RateReadout
from sj_lowlat.layers.window import convolve_active


class Synapse(Clocked, nn.Module):
    """Base of weighted layers: in a simulation, bias and image (if it reads one) are multiplied by a gain.

    If the images are constant, a layer that reads them computes once and reuses its result. Outside of a
    simulation it behaves as torch's layer.
    """

    weight: torch.Tensor
    bias: Any  # torch declares it differently from layer to layer

    def currents(self, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """What torch's layer computes.

        :param x: its input, of any dtype: rounded weights read spikes of another
        :param bias: instead of the layer's own
        """
        raise NotImplementedError

    def forward(self, input: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Spikes or images ``[N, *]`` to currents (in a simulation of T merged steps ``[T * N, *]``)."""
        now = self.clock.now
        kept = now.kept if self.reads_input else None
        if kept is not None and self in kept:
            return kept[self]
        bias, gain = self.bias, now.bias_gain
        if bias is not None and gain != 1:
            bias = bias * gain if gain else None
        out = self.currents(self.driven(input), bias, *args, **kwargs)
        if kept is not None:
            kept[self] = out
        return out


class _Convolution(Synapse):
    def currents(self, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        layer: Any = self
        return layer._conv_forward(x.to(self.weight.dtype), self.weight, bias)


class _Transposed(Synapse):
    def currents(
        self, x: torch.Tensor, bias: torch.Tensor | None, output_size: list[int] | None = None
    ) -> torch.Tensor:
        layer: Any = self
        dims = len(layer.kernel_size)
        padding = layer._output_padding(
            x, output_size, layer.stride, layer.padding, layer.kernel_size, dims, layer.dilation
        )
        convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[dims - 1]
        return convolve(
            x.to(self.weight.dtype), self.weight, bias,
            layer.stride, layer.padding, padding, layer.groups, layer.dilation,
        )  # fmt: skip


class Conv1dSynapse(_Convolution, nn.Conv1d):
    """A convolution that reads the clock."""


class Conv2dSynapse(_Convolution, nn.Conv2d):
    """A convolution that reads the clock. In a simulation it leaves out edges without spikes."""

    def currents(self, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        plain = self.padding_mode == "zeros" and not isinstance(self.padding, str)
        if not plain or self.clock.now.steps is None or torch.is_grad_enabled():
            return self.dense(x, bias)
        return convolve_active(self, x, bias, self.dense)

    def dense(self, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """:meth:`currents` of all of the input."""
        return super().currents(x, bias)


class Conv3dSynapse(_Convolution, nn.Conv3d):
    """A convolution that reads the clock."""


class ConvTranspose1dSynapse(_Transposed, nn.ConvTranspose1d):
    """A transposed convolution that reads the clock."""


class ConvTranspose2dSynapse(_Transposed, nn.ConvTranspose2d):
    """A transposed convolution that reads the clock."""


class ConvTranspose3dSynapse(_Transposed, nn.ConvTranspose3d):
    """A transposed convolution that reads the clock."""


class LinearSynapse(Synapse, nn.Linear):
    """A linear layer that reads the clock."""

    def currents(self, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return F.linear(x.to(self.weight.dtype), self.weight, bias)


_KINDS: dict[type[nn.Module], type[Synapse]] = {
    nn.Conv1d: Conv1dSynapse,
    nn.Conv2d: Conv2dSynapse,
    nn.Conv3d: Conv3dSynapse,
    nn.ConvTranspose1d: ConvTranspose1dSynapse,
    nn.ConvTranspose2d: ConvTranspose2dSynapse,
    nn.ConvTranspose3d: ConvTranspose3dSynapse,
    nn.Linear: LinearSynapse,
}


def as_synapse(layer: nn.Module, reads_input: bool = False) -> nn.Module:
    """Turn a weighted layer into a synapse, in place.

    :param layer: a convolution (plain or transposed) or linear layer of torch; being changed in place, it
        keeps its names, its hooks and all references to it
    :param reads_input: whether it reads the images
    :return: the layer
    :raises InputError: for another layer
    """
    synapse: Any = layer
    if not isinstance(layer, Synapse):
        kind = next((kind for torch_kind, kind in _KINDS.items() if isinstance(layer, torch_kind)), None)
        if kind is None:
            raise InputError(f"{type(layer).__name__} came, and synapses are convolutions and linear layers")
        synapse.__class__ = kind
        synapse.clock = Clock()
    synapse.reads_input = reads_input
    return layer


def connect(network: nn.Module, readers: Iterable[str] = ()) -> Clock:
    """Connect the layers of a spiking network, in place: weighted layers become synapses, and all share one
    clock.

    :param network: is changed in place
    :param readers: names of the layers and read-outs that read the images
    :return: the clock
    """
    reading = {network.get_submodule(name) for name in readers}
    readouts = [module for module in network.modules() if isinstance(module, RateReadout)]
    for readout in readouts:
        readout.reads_input = readout in reading
    inside = {layer for readout in readouts for layer in readout.modules()}  # their biases count once
    for module in network.modules():
        if module not in inside and isinstance(module, tuple(_KINDS)):
            as_synapse(module, module in reading)
    return share_clock(network)
