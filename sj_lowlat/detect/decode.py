"""Boxes and scores from the raw maps of YOLO heads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sj_lowlat.errors import InputError

MAX_LOG_SIZE = 10.0
"""Largest log(size / anchor) decoded as it stands; exp of more would leave float32's useful range."""


@dataclass(frozen=True)
class HeadSpec:
    """What one detection head's raw map means.

    The map is ``[N, A * (5 + num_classes), H, W]``; each of the ``A`` anchors owns the consecutive channels
    x, y, w, h, objectness, class 0, class 1, ...

    :param anchors: ``A`` pairs (width, height) in pixels of the network input
    :param stride: pixels of the network input per cell of the map
    :param num_classes: number of classes
    :param kind: ``"yolo"`` (YOLOv3: an independent sigmoid per class) or ``"region"`` (YOLOv2: a softmax over
        classes)
    :raises InputError: if a value is out of range
    """

    anchors: tuple[tuple[float, float], ...]
    stride: int
    num_classes: int
    kind: str = "yolo"

    def __post_init__(self) -> None:
        sizes = [size for anchor in self.anchors for size in anchor]
        if (
            not sizes
            or any(len(anchor) != 2 for anchor in self.anchors)
            or not all(math.isfinite(size) and size > 0 for size in sizes)
        ):
            raise InputError(
                f"anchors must be pairs of positive sizes in pixels, at least one pair; got {self.anchors}"
            )
        if self.stride < 1 or self.num_classes < 1:
            raise InputError(
                f"stride and num_classes must be 1 or more; got {self.stride} and {self.num_classes}"
            )
        if self.kind not in ("yolo", "region"):
            raise InputError(f'kind must be "yolo" or "region"; got {self.kind!r}')

    @property
    def channels(self) -> int:
        """Channels of the raw map, ``A * (5 + num_classes)``."""
        return len(self.anchors) * (5 + self.num_classes)


def decode(head_maps: Sequence[Tensor], specs: Sequence[HeadSpec]) -> tuple[Tensor, Tensor]:
    r"""Decode raw head maps into boxes and class scores, always in float32.

    .. math::
        (c_x, c_y) = (\sigma(t_{xy}) + cell) \cdot stride, \quad
        (w, h) = e^{t_{wh}} \cdot anchor, \quad
        score_k = \sigma(t_o) \cdot p_k

    with :math:`p_k = \sigma(t_k)` (YOLOv3, arXiv 1804.02767) or the softmax over classes (YOLOv2, arXiv
    1612.08242).

    :param head_maps: one raw map ``[N, A * (5 + K), H, W]`` per head, any floating dtype
    :param specs: one :class:`HeadSpec` per map, in the same order, all with the same number of classes ``K``
    :return: boxes ``[N, M, 4]`` as x1, y1, x2, y2 in pixels of the network input (not clipped to it) and
        scores ``[N, M, K]`` in [0, 1]; ``M`` runs over heads, then anchors, then rows, then columns
    :raises InputError: if maps and specs do not fit each other, or a map holds NaN or infinity
    """
    _check_sets(head_maps, specs)
    decoded = [_decode_one(head_map, spec) for head_map, spec in zip(head_maps, specs, strict=True)]
    return torch.cat([boxes for boxes, _ in decoded], 1), torch.cat([scores for _, scores in decoded], 1)


def all_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite; a sum tells it fastest, unless it overflows."""
    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())


def _check_sets(head_maps: Sequence[Tensor], specs: Sequence[HeadSpec]) -> None:
    if not specs or len(head_maps) != len(specs):
        raise InputError(
            f"decode needs one HeadSpec per head map and at least one; got {len(head_maps)} maps and "
            f"{len(specs)} specs: pass the model's own outputs with its head_specs"
        )
    if len({spec.num_classes for spec in specs}) > 1:
        raise InputError(
            f"all heads must have the same classes; got {[spec.num_classes for spec in specs]} classes"
        )
    for index, (head_map, spec) in enumerate(zip(head_maps, specs, strict=True)):
        if head_map.ndim != 4 or head_map.shape[1] != spec.channels or not head_map.is_floating_point():
            raise InputError(
                f"head map {index} is {head_map.dtype} {list(head_map.shape)}; its HeadSpec "
                f"({len(spec.anchors)} anchors, {spec.num_classes} classes) needs floating point "
                f"[N, {spec.channels}, H, W]"
            )
        if not all_finite(head_map):
            found = "NaN" if torch.isnan(head_map).any() else "infinity"
            raise InputError(
                f"head map {index} (stride {spec.stride}) holds {found}: "
                "look for it in the images and in the weights"
            )
    if len({head_map.shape[0] for head_map in head_maps}) > 1:
        raise InputError(
            f"head maps have different batch sizes: {[head_map.shape[0] for head_map in head_maps]}"
        )


def candidates(
    head_maps: Sequence[Tensor], specs: Sequence[HeadSpec], score_threshold: float
) -> list[tuple[Tensor, Tensor]]:
    """:func:`decode`, only of the boxes whose objectness is above a score: no class can score more.

    :param head_maps: as for :func:`decode`
    :param specs: as for :func:`decode`
    :param score_threshold: least score of interest
    :return: for each image boxes ``[M, 4]`` and scores ``[M, K]``, in the order of :func:`decode`
    :raises InputError: as :func:`decode`
    """
    _check_sets(head_maps, specs)
    found: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(len(head_maps[0]))]
    for head_map, spec in zip(head_maps, specs, strict=True):
        raw, cells, anchors = _rows(head_map, spec)
        promising = raw[..., 4].sigmoid() > score_threshold  # [N, M]
        for image, parts in enumerate(found):
            rows = promising[image].nonzero().flatten()
            parts.append(_boxes_and_scores(raw[image, rows], cells[rows], anchors[rows], spec))
    return [
        (torch.cat([boxes for boxes, _ in parts]), torch.cat([scores for _, scores in parts]))
        for parts in found
    ]


def _decode_one(head_map: Tensor, spec: HeadSpec) -> tuple[Tensor, Tensor]:
    return _boxes_and_scores(*_rows(head_map, spec), spec)


def _rows(head_map: Tensor, spec: HeadSpec) -> tuple[Tensor, Tensor, Tensor]:
    """Raw values ``[N, A * H * W, 5 + K]``; cell and anchor ``[A * H * W, 2]`` of each row."""
    n, _, rows, columns = head_map.shape
    raw = head_map.float().reshape(n, len(spec.anchors), 5 + spec.num_classes, rows, columns)
    device = raw.device
    y, x = torch.meshgrid(
        torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij"
    )
    cells = torch.stack((x, y), -1).float().flatten(0, 1).repeat(len(spec.anchors), 1)
    anchors = torch.tensor(spec.anchors, dtype=torch.float32, device=device)
    return (
        raw.permute(0, 1, 3, 4, 2).flatten(1, 3),
        cells,
        anchors.repeat_interleave(rows * columns, 0),
    )


def _boxes_and_scores(raw: Tensor, cells: Tensor, anchors: Tensor, spec: HeadSpec) -> tuple[Tensor, Tensor]:
    centres = (raw[..., :2].sigmoid() + cells) * spec.stride
    sizes = raw[..., 2:4].clamp(max=MAX_LOG_SIZE).exp() * anchors
    boxes = torch.cat((centres - sizes / 2, centres + sizes / 2), -1)
    classes = raw[..., 5:].softmax(-1) if spec.kind == "region" else raw[..., 5:].sigmoid()
    return boxes, raw[..., 4:5].sigmoid() * classes
