"""From raw head maps to detections: decoding, non-maximum suppression, the record, drawing."""

from sj_lowlat.detect.anchor_free import YOLOXHead
from sj_lowlat.detect.anchor_head import AnchorGrid, AnchorHead
from sj_lowlat.detect.decode import decode
from sj_lowlat.detect.detections import Detection, Detections
from sj_lowlat.detect.draw import draw, save_image
from sj_lowlat.detect.head import CustomHead, Head, register_decode
from sj_lowlat.detect.heads import HeadSpec
from sj_lowlat.detect.nms import detections_from_maps, nms
from sj_lowlat.detect.stable import StableDetections, same_detections

__all__ = [
    "AnchorGrid",
    "AnchorHead",
    "CustomHead",
    "Detection",
    "Detections",
    "Head",
    "HeadSpec",
    "StableDetections",
    "YOLOXHead",
    "decode",
    "detections_from_maps",
    "draw",
    "nms",
    "register_decode",
    "same_detections",
    "save_image",
]
