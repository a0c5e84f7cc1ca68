"""Published conversion methods, one record each: ``convert(model, method="spiking-yolo", ...)``."""

from sj_lowlat.conversion.methods.method import Case, Method
from sj_lowlat.conversion.methods.table import METHODS, find_method, register_method

__all__ = ["METHODS", "Case", "Method", "find_method", "register_method"]
