"""Multi-step neurons: one signature, one semantics, several implementations."""

from sj_lowlat.kernels.memory import SpikeSums
from sj_lowlat.kernels.rule import FireRule
from sj_lowlat.kernels.select import KERNELS, choose, multi_step

__all__ = ["KERNELS", "FireRule", "SpikeSums", "choose", "multi_step"]
