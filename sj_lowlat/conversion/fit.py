"""Initial weights of replacement layers: as close as possible to the layers that they replace."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

_POSITIONS = 40_000  # sampled positions for the least-squares fit


def upsampling_convolution(channels: int, factor: int) -> nn.ConvTranspose2d:
    """A transposed convolution that equals nearest upsampling exactly.

    For a factor of 2: kernel 3, stride 2, padding 1, output padding 1. Output 2i reads tap 1 of input i,
    output 2i + 1 reads tap 2 of input i (and tap 0 of input i + 1, which is 0). Other factors: kernel =
    stride = factor.

    :param channels: input and output channels
    :param factor: whole factor of the size
    """
    if factor == 2:
        layer = nn.ConvTranspose2d(channels, channels, 3, 2, padding=1, output_padding=1, bias=False)
        taps = torch.tensor([0.0, 1.0, 1.0])
    else:
        layer = nn.ConvTranspose2d(channels, channels, factor, factor, bias=False)
        taps = torch.ones(factor)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(channels)[:, :, None, None] * torch.outer(taps, taps))
    return layer


def _window(layer: nn.Conv2d, pool: nn.MaxPool2d) -> list[slice]:
    """The pool's window among the taps of the layer, for rows and columns."""
    paddings, kernels = (
        (value, value) if isinstance(value, int) else value for value in (pool.padding, pool.kernel_size)
    )
    own = layer.padding
    assert not isinstance(own, str)
    return [
        slice(wide - narrow, wide - narrow + size)
        for wide, narrow, size in zip(own, paddings, kernels, strict=True)
    ]


@torch.no_grad()
def fit_to_pool(
    layer: nn.Conv2d, norm: nn.BatchNorm2d, pool: nn.MaxPool2d, x: torch.Tensor | None, ridge: float = 1e-3
) -> None:
    r"""Fit a strided convolution and the bias of its batch norm to a max-pool:
    :math:`\min_{W, b} \|W * x + b - \mathrm{maxpool}(x)\|^2 + \epsilon \|W\|^2`.

    :param layer: the convolution, changed in place
    :param norm: the batch norm behind it; its bias is set
    :param pool: the max-pool
    :param x: inputs of the pool ``[N, C, H, W]``; ``None`` for the average over the pool's window
    :param ridge: weight decay relative to the mean square of the inputs
    """
    channels, kernel = layer.in_channels, tuple(layer.kernel_size)
    if x is None:
        taps = torch.zeros(kernel)
        rows, columns = _window(layer, pool)
        taps[rows, columns] = 1
        layer.weight.copy_(torch.eye(channels)[:, :, None, None] * (taps / taps.sum()))
        return
    target = pool(x).transpose(0, 1).flatten(1)  # [C, positions]
    generator = torch.Generator().manual_seed(0)
    per_image = target.shape[1] // len(x)
    wanted = max(1, min(per_image, _POSITIONS // len(x)))
    size = channels * kernel[0] * kernel[1] + 1
    gram = torch.zeros(size, size, dtype=torch.float64)
    cross = torch.zeros(size, channels, dtype=torch.float64)
    for i, image in enumerate(x):
        picked = torch.randperm(per_image, generator=generator)[:wanted]
        windows = F.unfold(image[None], kernel, padding=layer.padding, stride=layer.stride)  # type: ignore[arg-type]
        patches = torch.cat([windows[0, :, picked], torch.ones(1, wanted, device=x.device)]).cpu()
        values = target[:, i * per_image + picked.to(x.device)].cpu()
        gram += (patches @ patches.T).double()
        cross += (patches @ values.T).double()
    penalty = torch.full((size,), float(ridge * gram.diagonal().mean()), dtype=torch.float64)
    penalty[-1] = 0  # the bias is free
    solution = torch.linalg.solve(gram + penalty.diag(), cross)
    layer.weight.copy_(solution[:-1].T.reshape(layer.weight.shape))
    norm.bias.copy_(solution[-1])


@torch.no_grad()
def match_batch_norm(layer: nn.Module, norm: nn.BatchNorm2d, x: torch.Tensor) -> None:
    """Set a batch norm's statistics to those of ``layer(x)``, and gain and bias so that it only adds its
    present bias: the same function in train mode (on a batch like ``x``) and in eval mode.

    :param layer: the layer in front of it
    :param norm: the batch norm, changed in place
    :param x: inputs of ``layer``
    """
    out = torch.cat([layer(image[None]) for image in x])
    mean, var = out.mean((0, 2, 3)), out.var((0, 2, 3), unbiased=False)
    assert norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(var)
    norm.weight.copy_((var + norm.eps).sqrt())
    norm.bias.add_(mean)
