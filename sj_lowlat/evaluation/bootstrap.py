"""How far average precision may be off because there are only so many images: the bootstrap over images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from sj_lowlat.errors import InputError
from sj_lowlat.evaluation.matches import Matches, Ranking

Measure = Literal["map50", "map"]
Floats = np.ndarray[Any, np.dtype[np.float64]]
Counts = np.ndarray[Any, np.dtype[np.int32]]

RECALLS = np.linspace(0, 1, 101)  # COCO's
_BLOCK = 256  # resamples at once; another number would draw others


@dataclass(frozen=True)
class Interval:
    """A score and how far it may be off; fractions, as in ``APResult``.

    :param estimate: the score of all images, each once
    :param low: lower end of the interval
    :param high: upper end
    :param level: share of the resamples inside
    :param resamples: how many
    :param seed: of the generator that drew them
    """

    estimate: float
    low: float
    high: float
    level: float
    resamples: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """A dict that ``json`` can write."""
        return asdict(self)

    @property
    def range(self) -> str:
        """The two ends in percent."""
        return f"{100 * self.low:.1f} to {100 * self.high:.1f}"

    def __str__(self) -> str:
        return f"{100 * self.estimate:.1f}, {100 * self.level:g} % interval {self.range}"


@dataclass(frozen=True)
class Difference(Interval):
    """What one set of detections scores more than another one, on the same images.

    :param share: of the resamples in which it scores more
    """

    share: float

    @property
    def range(self) -> str:
        """The two ends in percentage points, with signs."""
        return f"{100 * self.low:+.1f} to {100 * self.high:+.1f}"

    def __str__(self) -> str:
        ends = f"{100 * self.level:g} % interval {self.range}"
        return f"{100 * self.estimate:+.1f}, {ends}, more in {100 * self.share:.1f} % of the resamples"


def confidence(
    matches: Matches,
    measure: Measure = "map50",
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The bootstrap interval of an average precision.

    A resample draws as many images as there are, with replacement, and is scored by the rules of the
    protocol. The interval is that of the percentile method (Efron and Tibshirani, "An Introduction to the
    Bootstrap", 1993, chapter 13), moved by the bootstrap's estimate of bias (chapter 10): with s the score,
    s* those of the resamples and q their quantiles::

        low, high = q((1 - level) / 2) - bias, q((1 + level) / 2) - bias,  bias = mean(s*) - s

    Resamples have fewer different images, and average precision is higher on fewer images: precision is
    replaced by its maximum at any greater recall, which chance raises, most in classes with few objects. So
    the plain percentiles lie too high, and may leave out the score itself. The moved interval is for the
    score that sets of as many such images have on average; its ends are not cut at 0 and 1. It tells of the
    choice of images alone: not of a training's seed, nor of images of another kind; and scores of sets of
    different sizes cannot be compared.

    As in the protocols, the mean runs over the classes that have an object to find in the resample; one
    without any object is drawn anew. Detections of equal score keep the order that they have in the data set,
    copies of one side by side. A scorer that is given files of such a resample takes images one by one, so it
    may order equal scores of one class in one image differently.

    :param matches: what :func:`~sj_lowlat.evaluation.match` found
    :param measure: ``"map50"``, or ``"map"`` (COCO only)
    :param resamples: how many, at least 1
    :param level: share of the resamples inside, between 0 and 1
    :param seed: 0 or more; the same seed gives the same resamples
    :raises InputError: for arguments that are not possible
    """
    ((interval,), _) = intervals([matches], measure=measure, resamples=resamples, level=level, seed=seed)
    return interval


def paired_difference(
    a: Matches,
    b: Matches,
    measure: Measure = "map50",
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """The bootstrap interval of what ``a`` scores more than ``b``, both scored on the same resamples.

    Images that are hard for one are mostly hard for the other, so that the interval is often much narrower
    than the two of :func:`confidence` suggest. The arguments are those of it.

    :raises InputError: also if the two are of other images or protocols
    """
    options = {"resamples": resamples, "level": level, "seed": seed}
    _, (difference,) = intervals([a], b, measure=measure, **options)  # type: ignore[arg-type]
    return difference


def intervals(
    points: Sequence[Matches],
    beside: Matches | None = None,
    *,
    measure: Measure = "map50",
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[list[Interval], list[Difference]]:
    """Intervals of several sets of detections, all on the same resamples.

    :param points: at least one
    :param beside: what each is compared with
    :return: intervals of ``points`` and then of ``beside``; differences of ``points`` to it, if it is given
    :raises InputError: as for :func:`paired_difference`
    """
    _check(resamples, level, seed)
    sets = [*points, *([] if beside is None else [beside])]
    _check_same(sets)
    whole = np.ones((sets[0].images, 1), dtype=np.int32)
    estimates = [float(resampled(each, whole, measure)[0]) for each in sets]
    blocks = [[resampled(each, counts, measure) for each in sets] for counts in _draw(sets, resamples, seed)]
    scores: list[Floats] = [np.concatenate(parts) for parts in zip(*blocks, strict=True)]
    fixed = {"level": level, "resamples": resamples, "seed": seed}

    def about(estimate: float, values: Floats) -> dict[str, Any]:
        ends = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]) - (values.mean() - estimate)
        low, high = ends.tolist()
        return {"estimate": estimate, "low": low, "high": high, **fixed}

    found = [Interval(**about(each, values)) for each, values in zip(estimates, scores, strict=True)]
    if beside is None:
        return found, []
    more = [values - scores[-1] for values in scores[:-1]]
    return found, [
        Difference(**about(each - estimates[-1], values), share=float((values > 0).mean()))
        for each, values in zip(estimates[:-1], more, strict=True)
    ]


def resampled(matches: Matches, counts: Counts, measure: Measure = "map50") -> Floats:
    """Average precision of resamples.

    Images and detections are not compared again: a detection counts as often as its image was drawn. Copies
    of one share their score and stand side by side, so that precision changes one way among them and only its
    value behind the last copy can be a maximum. Hence, with w the counts by rank and best(h) the greatest
    precision at hit h or behind it::

        AP = sum over hits h of (reach(h) - reach(h - 1)) best(h)
        precision(h) = (sum of w over hits to h) / (sum of w over ranks to h)

    where reach is the share of the protocol's recall points that are at most the recall at h: COCO's 101,
    VOC2007's 11, or all, which is the recall itself.

    :param counts: int ``[N, R]``, how often each image is in each of R resamples; each resample must have an
        object to find
    :return: float64 ``[R]``; equal to the protocol's own value where images are counted once
    :raises InputError: for an unknown measure, or ``"map"`` of a protocol that has IoU 0.5 only
    """
    if measure not in ("map50", "map") or (measure == "map" and matches.protocol != "coco"):
        raise InputError(f"measure {measure!r} came for {matches.protocol}: give map50, or map for coco")
    total, classes = np.zeros(counts.shape[1]), np.zeros(counts.shape[1])
    for each in matches.classes:
        positives = each.positives @ counts
        rankings = each.rankings if measure == "map" else each.rankings[:1]
        aps = [average(ranking, positives, counts, matches.protocol) for ranking in rankings]
        total += np.mean(aps, axis=0)  # 0 where no object is drawn, because nothing is hit there
        classes += positives > 0
    return total / classes


def average(ranking: Ranking, positives: Any, counts: Counts, protocol: str) -> Floats:
    """What :func:`resampled` says, of one class at one IoU; ``positives`` ``[R]`` are its objects."""
    drawn = counts[ranking.images]  # [D, R]
    seen = np.cumsum(drawn, axis=0, dtype=np.int32)[ranking.hits]  # [H, R]
    true = np.cumsum(drawn[ranking.hits], axis=0, dtype=np.int32)
    best = np.maximum.accumulate((true / np.maximum(seen, 1))[::-1], axis=0)[::-1]
    wanted = np.maximum(positives, 1)
    if protocol == "coco":
        reach = np.searchsorted(RECALLS, true / wanted, side="right") / len(RECALLS)
    elif protocol == "voc07":
        reach = (10 * true // wanted + 1) / 11  # in whole numbers, because 0.1 * 3 > 0.3
    else:
        reach = true / wanted
    return np.asarray((np.diff(reach, axis=0, prepend=0) * best).sum(axis=0), dtype=np.float64)


def _draw(sets: Sequence[Matches], resamples: int, seed: int) -> Iterator[Counts]:
    """How often each image is drawn, ``[N, up to 256]`` at a time; each set has an object to find."""
    images, generator = sets[0].images, np.random.default_rng(seed)
    wanted = np.stack([sum(each.positives for each in matches.classes) for matches in sets])
    for first in range(0, resamples, _BLOCK):
        size = min(_BLOCK, resamples - first)
        counts = np.empty((size, images), dtype=np.int32)
        empty = np.ones(size, dtype=bool)
        while empty.any():
            counts[empty] = generator.multinomial(images, np.full(images, 1 / images), size=int(empty.sum()))
            empty = (counts @ wanted.T == 0).any(axis=1)
        yield np.ascontiguousarray(counts.T)


def _check(resamples: int, level: float, seed: int) -> None:
    if isinstance(resamples, bool) or not isinstance(resamples, int) or resamples < 1:
        raise InputError(f"resamples is {resamples!r}: give a whole number from 1, such as 1000")
    if not 0 < level < 1:
        raise InputError(f"level is {level!r}: give a share between 0 and 1, such as 0.95")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed is {seed!r}: give a whole number, 0 or more")


def _check_same(sets: Sequence[Matches]) -> None:
    first = sets[0]
    for other in sets[1:]:
        if (other.images, other.protocol) != (first.images, first.protocol):
            raise InputError(
                f"detections of {first.images} images by {first.protocol} and of {other.images} by "
                f"{other.protocol} came: match both on one data set, by one protocol"
            )
        known = {each.label: each.positives for each in first.classes}
        if any(
            not np.array_equal(known.get(each.label, each.positives), each.positives)
            for each in other.classes
        ):
            raise InputError(
                "the two sets of detections were matched with other boxes: match both on one data set"
            )
