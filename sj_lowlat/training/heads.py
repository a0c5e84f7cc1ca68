"""Raw YOLO head maps as something a loss can work on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sj_lowlat.detect.decode import MAX_LOG_SIZE, HeadSpec
from sj_lowlat.errors import InputError


@dataclass(frozen=True)
class RawHead:
    """One head map in parts; all float32, ``[N, A, H, W, *]``, cells of all anchors in that order.

    :param xy: raw centre offsets ``[N, A, H, W, 2]``
    :param wh: raw log sizes ``[N, A, H, W, 2]``
    :param objectness: logits ``[N, A, H, W]``
    :param classes: logits ``[N, A, H, W, num_classes]``
    """

    xy: Tensor
    wh: Tensor
    objectness: Tensor
    classes: Tensor


def split_head(head_map: Tensor, spec: HeadSpec) -> RawHead:
    """View a raw map ``[N, A (5 + num_classes), H, W]`` as :class:`RawHead`, in float32.

    :raises InputError: if the channels do not fit the spec
    """
    n, channels, height, width = head_map.shape
    anchors, values = len(spec.anchors), 5 + spec.num_classes
    if channels != anchors * values:
        raise InputError(
            f"a head map has {channels} channels, but {anchors} anchors and {spec.num_classes} classes need"
            f" {anchors * values}: give the head_specs this network was built with"
        )
    maps = (
        head_map.float().reshape(n, anchors, values, height, width).permute(0, 1, 3, 4, 2)
    )  # [N, A, H, W, 5+K]
    return RawHead(maps[..., 0:2], maps[..., 2:4], maps[..., 4], maps[..., 5:])


def boxes_of(raw: RawHead, spec: HeadSpec) -> Tensor:
    """Boxes as :func:`~sj_lowlat.detect.decode.decode` gives them, in the layout of the head.

    Centre ``(sigmoid(xy) + cell) stride``, size ``anchor exp(wh)``; differentiable.

    :return: boxes ``[N, A, H, W, 4]``, xyxy, network pixels
    """
    height, width = raw.objectness.shape[-2:]
    device = raw.xy.device
    rows, columns = torch.meshgrid(
        torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
    )
    centre = (raw.xy.sigmoid() + torch.stack((columns, rows), -1)) * spec.stride
    anchors = torch.tensor(spec.anchors, device=device).view(1, -1, 1, 1, 2)
    half = anchors * raw.wh.clamp(max=MAX_LOG_SIZE).exp() / 2
    return torch.cat((centre - half, centre + half), -1)


def check_specs(specs: Sequence[HeadSpec], outputs: Sequence[Tensor]) -> None:
    """:raises InputError: if there is not one map per spec"""
    if len(specs) != len(outputs):
        raise InputError(
            f"the network gave {len(outputs)} maps and names {len(specs)} head_specs; give one spec per map"
        )
