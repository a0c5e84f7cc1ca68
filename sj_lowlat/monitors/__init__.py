"""Monitors: watch a spiking network by forward hooks, and keep running sums instead of recordings."""

from sj_lowlat.monitors.fan_out import dense_macs, fan_out
from sj_lowlat.monitors.firing_rate import FiringRateMonitor, LayerRate
from sj_lowlat.monitors.presentation import LayerRecord
from sj_lowlat.monitors.remainder import LayerRemainder, RemainderMonitor, ResidualMonitor
from sj_lowlat.monitors.spike_count import SpikeCount
from sj_lowlat.monitors.spike_recorder import LayerSpikes, SpikeRecorder
from sj_lowlat.monitors.synops import LayerOps, SynOpMonitor

__all__ = [
    "FiringRateMonitor",
    "LayerOps",
    "LayerRate",
    "LayerRecord",
    "LayerRemainder",
    "LayerSpikes",
    "RemainderMonitor",
    "ResidualMonitor",
    "SpikeCount",
    "SpikeRecorder",
    "SynOpMonitor",
    "dense_macs",
    "fan_out",
]
