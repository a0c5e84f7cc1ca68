"""Multi-step neurons: one signature, one semantics, several implementations."""

from sj_lowlat.kernels.borders import level_table
from sj_lowlat.kernels.memory import SpikeSums
from sj_lowlat.kernels.rule import FireRule
from sj_lowlat.kernels.select import KERNELS, choose, multi_step
from sj_lowlat.kernels.table import LevelTable

__all__ = ["KERNELS", "FireRule", "LevelTable", "SpikeSums", "choose", "level_table", "multi_step"]
