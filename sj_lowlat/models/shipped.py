"""Detectors with trained weights, by name."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from torch import nn


def load(name: str, *, spiking: bool = True) -> nn.Module:
    """A detector that ships with the package; :func:`sj_lowlat.pretrained.load` under a shorter name.

    :param name: such as ``"snn-tiny-yolov3-coco"``
    :param spiking: converted, with signed neurons; otherwise its Quant ANN
    :return: the detector in eval mode
    :raises InputError: if there is no such detector, or its file is damaged
    """
    # by name: reading a packed network takes convert, which stands on models
    return cast(nn.Module, import_module("sj_lowlat.pretrained").load(name, spiking=spiking))
