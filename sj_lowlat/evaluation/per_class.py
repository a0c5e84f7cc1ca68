"""How well each class is found: average precision, and precision, recall and F1 at a score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sj_lowlat.errors import InputError
from sj_lowlat.evaluation.bootstrap import RECALLS, average
from sj_lowlat.evaluation.matches import ClassMatches, Floats, Integers, Matches
from sj_lowlat.record import table


@dataclass(frozen=True)
class ClassScore:
    """How well a class is found; fractions in [0, 1].

    :param objects: to be found, without crowds and difficult ones
    :param ap50: average precision at IoU 0.5, of all detections
    :param ap: mean over IoU 0.50, 0.55, ... 0.95; None where the protocol has 0.5 only
    :param kept: detections that score more than a threshold and count: TP + FP
    :param hits: those of them that find an object at IoU 0.5: TP
    """

    name: str
    objects: int
    ap50: float
    ap: float | None
    kept: int
    hits: int

    @property
    def precision(self) -> float | None:
        """TP / (TP + FP); None where nothing is kept."""
        return self.hits / self.kept if self.kept else None

    @property
    def recall(self) -> float:
        """TP / objects."""
        return self.hits / self.objects

    @property
    def f1(self) -> float:
        """2 TP / (TP + FP + objects), the harmonic mean of precision and recall."""
        return 2 * self.hits / (self.kept + self.objects)

    def to_json(self) -> dict[str, Any]:
        """A dict that ``json`` can write, the properties included."""
        return {**asdict(self), "precision": self.precision, "recall": self.recall, "f1": self.f1}

    def cells(self) -> list[str]:
        """The row of a table, in percent."""
        fractions = (self.ap50, self.ap, self.precision, self.recall, self.f1)
        return [self.name, str(self.objects), *("-" if f is None else f"{100 * f:.1f}" for f in fractions)]


@dataclass(frozen=True)
class ClassScores:
    """How well all classes are found.

    :param classes: those that have an object to find
    :param whole: all of them: sums of the counts, means of the average precisions
    :param min_score: of the detections that ``kept`` and ``hits`` count
    :param best_score: the ``min_score`` with the greatest F1 of ``whole``, halfway between the last detection
        that it keeps and the next one; None where nothing is found
    :param best_f1: that F1
    """

    classes: tuple[ClassScore, ...]
    whole: ClassScore
    min_score: float
    best_score: float | None
    best_f1: float

    def to_json(self) -> dict[str, Any]:
        """A dict that ``json`` can write."""
        return {
            "classes": [each.to_json() for each in self.classes],
            "all": self.whole.to_json(),
            "min_score": self.min_score,
            "best_score": self.best_score,
            "best_f1": self.best_f1,
        }

    def __str__(self) -> str:
        head = ["class", "objects", "AP50", "AP", "precision", "recall", "F1"]
        return table(head, [each.cells() for each in (*self.classes, self.whole)])


def class_scores(matches: Matches, class_names: Sequence[str], min_score: float = 0.25) -> ClassScores:
    """Precision, recall and F1 of the detections that score more than ``min_score``, class by class.

    Detections are compared with objects as the protocol does it, at IoU 0.5 and by falling score, each object
    found once; detections that meet crowds or difficult objects do not count. A detection of a lower score
    never takes an object from one of a higher score, so that leaving low scores out before the comparison
    gives the same counts.

    :param matches: what :func:`~sj_lowlat.evaluation.match` found
    :param class_names: of the data set
    :param min_score: compared in float32, as detections are
    :raises InputError: if ``min_score`` is not in [0, 1]
    """
    if not 0 <= min_score <= 1:
        raise InputError(f"min_score is {min_score}; give a score in [0, 1]")
    kept, hits = counts_above(matches, np.array([min_score]))
    once = np.ones((matches.images, 1), dtype=np.int32)
    rows = []
    for each, many, found in zip(matches.classes, kept[:, 0], hits[:, 0], strict=True):
        aps = [float(average(r, each.positives @ once, once, matches.protocol)[0]) for r in each.rankings]
        ap = float(np.mean(aps)) if len(aps) > 1 else None
        objects = int(each.positives.sum())
        rows.append(ClassScore(class_names[each.label], objects, aps[0], ap, int(many), int(found)))
    aps = [row.ap for row in rows if row.ap is not None]
    whole = ClassScore(
        "all",
        sum(row.objects for row in rows),
        float(np.mean([row.ap50 for row in rows])),
        float(np.mean(aps)) if aps else None,
        int(kept.sum()),
        int(hits.sum()),
    )
    return ClassScores(tuple(rows), whole, min_score, *_best(matches.classes, whole.objects))


def counts_above(matches: Matches, thresholds: Floats) -> tuple[Integers, Integers]:
    """Detections above thresholds ``[S]``, and those of them that find an object at IoU 0.5.

    :return: int ``[K, S]`` each, one row for each class that has an object to find
    """
    limits = thresholds.astype(np.float32)
    shape = len(matches.classes), len(limits)
    kept, hits = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for row, each in enumerate(matches.classes):
        ranking = each.rankings[0]
        kept[row] = np.searchsorted(-ranking.scores, -limits, side="left")
        hits[row] = np.searchsorted(ranking.hits, kept[row], side="left")
    return kept, hits


def precision_curves(matches: Matches) -> Floats:
    """The greatest precision at any recall of at least 0, 0.01, ... 1, at IoU 0.5.

    The mean of a row is COCO's average precision of that class.

    :return: float64 ``[K, 101]``, one row for each class that has an object to find
    """
    curves = np.zeros((len(matches.classes), len(RECALLS)))
    for row, each in enumerate(matches.classes):
        hits = each.rankings[0].hits
        true = np.arange(1, len(hits) + 1)
        best = np.maximum.accumulate((true / (hits + 1))[::-1])[::-1]
        reached = np.searchsorted(true / each.positives.sum(), RECALLS, side="left")
        curves[row] = np.append(best, 0.0)[reached]
    return curves


def _best(classes: Sequence[ClassMatches], objects: int) -> tuple[float | None, float]:
    """The least score with the greatest F1 of all classes together, and that F1."""
    rankings = [each.rankings[0] for each in classes]
    scores = np.concatenate([ranking.scores for ranking in rankings])
    if not len(scores):
        return None, 0.0
    found = np.concatenate([np.isin(np.arange(len(r.scores)), r.hits) for r in rankings])
    order = np.argsort(-scores, kind="stable")
    scores, true = scores[order].astype(np.float64), np.cumsum(found[order])
    last = np.append(scores[1:] < scores[:-1], True)  # of equal scores, which are kept together
    f1 = np.where(last, 2 * true / (np.arange(1, len(scores) + 1) + objects), -1.0)
    place = int(f1.argmax())
    if not true[place]:
        return None, 0.0
    below = scores[place + 1] if place + 1 < len(scores) else 0.0
    return float((scores[place] + below) / 2), float(f1[place])
