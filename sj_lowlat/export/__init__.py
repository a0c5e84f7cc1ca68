"""Networks for other programs and for hardware."""

from sj_lowlat.export.integers import integer_network, read_integers, write_integers
from sj_lowlat.export.onnx_file import read_onnx, run_onnx, write_onnx, wrote
from sj_lowlat.export.onnx_step import run_onnx_steps, write_onnx_step

__all__ = [
    "integer_network",
    "read_integers",
    "read_onnx",
    "run_onnx",
    "run_onnx_steps",
    "write_integers",
    "write_onnx",
    "write_onnx_step",
    "wrote",
]
