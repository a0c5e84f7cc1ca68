"""Boxes and scores from the raw maps of YOLO heads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sj_lowlat.detect.heads import HeadSpec, boxes_of, scores_of, split_head
from sj_lowlat.errors import InputError


def decode(head_maps: Sequence[Tensor], specs: Sequence[HeadSpec]) -> tuple[Tensor, Tensor]:
    r"""Decode raw head maps into boxes and class scores, always in float32.

    .. math::
        (c_x, c_y) = (\sigma(t_{xy}) + cell) \cdot stride, \quad
        (w, h) = e^{t_{wh}} \cdot anchor, \quad
        score_k = \sigma(t_o) \cdot p_k

    with :math:`p_k = \sigma(t_k)` (YOLOv3, arXiv 1804.02767) or the softmax over classes (YOLOv2, arXiv
    1612.08242). With ``scale_xy`` :math:`s` the sigmoid of the centre is :math:`s \sigma - (s - 1) / 2`
    (YOLOv4, arXiv 2004.10934); with ``new_coords`` sizes are :math:`(2 \sigma(t_{wh}))^2 \cdot anchor`
    (scaled YOLOv4, arXiv 2011.08036).

    :param head_maps: one raw map ``[N, A * (5 + K), H, W]`` per head, any floating dtype
    :param specs: one :class:`HeadSpec` per map, in the same order, all with the same number of classes ``K``
    :return: boxes ``[N, M, 4]`` as x1, y1, x2, y2 in pixels of the network input (not clipped to it) and
        scores ``[N, M, K]`` in [0, 1]; ``M`` runs over heads, then anchors, then rows, then columns
    :raises InputError: if maps and specs do not fit each other, or a map holds NaN or infinity
    """
    _check_sets(head_maps, specs)
    heads = [(split_head(head_map, spec), spec) for head_map, spec in zip(head_maps, specs, strict=True)]
    return (
        torch.cat([boxes_of(*head).flatten(1, 3) for head in heads], 1),
        torch.cat([scores_of(*head).flatten(1, 3) for head in heads], 1),
    )


def all_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite; a sum tells it fastest, unless it overflows."""
    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())


def _check_sets(head_maps: Sequence[Tensor], specs: Sequence[HeadSpec]) -> None:
    if not specs or len(head_maps) != len(specs):
        raise InputError(
            f"decode needs one HeadSpec per head map: got {len(specs)} for {len(head_maps)} maps"
        )
    if len({spec.num_classes for spec in specs}) > 1:
        raise InputError(f"all heads must have the same classes; got {[spec.num_classes for spec in specs]}")
    for index, (head_map, spec) in enumerate(zip(head_maps, specs, strict=True)):
        if head_map.ndim != 4 or head_map.shape[1] != spec.channels or not head_map.is_floating_point():
            raise InputError(
                f"head map {index} is {head_map.dtype} {list(head_map.shape)}; its HeadSpec "
                f"({len(spec.anchors)} anchors, {spec.num_classes} classes) needs floating point "
                f"[N, {spec.channels}, H, W]"
            )
        if not all_finite(head_map):
            found = "NaN" if torch.isnan(head_map).any() else "infinity"
            raise InputError(f"head map {index} holds {found}: look for it in the images and in the weights")
    if len(set(map(len, head_maps))) > 1:
        raise InputError(f"head maps have different batch sizes: {list(map(len, head_maps))}")


def candidates(
    head_maps: Sequence[Tensor], specs: Sequence[HeadSpec], score_threshold: float
) -> list[tuple[Tensor, Tensor]]:
    """:func:`decode`, only of the boxes whose objectness is above a score: no class can score more.

    :return: for each image boxes ``[M, 4]`` and scores ``[M, K]``, in the order of :func:`decode`
    """
    _check_sets(head_maps, specs)
    found: list[tuple[list[Tensor], list[Tensor]]] = [([], []) for _ in head_maps[0]]
    for head_map, spec in zip(head_maps, specs, strict=True):
        raw = split_head(head_map, spec)
        promising = raw.objectness.sigmoid() > score_threshold  # [N, A, H, W]
        for image, (boxes, scores) in enumerate(found):
            cells = raw[image][promising[image].nonzero(as_tuple=True)]
            boxes.append(boxes_of(cells, spec))
            scores.append(scores_of(cells, spec))
    return [(torch.cat(boxes), torch.cat(scores)) for boxes, scores in found]
