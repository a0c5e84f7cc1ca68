"""Scoring detectors: average precision, curves against time steps, energy."""

from sj_lowlat.evaluation.ap import APResult
from sj_lowlat.evaluation.coco_ap import coco_ap
from sj_lowlat.evaluation.curve import CurvePoint, Evaluation, evaluate, score
from sj_lowlat.evaluation.energy import EnergyReport, count_macs, energy
from sj_lowlat.evaluation.voc_ap import voc_ap

__all__ = [
    "APResult",
    "CurvePoint",
    "EnergyReport",
    "Evaluation",
    "coco_ap",
    "count_macs",
    "energy",
    "evaluate",
    "score",
    "voc_ap",
]
