"""Heads with anchors and a box coder, as SSD and RetinaNet have them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from sj_lowlat.detect.head import Decoded, Head, as_tuples, cells_of
from sj_lowlat.errors import InputError

SCORES = ("sigmoid", "softmax", "probabilities")


@dataclass(frozen=True)
class AnchorGrid:
    """The anchors of one feature map: ``A`` boxes around the centre of every cell.

    :param rows: H of the map, ``columns`` its W
    :param step: pixels of the network input per cell, (across, down)
    :param sizes: ``A`` pairs (width, height), in pixels
    :param offset: where in its cell a centre lies: 0.5 the middle (SSD), 0 the corner (RetinaNet)
    """

    rows: int
    columns: int
    step: tuple[float, float]
    sizes: tuple[tuple[float, float], ...]
    offset: float = 0.5

    def boxes(self, device: torch.device) -> Tensor:
        """Centre and size of every anchor, ``[H * W * A, 4]``, over rows, columns, sizes."""
        (cells,) = cells_of([(self.rows, self.columns)], device)
        centres = (cells + self.offset) * cells.new_tensor(self.step)
        sizes = cells.new_tensor(self.sizes)
        count = (len(cells), len(sizes), 2)
        return torch.cat((centres[:, None].expand(count), sizes.expand(count)), -1).flatten(0, 1)


@dataclass(frozen=True)
class AnchorHead(Head):
    r"""SSD (arXiv 1512.02325) and RetinaNet (arXiv 1708.02002): offsets to anchors
    :math:`(a_x, a_y, a_w, a_h)` (centre, size), divided by the weights of the box coder:

    .. math::
        (c_x, c_y) = (a_x + a_w t_x / w_x, \; a_y + a_h t_y / w_y), \quad
        (w, h) = (a_w e^{t_w / w_w}, \; a_h e^{t_h / w_h})

    It reads two tensors: classes ``[N, M, K]`` (``[N, M, K + 1]`` with a background class in front) and
    offsets ``[N, M, 4]``, M over grids, rows, columns, sizes.

    :param num_classes: K, without the background
    :param grids: the anchors of each feature map
    :param scores: what makes scores of the class values: ``"sigmoid"`` (RetinaNet), ``"softmax"`` (SSD), or
        nothing (``"probabilities"``)
    :param background: whether class 0 is the background, which is dropped
    :param weights: of the box coder, for x, y, w, h
    :param boxes_first: whether the offsets come before the classes
    :raises InputError: if a value is out of range
    """

    num_classes: int
    grids: tuple[AnchorGrid, ...]
    scores: str = "softmax"
    background: bool = False
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    boxes_first: bool = False

    def __post_init__(self) -> None:
        if self.scores not in SCORES:
            raise InputError(f"scores is {self.scores!r}, it must be one of {', '.join(SCORES)}")
        if self.num_classes < 1 or not self.grids or len(self.weights) != 4 or min(self.weights) <= 0:
            raise InputError(f"num_classes, grids and four positive weights are needed; got {self}")

    @property
    def outputs(self) -> int:
        return 2

    @classmethod
    def of_fields(cls, fields: Mapping[str, Any]) -> Self:
        grids = [{name: as_tuples(value) for name, value in grid.items()} for grid in fields["grids"]]
        return cls(**{**fields, "grids": tuple(AnchorGrid(**grid) for grid in grids)})

    def decode(self, outputs: Sequence[Tensor]) -> Decoded:
        """Boxes ``[N, M, 4]`` and scores ``[N, M, K]``."""
        offsets, classes = outputs if self.boxes_first else outputs[::-1]
        anchors = torch.cat([grid.boxes(offsets.device) for grid in self.grids])
        wanted = [(len(anchors), 4), (len(anchors), self.num_classes + self.background)]
        if [tuple(part.shape[1:]) for part in (offsets, classes)] != wanted:
            raise InputError(
                f"a head of {len(anchors)} anchors and {self.num_classes} classes takes offsets [N, M, 4] "
                f"and classes [N, M, {wanted[1][1]}], M = {len(anchors)}; got {list(offsets.shape)} and "
                f"{list(classes.shape)}: other image sizes need other grids"
            )
        moves = offsets.float() / offsets.new_tensor(self.weights, dtype=torch.float32)
        centre = anchors[:, :2] + moves[..., :2] * anchors[:, 2:]
        # no box grows beyond 1000 / 16 of its anchor, as in torchvision's coder
        half = moves[..., 2:].clamp(max=math.log(1000 / 16)).exp() * anchors[:, 2:] / 2
        scores = classes.float()
        if self.scores != "probabilities":
            scores = scores.sigmoid() if self.scores == "sigmoid" else scores.softmax(-1)
        scores = scores[..., 1:] if self.background else scores
        return torch.cat((centre - half, centre + half), -1), scores.clamp(0, 1)
