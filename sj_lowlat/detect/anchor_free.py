"""The head of YOLOX: no anchors, one box a cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sj_lowlat.detect.head import Decoded, Head, cells_of
from sj_lowlat.errors import InputError


@dataclass(frozen=True)
class YOLOXHead(Head):
    r"""Decoupled, anchor-free heads (YOLOX, arXiv 2107.08430) in one tensor: of every cell
    :math:`t_x, t_y, t_w, t_h`, objectness, a value per class, with

    .. math::
        (c_x, c_y) = (t_{xy} + cell) \cdot stride, \quad (w, h) = e^{t_{wh}} \cdot stride, \quad
        score_k = \sigma(t_o) \, \sigma(t_k)

    The tensor is ``[N, M, 5 + K]``, its cells running over strides, then rows, then columns; or a map
    ``[N, 5 + K, H, W]`` of one stride.

    :param num_classes: K
    :param strides: pixels of the network input per cell
    :param image_size: (height, width) of the network input; a map does not need it
    :param activated: whether objectness and classes have been through their sigmoid, as in the ONNX files
        of YOLOX
    :raises InputError: if a value is out of range
    """

    num_classes: int
    strides: tuple[int, ...] = (8, 16, 32)
    image_size: tuple[int, int] | None = None
    activated: bool = False

    def __post_init__(self) -> None:
        if not self.strides or min(self.num_classes, *self.strides, *(self.image_size or ())) < 1:
            raise InputError(f"num_classes, strides and image_size must be 1 or more; got {self}")

    def _grids(self, output: Tensor) -> list[tuple[int, int]]:
        if output.dim() == 4 and len(self.strides) == 1:
            return [(output.shape[2], output.shape[3])]
        if output.dim() == 3 and self.image_size is not None:
            height, width = self.image_size
            return [(-(-height // stride), -(-width // stride)) for stride in self.strides]
        raise InputError(
            f"a YOLOX head got {list(output.shape)}: it takes [N, M, 5 + K] with image_size given, or a map "
            "[N, 5 + K, H, W] with one stride"
        )

    def decode(self, outputs: Sequence[Tensor]) -> Decoded:
        """Boxes ``[N, M, 4]`` and scores ``[N, M, K]``."""
        (output,) = outputs
        grids = self._grids(output)
        values = (output.flatten(2).transpose(1, 2) if output.dim() == 4 else output).float()
        cells = cells_of(grids, output.device)
        wanted = (sum(map(len, cells)), 5 + self.num_classes)
        if values.shape[1:] != wanted:
            raise InputError(
                f"a YOLOX head of {self.num_classes} classes, strides {self.strides} and images of "
                f"{self.image_size} pixels takes [N, {wanted[0]}, {wanted[1]}]; got {list(values.shape)}"
            )
        stride = torch.cat(
            [cell.new_full((len(cell), 1), s) for cell, s in zip(cells, self.strides, strict=True)]
        )
        centre = (values[..., :2] + torch.cat(cells)) * stride
        half = values[..., 2:4].clamp(max=10.0).exp() * stride / 2
        scores = values[..., 4:] if self.activated else values[..., 4:].sigmoid()
        return torch.cat((centre - half, centre + half), -1), (scores[..., :1] * scores[..., 1:]).clamp(0, 1)
