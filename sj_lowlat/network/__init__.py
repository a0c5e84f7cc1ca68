"""A network: its layers, the graph of its forward, and its metadata."""

from sj_lowlat.network.info import NetworkInfo, WithInfo, heads_of, info_of, schedule_for, unwrapped
from sj_lowlat.network.modules import module_rows, root_from_rows
from sj_lowlat.network.network import GraphNetwork, SpikingNetwork, refuse_not_finite, refuse_spiking
from sj_lowlat.network.report import ConversionReport, LayerReport

__all__ = [
    "ConversionReport",
    "GraphNetwork",
    "LayerReport",
    "NetworkInfo",
    "SpikingNetwork",
    "WithInfo",
    "heads_of",
    "info_of",
    "module_rows",
    "refuse_not_finite",
    "refuse_spiking",
    "root_from_rows",
    "schedule_for",
    "unwrapped",
]
