"""The layers of darknet networks as modules."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "leaky": lambda: nn.LeakyReLU(0.1),
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": lambda: nn.GELU("tanh"),
    "hardtan": nn.Hardtanh,
    "relie": nn.LeakyReLU,
    "logistic": nn.Sigmoid,
    "tanh": nn.Tanh,
    "mish": nn.Mish,
    "swish": nn.SiLU,
}
"""Darknet's name of an activation -> its module; ``linear`` stands for none."""


class ConvBlock(nn.Sequential):
    """A convolution (``conv``), batch norm (``bn``) and activation (``act``), the latter two where given."""

    def __init__(
        self, conv: nn.Conv2d | nn.ConvTranspose2d, bn: nn.BatchNorm2d | None, act: nn.Module | None
    ) -> None:
        parts = {"conv": conv, "bn": bn, "act": act}
        super().__init__(OrderedDict((name, part) for name, part in parts.items() if part is not None))


class BinaryConv2d(nn.Conv2d):
    """Darknet's convolution with ``xnor=1``: of the input's signs, with the weights' signs times the mean
    size of the weights of a filter. Padding is 0, as in darknet's training."""

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to ``[N, filters, H', W']``; a 0 counts as negative."""
        size = self.weight.abs().mean((1, 2, 3), keepdim=True)
        weight = torch.where(self.weight > 0, size, -size)
        return self._conv_forward(torch.where(x > 0, 1.0, -1.0).to(x), weight, self.bias)


class LocalAvgPool(nn.Module):
    """Darknet's average over windows, of the cells that lie in the map; padded like :class:`SameMaxPool`.

    :param size: side of the window
    :param stride: step of the window, which divides the map's sides
    :param padding: rows (and columns) added in all, the odd one below (and to the right); below ``size``
    """

    def __init__(self, size: int, stride: int, padding: int) -> None:
        super().__init__()
        odd = padding % 2 == 1 and padding == size - stride  # else no window reaches the odd row
        self.cut = odd and stride == 1  # a row above for one below
        self.pool = nn.AvgPool2d(
            size,
            stride,
            padding // 2 + self.cut,
            ceil_mode=odd and not self.cut,
            count_include_pad=False,
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to ``[N, C, (H + padding - size) // stride + 1, likewise]``."""
        x = self.pool(x)
        return x[:, :, 1:, 1:] if self.cut else x


class Reorg3d(nn.Module):
    """Darknet's reorg3d by a stride ``s``: space to depth, a block of all channels for each of the phases."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to ``[N, s^2 C, H / s, W / s]``."""
        n, channels, height, width = x.shape
        s = self.stride
        phases = x.reshape(n, channels, height // s, s, width // s, s).permute(0, 3, 5, 1, 2, 4)
        return phases.reshape(n, channels * s**2, height // s, width // s)

    def extra_repr(self) -> str:
        return f"stride={self.stride}"


class Reorg(Reorg3d):
    """Darknet's reorg by a stride ``s``, which is not a space-to-depth of its input.

    Its loop reads the input's memory as if it were ``[C / s^2, H s, W s]``, takes that apart into ``s^2``
    phases and lays the result out as ``[C s^2, H / s, W / s]``. The published YOLOv2 weights were trained
    with it.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to ``[N, C s^2, H / s, W / s]``; ``C`` a multiple of ``s^2``."""
        n, channels, height, width = x.shape
        s = self.stride
        phases = super().forward(x.reshape(n, channels // s**2, height * s, width * s))
        return phases.reshape(n, channels * s**2, height // s, width // s)


class Route(nn.Module):
    """Outputs of the layers with these numbers, or of each the ``group_id``-th (from 0) of ``groups`` slices,
    joined along the channels."""

    def __init__(self, sources: Sequence[int], groups: int = 1, group_id: int = 0) -> None:
        super().__init__()
        self.sources = tuple(sources)
        self.groups = groups
        self.group_id = group_id

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Tensors ``[N, C_i, H, W]`` to ``[N, sum C_i / groups, H, W]``."""
        if self.groups > 1:
            inputs = [x.chunk(self.groups, 1)[self.group_id] for x in inputs]
        return inputs[0] if len(inputs) == 1 else torch.cat(tuple(inputs), 1)

    def extra_repr(self) -> str:
        groups = f", groups={self.groups}, group_id={self.group_id}" if self.groups > 1 else ""
        return f"sources={self.sources}{groups}"


class Shortcut(nn.Module):
    """The sum of the layer before and layer number ``source``, with an activation where the cfg names one.

    It has the channels of the layer before; of the other one as many are added as there are."""

    def __init__(self, source: int, act: nn.Module | None) -> None:
        super().__init__()
        self.source = source
        self.act = act

    def forward(self, x: Tensor, earlier: Tensor) -> Tensor:
        """Two tensors ``[N, C_i, H, W]`` to their sum."""
        more = x.shape[1] - earlier.shape[1]
        if more:
            earlier = nn.functional.pad(earlier, (0, 0, 0, 0, 0, more)) if more > 0 else earlier[:, :more]
        total = x + earlier
        return total if self.act is None else self.act(total)

    def extra_repr(self) -> str:
        return f"source={self.source}"


class Product(nn.Module):
    """The product of layer number ``source`` and the layer before, which may be one cell (squeeze and
    excitation) or a map of the same shape (spatial attention)."""

    def __init__(self, source: int) -> None:
        super().__init__()
        self.source = source

    def forward(self, x: Tensor, earlier: Tensor) -> Tensor:
        """``[N, C, 1, 1]`` or ``[N, C, H, W]``, and ``[N, C, H, W]``, to ``[N, C, H, W]``."""
        return earlier * x

    def extra_repr(self) -> str:
        return f"source={self.source}"


class DetectionHead(nn.Identity):
    """The place of a yolo or region layer: the raw map that arrives here is an output of the network."""
