"""Training on labels and on a teacher's outputs."""

from sj_lowlat.finetune.config import FinetuneConfig
from sj_lowlat.finetune.distil import distillation_loss, output_distance
from sj_lowlat.finetune.loop import finetune
from sj_lowlat.finetune.losses import detection_loss

__all__ = ["FinetuneConfig", "detection_loss", "distillation_loss", "finetune", "output_distance"]
