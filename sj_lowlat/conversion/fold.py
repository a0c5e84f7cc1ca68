"""Scaling of weights by output and input channel, and batch-norm folding, for all weighted layers."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from sj_lowlat.errors import ConversionError


def scale_channels(
    layer: nn.Module, scale_out: torch.Tensor | None = None, scale_in: torch.Tensor | None = None
) -> None:
    """Multiply the weight by ``scale_out[o] * scale_in[i]`` in place; the bias is left alone.

    A transposed convolution holds ``[in, out / groups, *k]``: its output axis is 1, within each group.

    :param layer: convolution, transposed convolution or linear layer
    :param scale_out: ``[out_channels]``
    :param scale_in: ``[in_channels]``
    """
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    if isinstance(layer, _ConvNd):
        groups, kernel = layer.groups, [1] * (weight.dim() - 2)
        if isinstance(layer, _ConvTransposeNd):
            view = weight.data.view(
                groups, layer.in_channels // groups, layer.out_channels // groups, *weight.shape[2:]
            )
            out_shape, in_shape = (groups, 1, -1, *kernel), (groups, -1, 1, *kernel)
        else:
            view = weight.data.view(
                groups, layer.out_channels // groups, layer.in_channels // groups, *weight.shape[2:]
            )
            out_shape, in_shape = (groups, -1, 1, *kernel), (groups, 1, -1, *kernel)
    else:
        view, out_shape, in_shape = weight.data, (-1, 1), (1, -1)
    for scale, shape in ((scale_out, out_shape), (scale_in, in_shape)):
        if scale is not None:
            view.mul_(scale.to(view.dtype).reshape(shape))


def out_channels(layer: nn.Module) -> int:
    """Number of output channels (or features)."""
    return layer.out_channels if isinstance(layer, _ConvNd) else layer.out_features  # type: ignore[return-value]


def in_channels(layer: nn.Module) -> int:
    """Number of input channels (or features)."""
    return layer.in_channels if isinstance(layer, _ConvNd) else layer.in_features  # type: ignore[return-value]


def has_depthwise(network: nn.Module) -> bool:
    """Whether a network has depthwise convolutions: each of their channels has a range of its own, which one
    scale per layer does not fit."""
    convolutions = (module for module in network.modules() if isinstance(module, _ConvNd))
    return any(1 < layer.groups == layer.in_channels and max(layer.kernel_size) > 1 for layer in convolutions)


@torch.no_grad()
def fold_batch_norm(layer: nn.Module, norm: _BatchNorm) -> None:
    r"""Fold an eval-mode batch norm into the layer before it:
    :math:`W'[o] = W[o] g_o / \sqrt{var_o + \epsilon}`, :math:`b'_o = (b_o - \mu_o) g_o / \sqrt{var_o +
    \epsilon} + \beta_o`.

    :param layer: the weighted layer, changed in place; it gets a bias if it has none
    :param norm: the batch norm; its running statistics are used
    :raises ConversionError: if it has none
    """
    if norm.running_mean is None or norm.running_var is None:
        raise ConversionError(
            "a batch norm without running statistics cannot be folded: build it with track_running_stats=True"
        )
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    gain = torch.rsqrt(norm.running_var.double() + norm.eps)  # float64: rounding happens once, at the end
    gain = gain if norm.weight is None else gain * norm.weight.double()
    shift = torch.zeros_like(gain) if norm.bias is None else norm.bias.double()
    bias = layer.bias.double() if isinstance(layer.bias, torch.Tensor) else torch.zeros_like(gain)
    bias = (bias - norm.running_mean.double()) * gain + shift
    # a copy: another layer may share the weight
    exact = weight.data.to(torch.float64, copy=True)
    layer.weight = nn.Parameter(exact, requires_grad=weight.requires_grad)
    scale_channels(layer, scale_out=gain)
    layer.weight = nn.Parameter(exact.to(weight.dtype), requires_grad=weight.requires_grad)
    layer.bias = nn.Parameter(bias.to(weight.dtype))
