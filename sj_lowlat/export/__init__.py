"""Networks for other programs and for hardware."""

from sj_lowlat.export.integers import integer_network, read_integers, write_integers
from sj_lowlat.export.nir_file import read_nir, write_nir, write_nir_spikes
from sj_lowlat.export.onnx_file import read_onnx, run_onnx, write_onnx, wrote

__all__ = [
    "integer_network",
    "read_integers",
    "read_nir",
    "read_onnx",
    "run_onnx",
    "write_integers",
    "write_nir",
    "write_nir_spikes",
    "write_onnx",
    "wrote",
]
