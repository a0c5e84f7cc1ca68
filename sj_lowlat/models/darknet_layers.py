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


class Reorg(nn.Module):
    """Darknet's reorg by a stride ``s``, which is not a space-to-depth of its input.

    Its loop reads the input's memory as if it were ``[C / s^2, H s, W s]``, takes that apart into ``s^2``
    phases and lays the result out as ``[C s^2, H / s, W / s]``. The published YOLOv2 weights were trained
    with it.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to ``[N, C s^2, H / s, W / s]``; ``C`` a multiple of ``s^2``."""
        n, channels, height, width = x.shape
        s = self.stride
        phases = x.reshape(n, channels // s**2, height, s, width, s).permute(0, 3, 5, 1, 2, 4)
        return phases.reshape(n, channels * s**2, height // s, width // s)

    def extra_repr(self) -> str:
        return f"stride={self.stride}"


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
