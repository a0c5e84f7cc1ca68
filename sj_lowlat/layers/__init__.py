"""Layers: state around the equations and the kernels."""

from sj_lowlat.layers.int8_conv import Int8Conv2d
from sj_lowlat.layers.merged import MergedTime
from sj_lowlat.layers.quant_relu import QuantReLU
from sj_lowlat.layers.readout import RateReadout
from sj_lowlat.layers.spike_max_pool import SpikeMaxPool
from sj_lowlat.layers.spiking import (
    ImbalancedIFNode,
    LowLatencyIFNode,
    ResidualFixIFNode,
    SignedIFNode,
    is_spiking,
)

__all__ = [
    "ImbalancedIFNode",
    "Int8Conv2d",
    "LowLatencyIFNode",
    "MergedTime",
    "QuantReLU",
    "RateReadout",
    "ResidualFixIFNode",
    "SignedIFNode",
    "SpikeMaxPool",
    "is_spiking",
]
