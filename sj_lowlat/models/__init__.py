"""Detectors as ordinary networks (ANNs); ``forward`` returns raw head maps."""

import sys
from typing import Any

from sj_lowlat.layers import SameMaxPool
from sj_lowlat.models.darknet_cfg import Section, parse_cfg
from sj_lowlat.models.darknet_layers import ConvBlock, Reorg, Route, Shortcut
from sj_lowlat.models.darknet_net import DarknetNet, darknet
from sj_lowlat.models.darknet_weights import DarknetHeader, load_darknet_weights, save_darknet_weights
from sj_lowlat.models.detector import Detector
from sj_lowlat.models.grey import grey_input
from sj_lowlat.models.onnx_net import InputScale, OnnxNetwork, from_onnx
from sj_lowlat.models.registry import build, create, register
from sj_lowlat.models.snn_tiny_yolov3 import SNNTinyYOLOv3, snn_tiny_yolov3
from sj_lowlat.models.tiny_yolov3 import tiny_yolov3
from sj_lowlat.models.torchvision_net import TorchvisionDetector, from_torchvision

__all__ = [
    "ConvBlock",
    "DarknetHeader",
    "DarknetNet",
    "Detector",
    "InputScale",
    "OnnxNetwork",
    "Reorg",
    "Route",
    "SNNTinyYOLOv3",
    "SameMaxPool",
    "Section",
    "Shortcut",
    "TorchvisionDetector",
    "build",
    "create",
    "darknet",
    "from_onnx",
    "from_torchvision",
    "grey_input",
    "load_darknet_weights",
    "parse_cfg",
    "register",
    "save_darknet_weights",
    "snn_tiny_yolov3",
    "tiny_yolov3",
]


def __getattr__(name: str) -> Any:
    if name == "load":  # of version 0.1; what it calls stands above this package
        return sys.modules["sj_lowlat"]._models_load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
