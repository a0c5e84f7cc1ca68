"""Head maps in, detections out."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sj_lowlat.detect.decode import candidates
from sj_lowlat.detect.detections import Detections
from sj_lowlat.detect.heads import HeadSpec
from sj_lowlat.detect.nms import nms


def detections_from_maps(
    head_maps: Sequence[Tensor],
    specs: Sequence[HeadSpec],
    score_threshold: float = 0.005,
    iou_threshold: float = 0.45,
    max_detections: int = 100,
) -> list[Detections]:
    """Decode a batch of raw head maps and suppress overlaps, image by image.

    :param head_maps: one raw map ``[N, A * (5 + K), H, W]`` per head
    :param specs: the model's ``head_specs``
    :param score_threshold: see :func:`nms`
    :param iou_threshold: see :func:`nms`
    :param max_detections: see :func:`nms`
    :return: one :class:`Detections` per image, boxes in pixels of the network input
    :raises InputError: as :func:`~sj_lowlat.detect.decode` and :func:`nms`
    """
    found = candidates([head_map.detach() for head_map in head_maps], specs, score_threshold)
    return [nms(*image, score_threshold, iou_threshold, max_detections) for image in found]
