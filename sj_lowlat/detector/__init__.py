"""A detector by one word, and pictures into detections by one call."""

from sj_lowlat.detector.detector import DetectOptions, Detector
from sj_lowlat.detector.opening import load

__all__ = ["DetectOptions", "Detector", "load"]
