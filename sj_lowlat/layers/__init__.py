"""Layers: state around the equations and the kernels."""

from sj_lowlat.layers.branch_sum import BranchSum, Symmetric
from sj_lowlat.layers.clock import Clock, Clocked, Pass, clock_of, reader_of, share_clock
from sj_lowlat.layers.graded import DifferentialIFNode, MultiThresholdIFNode
from sj_lowlat.layers.int8_conv import Int8Conv2d
from sj_lowlat.layers.merged import MergedTime
from sj_lowlat.layers.neurons import HardResetIFNode, ImbalancedIFNode, ResidualFixIFNode, SignedIFNode
from sj_lowlat.layers.pointwise import PointwiseIFNode, QuantPointwise
from sj_lowlat.layers.pre_steps import COSIFNode, PreStepsIFNode, SRPIFNode
from sj_lowlat.layers.quant_relu import QuantReLU
from sj_lowlat.layers.rate_gated_max_pool import RateGatedMaxPool
from sj_lowlat.layers.rate_norm import RateNorm
from sj_lowlat.layers.readout import RateReadout
from sj_lowlat.layers.same_max_pool import SameMaxPool
from sj_lowlat.layers.spike_max_pool import SpikeMaxPool
from sj_lowlat.layers.spike_product import SpikeProduct
from sj_lowlat.layers.spiking import LowLatencyIFNode, is_spiking
from sj_lowlat.layers.synapse import Synapse, as_synapse, connect

__all__ = [
    "BranchSum",
    "COSIFNode",
    "Clock",
    "Clocked",
    "DifferentialIFNode",
    "HardResetIFNode",
    "ImbalancedIFNode",
    "Int8Conv2d",
    "LowLatencyIFNode",
    "MergedTime",
    "MultiThresholdIFNode",
    "Pass",
    "PointwiseIFNode",
    "PreStepsIFNode",
    "QuantPointwise",
    "QuantReLU",
    "RateNorm",
    "RateGatedMaxPool",
    "RateReadout",
    "ResidualFixIFNode",
    "SRPIFNode",
    "SameMaxPool",
    "SignedIFNode",
    "SpikeMaxPool",
    "SpikeProduct",
    "Symmetric",
    "Synapse",
    "as_synapse",
    "clock_of",
    "connect",
    "is_spiking",
    "reader_of",
    "share_clock",
]
