"""From a trained network to a spiking one: replace, prepare, convert."""

from sj_lowlat.convert.pipeline import convert
from sj_lowlat.convert.precision import PRECISIONS, set_precision
from sj_lowlat.convert.quantise import prepare
from sj_lowlat.convert.recipe import LowLatencyRecipe
from sj_lowlat.convert.replace import POOL_HANDLERS, TO_RELU, replace_layers
from sj_lowlat.convert.report import ConversionReport, LayerReport
from sj_lowlat.convert.spike import ACTIVATIONS, NEURONS, register_activation

__all__ = [
    "ACTIVATIONS",
    "NEURONS",
    "POOL_HANDLERS",
    "PRECISIONS",
    "TO_RELU",
    "ConversionReport",
    "LayerReport",
    "LowLatencyRecipe",
    "convert",
    "prepare",
    "register_activation",
    "replace_layers",
    "set_precision",
]
