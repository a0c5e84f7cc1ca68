"""A convolution of spikes whose weights are 8-bit whole numbers."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from sj_lowlat.errors import InputError
from sj_lowlat.functional import to_int8
from sj_lowlat.layers.synapse import Conv2dSynapse

_LARGEST = 127  # spike and weight
_ZERO = 128  # oneDNN reads unsigned bytes: flipping the top bit adds 128


class Int8Conv2d(Conv2dSynapse):
    r"""Convolution of spikes with int8 weights, one scale per output channel.

    :math:`w \approx s_c \, n, \; n = \mathrm{round}(w / s_c) \in [-127, 127], \; s_c = \max |w_c| / 127`.
    Spikes are whole numbers, so their sums are exact whole numbers (int32); they are scaled once, to float32.
    On CPUs with instructions for it (AVX512-VNNI, AVX-VNNI, AMX) oneDNN's int8 convolution runs, elsewhere a
    float32 convolution with the rounded weights.

    :param conv: the convolution, with zero padding; its rounded weights become ``weight``
    :raises InputError: for another padding
    """

    scale: torch.Tensor  # [C out]

    def __init__(self, conv: nn.Conv2d) -> None:
        if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            raise InputError(
                f"an int8 convolution needs zero padding given in numbers, not padding={conv.padding!r} with "
                f"padding_mode={conv.padding_mode!r}"
            )
        kernel, stride, padding, dilation = (
            cast(tuple[int, int], pair)
            for pair in (conv.kernel_size, conv.stride, conv.padding, conv.dilation)
        )
        bias = conv.bias is not None
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            kernel,
            stride,
            padding,
            dilation,
            conv.groups,
            bias,
            device="meta",
        )
        numbers, scale = to_int8(conv.weight.detach(), 0)
        self.weight = nn.Parameter(numbers.float() * scale, requires_grad=False)
        if conv.bias is not None:
            self.bias = nn.Parameter(conv.bias.detach().float(), requires_grad=False)
        self.register_buffer("scale", scale.flatten())
        self._packed: Any = None
        self.register_load_state_dict_post_hook(_forget_packed)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packed": None}  # copies pack for themselves

    def dense(self, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Spikes ``[N, C, H, W]``, whole numbers, to float32 currents.

        :param x: spikes; beyond 127 they are passed in two parts
        :param bias: ``[C out]``
        :raises InputError: for fractions
        """
        if x.device.type != "cpu" or not _fast():
            return super().dense(x.float(), bias)
        x = x.contiguous(memory_format=torch.channels_last)
        spikes = x.to(torch.int8)
        whole = x.dtype is torch.int8 or torch.equal(spikes.to(x.dtype), x)
        if not whole or (spikes.numel() and int(spikes.amin()) == -_ZERO):
            high, low = _digits(x)
            return self.dense(low, bias) + _LARGEST * self.dense(high, None)
        geometry = list(self.stride), list(self.padding), list(self.dilation), self.groups
        if self._packed is None:
            numbers = (self.weight / self.scale.view(-1, 1, 1, 1)).round().to(torch.int8)
            self._packed = torch.ops.onednn.qconv_prepack(numbers, self.scale, 1.0, _ZERO, *geometry, None)
        return torch.ops.onednn.qconv2d_pointwise(
            spikes.view(torch.uint8) ^ _ZERO, 1.0, _ZERO, self._packed, self.scale, _no_zero_points(self),
            bias, *geometry, 1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip


def _digits(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Whole numbers as 127 times the first plus the second, below 127."""
    x = x.float()
    high = (x / _LARGEST).trunc()
    low = x - _LARGEST * high
    if not bool(torch.isfinite(x).all()) or not torch.equal(low.round(), low):
        raise InputError(
            f"values from {x.min():g} to {x.max():g} came to an int8 convolution, which takes whole numbers: "
            "fractions need precision 'bf16' or 'fp32'"
        )
    return high, low


def _forget_packed(conv: Any, _incompatible_keys: Any) -> None:
    conv._packed = None


def _no_zero_points(conv: nn.Conv2d) -> torch.Tensor:
    return torch.zeros(conv.out_channels, dtype=torch.int32)


def _fast() -> bool:
    """Whether int8 sums are exact: older instructions cut them off at 16 bits."""
    return hasattr(torch.ops.onednn, "qconv2d_pointwise") and torch.cpu._is_vnni_supported()
