"""Networks for other programs and for hardware."""

from sj_lowlat.export.integers import integer_network, read_integers, write_integers
from sj_lowlat.export.nir_file import read_nir, write_nir, write_nir_spikes
from sj_lowlat.export.onnx_file import read_onnx, run_onnx, write_onnx, wrote
from sj_lowlat.export.onnx_step import run_onnx_steps, write_onnx_step
from sj_lowlat.export.sinabs_chain import run_sinabs, to_sinabs
from sj_lowlat.export.speck import SpeckLayer, SpeckPlan, speck_network, speck_plan

__all__ = [
    "SpeckLayer",
    "SpeckPlan",
    "integer_network",
    "read_integers",
    "read_nir",
    "read_onnx",
    "run_onnx",
    "run_onnx_steps",
    "run_sinabs",
    "speck_network",
    "speck_plan",
    "to_sinabs",
    "write_integers",
    "write_nir",
    "write_nir_spikes",
    "write_onnx",
    "write_onnx_step",
    "wrote",
]
