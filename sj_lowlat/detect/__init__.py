"""From raw head maps to detections: decoding, non-maximum suppression, the record, drawing."""

from sj_lowlat.detect.decode import HeadSpec, decode
from sj_lowlat.detect.detections import Detections
from sj_lowlat.detect.draw import draw, save_image
from sj_lowlat.detect.nms import nms
from sj_lowlat.detect.pipeline import detections_from_maps

__all__ = ["Detections", "HeadSpec", "decode", "detections_from_maps", "draw", "nms", "save_image"]
