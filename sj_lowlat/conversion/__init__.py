"""From a trained network to a spiking one: replace, prepare, convert."""

from sj_lowlat.conversion.methods import METHODS, Case, Method, register_method
from sj_lowlat.conversion.pipeline import convert
from sj_lowlat.conversion.precision import PRECISIONS, set_precision
from sj_lowlat.conversion.quantise import prepare
from sj_lowlat.conversion.recipe import LowLatencyRecipe
from sj_lowlat.conversion.replace import POOL_HANDLERS, TO_RELU, replace_layers
from sj_lowlat.conversion.spike import ACTIVATIONS, NEURONS, register_activation

__all__ = [
    "ACTIVATIONS",
    "METHODS",
    "NEURONS",
    "POOL_HANDLERS",
    "PRECISIONS",
    "TO_RELU",
    "Case",
    "LowLatencyRecipe",
    "Method",
    "convert",
    "prepare",
    "register_activation",
    "register_method",
    "replace_layers",
    "set_precision",
]
