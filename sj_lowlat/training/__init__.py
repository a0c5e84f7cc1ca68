"""Training on labels and on a teacher's outputs."""

from sj_lowlat.training.config import FinetuneConfig
from sj_lowlat.training.distil import distillation_loss, output_distance
from sj_lowlat.training.loop import finetune
from sj_lowlat.training.losses import detection_loss
from sj_lowlat.training.rates import SpikingRates
from sj_lowlat.training.validate import Validation

__all__ = [
    "FinetuneConfig",
    "SpikingRates",
    "Validation",
    "detection_loss",
    "distillation_loss",
    "finetune",
    "output_distance",
]
