"""YOLO heads (v2 to v7): what a raw map means, its boxes and its scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sj_lowlat.detect.head import Decoded, Head
from sj_lowlat.errors import InputError

#: largest log(size / anchor) decoded as it stands; exp of more would leave float32's useful range
MAX_LOG_SIZE = 10.0


@dataclass(frozen=True)
class HeadSpec(Head):
    r"""What the raw map of one YOLO head means.

    The map is ``[N, A * (5 + num_classes), H, W]``; each of the ``A`` anchors owns the consecutive channels
    x, y, w, h, objectness, class 0, class 1, ...

    .. math::
        (c_x, c_y) = (\sigma(t_{xy}) + cell) \cdot stride, \quad
        (w, h) = e^{t_{wh}} \cdot anchor, \quad
        score_k = \sigma(t_o) \cdot p_k

    with :math:`p_k = \sigma(t_k)` (YOLOv3, arXiv 1804.02767) or the softmax over classes (YOLOv2, arXiv
    1612.08242). With ``scale_xy`` :math:`s` the sigmoid of the centre is :math:`s \sigma - (s - 1) / 2`
    (YOLOv4, arXiv 2004.10934); with ``new_coords`` sizes are :math:`(2 \sigma(t_{wh}))^2 \cdot anchor`
    (scaled YOLOv4, arXiv 2011.08036).

    :param anchors: ``A`` pairs (width, height) in pixels of the network input
    :param stride: pixels of the network input per cell of the map
    :param kind: ``"yolo"`` (YOLOv3: an independent sigmoid per class) or ``"region"`` (YOLOv2: a softmax over
        classes)
    :param scale_xy: darknet's ``scale_x_y`` (YOLOv4): how far centres reach beyond their cell
    :param new_coords: darknet's ``new_coords`` (scaled YOLOv4, YOLOv7): sizes by a squared sigmoid
    :raises InputError: if a value is out of range
    """

    anchors: tuple[tuple[float, float], ...]
    stride: int
    num_classes: int
    kind: str = "yolo"
    scale_xy: float = 1.0
    new_coords: bool = False

    def __post_init__(self) -> None:
        pairs = [len(anchor) == 2 and all(0 < size < math.inf for size in anchor) for anchor in self.anchors]
        if not pairs or not all(pairs):
            raise InputError(f"anchors must be one or more pairs of positive sizes; got {self.anchors}")
        if min(self.stride, self.num_classes) < 1:
            raise InputError(f"stride and num_classes must be 1 or more; got {self}")
        if not 1 <= self.scale_xy <= 4:
            raise InputError(f"scale_xy must be from 1 to 4; got {self.scale_xy}")
        if self.kind not in ("yolo", "region"):
            raise InputError(f'kind must be "yolo" or "region"; got {self.kind!r}')

    @property
    def channels(self) -> int:
        """Channels of the raw map, ``A * (5 + num_classes)``."""
        return len(self.anchors) * (5 + self.num_classes)

    def decode(self, outputs: Sequence[Tensor]) -> Decoded:
        """Boxes ``[N, M, 4]`` and scores ``[N, M, K]``, M over anchors, rows, columns."""
        raw = split_head(outputs[0].float(), self)
        return boxes_of(raw, self).flatten(1, 3), scores_of(raw, self).flatten(1, 3)

    def candidates(self, outputs: Sequence[Tensor], score_threshold: float) -> list[Decoded]:
        """Only the boxes whose objectness is above a score: no class can score more."""
        raw = split_head(outputs[0].float(), self)
        promising = raw.objectness.sigmoid() > score_threshold  # [N, A, H, W]
        found = [raw[image][chosen.nonzero(as_tuple=True)] for image, chosen in enumerate(promising)]
        return [(boxes_of(cells, self), scores_of(cells, self)) for cells in found]


@dataclass(frozen=True)
class RawHead:
    """A head map, or some of its cells, in parts; float32, ``[N, A, H, W, *]`` for a whole map."""

    xy: Tensor  # [*, 2] offsets of the centre
    wh: Tensor  # [*, 2] log sizes
    objectness: Tensor  # [*] logits
    classes: Tensor  # [*, num_classes] logits
    cells: Tensor  # [*, 2] column and row
    anchors: Tensor  # [*, 2] width and height

    def __getitem__(self, index: int | tuple[Tensor, ...]) -> RawHead:
        """One image by its number, or some cells by their indices."""
        return RawHead(*(part[index] for part in vars(self).values()))


def split_head(head_map: Tensor, spec: HeadSpec) -> RawHead:
    """View a raw map ``[N, A * (5 + num_classes), H, W]`` as :class:`RawHead`, in float32 or float64."""
    if head_map.dim() != 4 or head_map.shape[1] != spec.channels:
        raise InputError(
            f"a head map is {list(head_map.shape)}; its HeadSpec ({len(spec.anchors)} anchors, "
            f"{spec.num_classes} classes) needs [N, {spec.channels}, H, W]: give the network's own head_specs"
        )
    n, _, rows, columns = head_map.shape
    # [N, A, 5 + K, H, W] -> [N, A, H, W, 5 + K]
    values = head_map.to(torch.promote_types(head_map.dtype, torch.float32))
    values = values.reshape(n, len(spec.anchors), -1, rows, columns).permute(0, 1, 3, 4, 2)
    sides = [torch.arange(side, device=values.device) for side in (rows, columns)]
    y, x = torch.meshgrid(*sides, indexing="ij")
    anchors = torch.tensor(spec.anchors, dtype=torch.float32, device=values.device).view(-1, 1, 1, 2)
    shape = (*values.shape[:-1], 2)
    parts = (values[..., :2], values[..., 2:4], values[..., 4], values[..., 5:])
    return RawHead(*parts, torch.stack((x, y), -1).float().expand(shape), anchors.expand(shape))


def boxes_of(raw: RawHead, spec: HeadSpec) -> Tensor:
    """Boxes ``[*, 4]``, x1 y1 x2 y2 in pixels of the network input; differentiable."""
    xy = raw.xy.sigmoid()
    if spec.scale_xy != 1:
        xy = xy * spec.scale_xy - (spec.scale_xy - 1) / 2
    centres = (xy + raw.cells) * spec.stride
    if spec.new_coords:
        half = (2 * raw.wh.sigmoid()).square() * raw.anchors / 2
    else:
        half = raw.wh.clamp(max=MAX_LOG_SIZE).exp() * raw.anchors / 2
    return torch.cat((centres - half, centres + half), -1)


def scores_of(raw: RawHead, spec: HeadSpec) -> Tensor:
    """Scores ``[*, num_classes]`` in [0, 1]: objectness times the probability of each class."""
    classes = raw.classes.softmax(-1) if spec.kind == "region" else raw.classes.sigmoid()
    return raw.objectness.sigmoid()[..., None] * classes


def check_specs(specs: Sequence[HeadSpec], outputs: Sequence[Tensor]) -> None:
    """Refuse another number of maps than of specs."""
    if len(specs) != len(outputs):
        raise InputError(
            f"a network gives {len(outputs)} maps and names {len(specs)} head_specs; give one per map"
        )
