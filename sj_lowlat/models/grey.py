"""Detectors for grey pictures and spike cameras, from detectors for colour."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

from sj_lowlat.errors import InputError
from sj_lowlat.models.detector import Detector

_Net = TypeVar("_Net", bound=Detector)


@torch.no_grad()
def grey_input(model: _Net) -> _Net:
    r"""The same detector with one input channel: on grey pictures it computes what it computed on three equal
    channels.

    :math:`W'_{o,1} = \sum_c W_{o,c}` in the first convolution. Networks that are quantised stay so; convert
    afterwards.

    :param model: a detector of :mod:`sj_lowlat.models`, left untouched
    :return: the detector for ``[N, 1, H, W]``
    :raises InputError: if it has one channel already, is not built by name, or is a spiking network
    """
    channels = model.input_shape[0]
    kwargs = model.build_config.get("kwargs", {})
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if channels == 1 or "in_channels" not in kwargs:
        raise InputError(
            f"a network with {channels} input channels, built by {model.build_config.get('builder')!r} came: "
            "give one of models.tiny_yolov3 or models.snn_tiny_yolov3 that reads colour"
        )
    if (
        first is None
        or first.in_channels != channels
        or getattr(model, "conversion_report", None) is not None
    ):
        raise InputError("a spiking network came: give the network that it was converted from, then convert")
    grey = copy.deepcopy(model)
    conv = next(m for m in grey.modules() if isinstance(m, nn.Conv2d))
    conv.weight = nn.Parameter(conv.weight.sum(1, keepdim=True))
    conv.in_channels = 1
    grey.input_shape = (1, *model.input_shape[1:])
    grey.build_config = {**model.build_config, "kwargs": {**kwargs, "in_channels": 1}}
    return grey
