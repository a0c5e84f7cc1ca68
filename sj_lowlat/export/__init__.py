"""Networks for other programs and for hardware."""

from sj_lowlat.export.onnx_file import read_onnx, run_onnx, wrote, write_onnx

__all__ = ["read_onnx", "run_onnx", "write_onnx", "wrote"]
