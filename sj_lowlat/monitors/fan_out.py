"""How many outputs a spike reaches, and how many products a dense layer computes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from sj_lowlat.errors import InputError
from sj_lowlat.layers import RateReadout

#: the layers whose operations are counted: every convolution and transposed convolution, and Linear
WeightedLayer: TypeAlias = _ConvNd | nn.Linear


def output_size(layer: _ConvNd, size: Sequence[int]) -> tuple[int, ...]:
    """Return the spatial size of a convolution's output, for an input of this spatial size."""
    sizes = []
    for axis, length in enumerate(size):
        left, both = _padding(layer, axis)
        extent = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
        if isinstance(layer, _ConvTransposeNd):
            sizes.append((length - 1) * layer.stride[axis] - both + extent + layer.output_padding[axis] + 1)
        else:
            sizes.append((length + both - extent - 1) // layer.stride[axis] + 1)
    return tuple(sizes)


def _padding(layer: _ConvNd, axis: int) -> tuple[int, int]:
    """Padding before an axis, and on both sides of it together."""
    if layer.padding == "valid":
        return 0, 0
    if layer.padding == "same":  # the odd one goes to the end, as torch does it
        both = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
        return both // 2, both
    return int(layer.padding[axis]), 2 * int(layer.padding[axis])


def fan_out(layer: _ConvNd, size: Sequence[int]) -> Tensor:
    """Count, for each position of the input, the outputs (of all channels) that a spike there reaches.

    Along each axis, input i and output o of a convolution meet at tap k where o * stride + k * dilation -
    padding = i (in a transposed one with i and o exchanged); positions are the product over the axes.

    :param size: spatial size of the input, ``(H, W)`` in 2-d
    :return: synaptic operations of one spike, int64, of shape ``size``
    :raises InputError: for a padding mode in which a spike at the border reaches outputs twice
    """
    if layer.padding_mode != "zeros":
        raise InputError(f"fan_out takes zero padding only, not padding_mode={layer.padding_mode!r}")
    reach, transposed = torch.tensor(layer.out_channels // layer.groups), isinstance(layer, _ConvTransposeNd)
    for axis, (inputs, outputs) in enumerate(zip(size, output_size(layer, size), strict=True)):
        strided, plain = (inputs, outputs) if transposed else (outputs, inputs)
        taps = torch.arange(layer.kernel_size[axis]) * layer.dilation[axis] - _padding(layer, axis)[0]
        # [strided, k], an index into the plain side
        meets = torch.arange(strided)[:, None] * layer.stride[axis] + taps
        valid = (meets >= 0) & (meets < plain)
        counts = valid.sum(1) if transposed else torch.bincount(meets[valid], minlength=inputs)
        reach = reach[..., None] * counts
    return reach


def dense_macs(layer: WeightedLayer, size: Sequence[int]) -> int:
    """Count the multiply-accumulates of a dense layer for one image, products with padding zeros included.

    :param size: spatial size of its input, ``(H, W)`` in 2-d; of a linear layer, the dimensions before
        the features
    """
    if isinstance(layer, _ConvNd) and not isinstance(layer, _ConvTransposeNd):
        size = output_size(layer, size)
    return layer.weight.numel() * prod(size)


def weighted_layers(net: nn.Module) -> list[tuple[str, nn.Module, WeightedLayer]]:
    """List the layers of an ANN or a spiking network whose operations are counted.

    :return: (name, module whose input arrives there, weighted layer): two different modules for a
        :class:`~sj_lowlat.layers.RateReadout`, which stands for the layer inside it
    :raises InputError: if ``net`` has weights in a layer of another kind, whose operations would go uncounted
    """
    inside = {id(module.layer) for module in net.modules() if isinstance(module, RateReadout)}
    layers: list[tuple[str, nn.Module, WeightedLayer]] = []
    for name, module in net.named_modules():
        if id(module) in inside:
            continue
        layer = module.layer if isinstance(module, RateReadout) else module
        if isinstance(layer, _ConvNd | nn.Linear):
            layers.append((name, module, layer))
        elif any(parameter.dim() > 1 for parameter in layer.parameters(recurse=False)):
            raise InputError(
                f"cannot count {name!r} ({type(layer).__name__}): only convolutions and Linear are known"
            )
    return layers
