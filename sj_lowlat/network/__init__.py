"""A network as the package sees it: its layers, and what is known of it."""

from sj_lowlat.network.info import NetworkInfo, heads_of, info_of, schedule_for, unwrapped
from sj_lowlat.network.report import ConversionReport, LayerReport

__all__ = [
    "ConversionReport",
    "LayerReport",
    "NetworkInfo",
    "heads_of",
    "info_of",
    "schedule_for",
    "unwrapped",
]
