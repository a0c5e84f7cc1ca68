"""From a trained network to a spiking one: replace, prepare, convert."""

from sj_lowlat.convert.pipeline import LowLatencyRecipe, calibrate_batch_norm, convert, prepare
from sj_lowlat.convert.replace import POOL_HANDLERS, TO_RELU, replace_layers
from sj_lowlat.convert.report import ConversionReport, LayerReport
from sj_lowlat.convert.spike import ACTIVATIONS, NEURONS, register_activation

__all__ = [
    "ACTIVATIONS",
    "NEURONS",
    "POOL_HANDLERS",
    "TO_RELU",
    "ConversionReport",
    "LayerReport",
    "LowLatencyRecipe",
    "calibrate_batch_norm",
    "convert",
    "prepare",
    "register_activation",
    "replace_layers",
]
