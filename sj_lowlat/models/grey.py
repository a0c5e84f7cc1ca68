"""Detectors for grey pictures and spike cameras, from detectors for colour."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, TypeVar, cast

import torch
from torch import nn

from sj_lowlat.errors import InputError
from sj_lowlat.graph import capture
from sj_lowlat.models.detector import Detector
from sj_lowlat.network import GraphNetwork, refuse_spiking, unwrapped

_Net = TypeVar("_Net", bound=Detector | GraphNetwork)


@torch.no_grad()
def grey_input(model: _Net) -> _Net:
    r"""The same detector with one input channel: on grey pictures it computes what it computed on three equal
    channels.

    :math:`W'_{o,1} = \sum_c W_{o,c}` in the convolutions that read the image. Networks that are quantised
    stay so; convert afterwards.

    :param model: a detector for ``[N, C, H, W]``, left untouched
    :return: the detector for ``[N, 1, H, W]``
    :raises InputError: if it has one channel already, or computes on the image before its first convolution
    :raises ConversionError: for a spiking network
    """
    model = cast(_Net, unwrapped(model))
    refuse_spiking(model)
    shape = model.info.input_shape
    if shape is None or shape[0] == 1:
        raise InputError(
            f"a network with {shape and shape[0]} input channels came: "
            "give one of models.tiny_yolov3 or models.snn_tiny_yolov3 that reads colour"
        )
    grey = copy.deepcopy(model)
    example = torch.rand(1, *shape).to(next(grey.parameters()))
    graph = grey.graph if isinstance(grey, GraphNetwork) else capture(grey, example)[0]
    for node in next(node for node in graph.nodes if node.op == "placeholder").users:
        conv: Any = grey.get_submodule(str(node.target)) if node.op == "call_module" else None
        if not isinstance(conv, nn.Conv2d) or conv.groups != 1:
            raise InputError(f"{node.target} reads the image: only plain convolutions can be made grey")
        conv.weight = nn.Parameter(conv.weight.sum(1, keepdim=True))
        conv.in_channels = 1
    grey.info = replace(grey.info, input_shape=(1, *shape[1:]))
    if isinstance(grey, Detector):
        kwargs = {**grey.build_config["kwargs"], "in_channels": 1}
        grey.build_config = {**grey.build_config, "kwargs": kwargs}
    return grey
