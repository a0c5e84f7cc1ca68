"""Scoring detectors: average precision and its uncertainty, curves against time steps, energy."""

from sj_lowlat.evaluation.ap import APResult
from sj_lowlat.evaluation.bootstrap import Difference, Interval, confidence, paired_difference
from sj_lowlat.evaluation.coco_ap import coco_ap
from sj_lowlat.evaluation.curve import evaluate
from sj_lowlat.evaluation.energy import EnergyReport, count_macs, energy
from sj_lowlat.evaluation.matches import Matches
from sj_lowlat.evaluation.neurobench import neurobench_model
from sj_lowlat.evaluation.per_class import ClassScore, ClassScores, class_scores
from sj_lowlat.evaluation.protocols import match, score
from sj_lowlat.evaluation.result import CurvePoint, Evaluation
from sj_lowlat.evaluation.validator import Validator
from sj_lowlat.evaluation.voc_ap import voc_ap

__all__ = [
    "APResult",
    "ClassScore",
    "ClassScores",
    "CurvePoint",
    "Difference",
    "EnergyReport",
    "Evaluation",
    "Interval",
    "Matches",
    "Validator",
    "class_scores",
    "coco_ap",
    "confidence",
    "count_macs",
    "energy",
    "evaluate",
    "match",
    "neurobench_model",
    "paired_difference",
    "score",
    "voc_ap",
]
