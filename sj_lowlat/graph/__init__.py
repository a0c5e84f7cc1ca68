"""The graph of a network's forward: captured once, then edited, saved and loaded."""

from sj_lowlat.graph.capture import IMAGES, capture
from sj_lowlat.graph.operations import Operation, register_operation
from sj_lowlat.graph.rows import from_rows, to_rows

__all__ = ["IMAGES", "Operation", "capture", "from_rows", "register_operation", "to_rows"]
