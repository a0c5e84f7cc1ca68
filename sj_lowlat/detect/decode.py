"""Boxes and scores from what a detector returned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from sj_lowlat.detect.head import Decoded, Head, shared_out


def decode(outputs: Any, heads: Sequence[Head]) -> Decoded:
    """Decode what a detector returned into boxes and class scores, always in float32.

    :param outputs: the output tensors ``[N, *]``, any floating dtype, in tuples, lists or dictionaries; for
        YOLO one raw map ``[N, A * (5 + K), H, W]`` per head
    :param heads: what they mean, in the same order (:class:`HeadSpec`, :class:`YOLOXHead`,
        :class:`AnchorHead`, :class:`CustomHead`), all with the same number of classes ``K``
    :return: boxes ``[N, M, 4]`` as x1, y1, x2, y2 in pixels of the network input (not clipped to it) and
        scores ``[N, M, K]`` in [0, 1]; ``M`` runs over heads, then as in each head
    :raises InputError: if outputs and heads do not fit each other, or an output holds NaN or infinity
    """
    found = [head.decode(maps) for head, maps in shared_out(outputs, heads)]
    return torch.cat([boxes for boxes, _ in found], 1), torch.cat([scores for _, scores in found], 1)


def candidates(outputs: Any, heads: Sequence[Head], score_threshold: float) -> list[Decoded]:
    """:func:`decode`, image by image, at least of the boxes that score more than a threshold.

    :return: for each image boxes ``[M, 4]`` and scores ``[M, K]``, in the order of :func:`decode`
    """
    found = [head.candidates(maps, score_threshold) for head, maps in shared_out(outputs, heads)]
    return [
        (torch.cat([boxes for boxes, _ in parts]), torch.cat([scores for _, scores in parts]))
        for parts in zip(*found, strict=True)
    ]
