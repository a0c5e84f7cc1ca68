"""The protocols by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from torch import nn

from sj_lowlat.class_names import match_classes
from sj_lowlat.data import DetectionDataset
from sj_lowlat.detect import Detections
from sj_lowlat.errors import InputError
from sj_lowlat.evaluation.ap import APResult, pair_up
from sj_lowlat.evaluation.coco_ap import coco_ap, coco_ap_and_matches, coco_matches
from sj_lowlat.evaluation.matches import Matches
from sj_lowlat.evaluation.voc_ap import voc_ap, voc_ap_and_matches, voc_matches
from sj_lowlat.network import info_of

PROTOCOLS: dict[str, Callable[..., APResult]] = {
    "coco": coco_ap,
    "voc07": partial(voc_ap, method="11-point"),
    "voc": partial(voc_ap, method="all-point"),
}


def score(
    dataset: DetectionDataset,
    detections: Sequence[Detections],
    protocol: str = "coco",
    class_map: Mapping[int, int] | None = None,
) -> APResult:
    """Average precision by name of the protocol.

    :param dataset: its boxes are the truth
    :param detections: one record an image, in pixels of the original image
    :param protocol: ``"coco"`` (pycocotools), ``"voc07"`` (11-point) or ``"voc"`` (all-point)
    :param class_map: model label -> data set label
    :raises InputError: for an unknown protocol
    """
    check_protocol(protocol)
    return PROTOCOLS[protocol](dataset, detections, class_map=class_map)


def match(
    dataset: DetectionDataset,
    detections: Sequence[Detections],
    protocol: str = "coco",
    class_map: Mapping[int, int] | None = None,
) -> Matches:
    """Compare detections with the truth once, for :func:`~sj_lowlat.evaluation.confidence` and
    :func:`~sj_lowlat.evaluation.paired_difference`; the arguments are those of :func:`score`.

    :raises InputError: for an unknown protocol, counts or labels that do not fit, or no box to find
    """
    check_protocol(protocol)
    scenes, labels = pair_up(dataset, detections, class_map)
    classes = (coco_matches if protocol == "coco" else voc_matches)(scenes, labels)
    return Matches(protocol, len(scenes), tuple(classes))


def score_and_match(
    dataset: DetectionDataset,
    detections: Sequence[Detections],
    protocol: str = "coco",
    class_map: Mapping[int, int] | None = None,
) -> tuple[APResult, Matches]:
    """:func:`score` and :func:`match` for the price of one."""
    check_protocol(protocol)
    scenes, labels = pair_up(dataset, detections, class_map)
    if protocol == "coco":
        result, classes = coco_ap_and_matches(dataset, scenes, labels)
    else:
        method = "11-point" if protocol == "voc07" else "all-point"
        result, classes = voc_ap_and_matches(dataset, scenes, labels, method)
    return result, Matches(protocol, len(scenes), tuple(classes))


def check_protocol(protocol: str) -> None:
    """:raises InputError: for an unknown one"""
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol is {protocol!r}, it must be one of {', '.join(PROTOCOLS)}")


def class_map_of(model: nn.Module, dataset: DetectionDataset) -> dict[int, int] | None:
    """Model label -> data set label, by name; ``None`` where the labels are the same."""
    names = info_of(model).class_names
    same = not names or names == tuple(dataset.class_names)
    return None if same else match_classes(names, dataset.class_names)
