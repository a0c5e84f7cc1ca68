"""The bootstrap against pycocotools and ``voc_ap`` on data sets in which images really are repeated."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sj_lowlat.data import Sample, Target
from sj_lowlat.detect import Detections
from sj_lowlat.errors import InputError
from sj_lowlat.evaluation import confidence, match, paired_difference, score, voc_ap
from sj_lowlat.evaluation.bootstrap import resampled

PROTOCOLS = ("coco", "voc07", "voc")


class Truth:
    """A data set of targets alone."""

    class_names = ("a", "b", "c")

    def __init__(self, targets: Sequence[Target]) -> None:
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def target(self, index: int) -> Target:
        return self.targets[index]

    def __getitem__(self, index: int) -> Sample:
        raise AssertionError("scoring must not read pictures")


def random_case(seed: int, images: int, tied: bool = False) -> tuple[Truth, list[Detections]]:
    """Boxes with crowds and difficult ones, images without boxes or detections.

    No score occurs twice in one image; ``tied``: but in many images.
    """
    draw = np.random.default_rng(seed)

    def boxes(count: int) -> Any:
        corner = draw.integers(0, 40, (count, 2))
        return np.concatenate([corner, corner + draw.integers(8, 24, (count, 2))], axis=1)

    targets, detections = [], []
    everywhere = draw.permutation(1000) / 1000
    for number in range(images):
        count = int(draw.integers(0, 6)) if number else 3  # the first has something to find
        truth, labels = boxes(count), draw.integers(0, 3, count)
        crowd, difficult = draw.random((2, count)) < 0.15
        if number == 0:
            crowd[0] = difficult[0] = False
        near = np.concatenate([truth + draw.integers(-3, 4, (count, 4)) for _ in range(2)])
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        near = np.concatenate([near, boxes(3)])[: 0 if draw.random() < 0.2 else None]
        kinds = np.concatenate([labels, labels, draw.integers(0, 3, 3)])[: len(near)]
        scores = everywhere[: len(near)] if tied else everywhere[20 * number : 20 * number + len(near)]
        flags = (torch.from_numpy(crowd.astype(bool)), torch.from_numpy(difficult.astype(bool)))
        targets.append(Target(torch.from_numpy(truth).float(), torch.from_numpy(labels), *flags, number))
        found = (torch.from_numpy(near).float(), torch.from_numpy(scores).float(), torch.from_numpy(kinds))
        detections.append(Detections(*found))
    return Truth(targets), detections


def repeated(truth: Truth, detections: list[Detections], counts: Any) -> tuple[Truth, list[Detections]]:
    """Each image so many times, copies side by side, with ids of their own."""
    places = np.repeat(np.arange(len(truth)), counts)
    copies = [replace(truth.targets[place], image_id=number) for number, place in enumerate(places)]
    return Truth(copies), [detections[place] for place in places]


def official(truth: Truth, detections: list[Detections]) -> dict[str, float]:
    """pycocotools with its own settings; difficult boxes count as crowds do."""

    def rows(records: Sequence[Any]) -> Any:
        for number, record in enumerate(records, start=1):
            for (x1, y1, x2, y2), label in zip(record.boxes.tolist(), record.labels.tolist(), strict=True):
                sides = (x2 - x1, y2 - y1)
                yield {"image_id": number, "category_id": label, "bbox": [x1, y1, *sides],
                       "area": sides[0] * sides[1]}  # fmt: skip

    def index(annotations: list[dict[str, Any]]) -> COCO:
        coco = COCO()
        coco.dataset = {
            "images": [{"id": number + 1} for number in range(len(truth))],
            "categories": [{"id": label} for label in range(3)],
            "annotations": [{"id": number, **row} for number, row in enumerate(annotations, start=1)],
        }
        coco.createIndex()
        return coco

    crowd = torch.cat([target.crowd | target.difficult for target in truth.targets]).int().tolist()
    scores = torch.cat([found.scores for found in detections]).tolist()
    with contextlib.redirect_stdout(io.StringIO()):
        boxes = [{**row, "iscrowd": flag} for row, flag in zip(rows(truth.targets), crowd, strict=True)]
        found = [
            {**row, "iscrowd": 0, "score": each} for row, each in zip(rows(detections), scores, strict=True)
        ]
        run = COCOeval(index(boxes), index(found), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return {"map": float(run.stats[0]), "map50": float(run.stats[1])}


def protocols_own(truth: Truth, detections: list[Detections], protocol: str, measure: str) -> float:
    if protocol == "coco":
        return official(truth, detections)[measure]
    method: Any = {"voc07": "11-point", "voc": "all-point"}[protocol]
    return voc_ap(truth, detections, method).map50


def findable(truth: Truth) -> Any:
    return np.array([int((~(target.crowd | target.difficult)).sum()) for target in truth.targets])


@pytest.mark.parametrize(
    ("protocol", "measure"), [("coco", "map50"), ("coco", "map"), ("voc07", "map50"), ("voc", "map50")]
)
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), images=st.integers(1, 7), tied=st.booleans(), data=st.data())
def test_a_resample_scores_as_images_that_are_repeated(
    protocol: str, measure: Any, seed: int, images: int, tied: bool, data: st.DataObject
) -> None:
    truth, detections = random_case(seed, images, tied)
    drawn = data.draw(st.lists(st.integers(0, 3), min_size=images, max_size=images))
    assume(findable(truth) @ drawn > 0)
    counts = np.array([drawn, [1] * images], dtype=np.int32).T
    again, once = resampled(match(truth, detections, protocol), counts, measure)
    assert once == pytest.approx(protocols_own(truth, detections, protocol, measure), abs=1e-12)
    whole = repeated(truth, detections, drawn)
    assert again == pytest.approx(protocols_own(*whole, protocol, measure), abs=1e-12)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("seed", range(3))
def test_intervals_are_quantiles_of_of_repeated_images(protocol: str, seed: int) -> None:
    truth, a = random_case(seed, 5)
    b = [found.filter(0.4) for found in a]
    scores: list[list[float]] = []
    draw = np.random.default_rng(7)
    while len(scores) < 40:
        (counts,) = draw.multinomial(5, [0.2] * 5, size=1)
        if findable(truth) @ counts:
            scores.append(
                [protocols_own(*repeated(truth, each, counts), protocol, "map50") for each in (a, b)]
            )
    of_a, of_b = np.array(scores).T
    options: Any = {"resamples": 40, "seed": 7, "level": 0.8}
    first, second = match(truth, a, protocol), match(truth, b, protocol)
    interval, difference = confidence(first, **options), paired_difference(first, second, **options)
    assert interval.estimate == pytest.approx(score(truth, a, protocol).map50, abs=1e-12)
    ends = np.quantile(of_a, [0.1, 0.9]) - (of_a.mean() - interval.estimate)
    assert (interval.low, interval.high) == pytest.approx(tuple(ends), abs=1e-12)
    expected = score(truth, a, protocol).map50 - score(truth, b, protocol).map50
    assert difference.estimate == pytest.approx(expected, abs=1e-12)
    ends = np.quantile(of_a - of_b, [0.1, 0.9]) - ((of_a - of_b).mean() - expected)
    assert (difference.low, difference.high) == pytest.approx(tuple(ends), abs=1e-12)
    assert difference.share == pytest.approx(np.mean(of_a - of_b > 1e-12), abs=1e-12)


def test_one_image_and_one_set_of_detections_leave_nothing_open() -> None:
    truth, found = random_case(1, 1)
    for protocol in PROTOCOLS:
        matches = match(truth, found, protocol)
        interval = confidence(matches, resamples=300)
        assert interval.estimate > 0
        assert (interval.low, interval.high) == pytest.approx((interval.estimate,) * 2, abs=1e-12)
    truth, found = random_case(2, 6)
    same = paired_difference(match(truth, found), match(truth, found), resamples=300)
    assert (same.estimate, same.low, same.high, same.share) == (0, 0, 0, 0)


def test_nothing_found_scores_nothing() -> None:
    truth, found = random_case(2, 6)
    empty = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    for protocol in PROTOCOLS:
        nothing, all_found = match(truth, [empty] * 6, protocol), match(truth, found, protocol)
        interval, difference = confidence(nothing, resamples=20), paired_difference(all_found, nothing)
        assert (interval.estimate, interval.low, interval.high) == (0, 0, 0)
        alone = confidence(all_found)
        assert (difference.low, difference.high) == (alone.low, alone.high) and difference.share > 0.9


@pytest.mark.parametrize("protocol", ["voc07", "voc"])
def test_one_object_an_image_gives_the_binomial_interval(protocol: str) -> None:
    """40 images with one object each, 30 of them found and nothing else: AP is the share that is found."""
    box, label = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([0])
    none = torch.tensor([False])
    truth = Truth([Target(box, label, none, none, number) for number in range(40)])
    hit, empty = Detections(box, torch.tensor([0.9]), label), Detections(box[:0], torch.zeros(0), label[:0])
    interval = confidence(match(truth, [hit] * 30 + [empty] * 10, protocol), resamples=20000)
    shares = np.random.default_rng(1).binomial(40, 0.75, 200_000) / 40
    if protocol == "voc07":  # recall points that are reached, as a share of 11
        shares = (np.floor(shares * 10 + 1e-9) + 1) / 11
    ends = np.quantile(shares, [0.025, 0.975]) - shares.mean() + interval.estimate
    assert (interval.low, interval.high) == pytest.approx(tuple(ends), abs=2e-3)


def test_a_class_counts_where_it_is_drawn_and_some_object_always_is() -> None:
    none = torch.tensor([False])

    def image(label: int, crowd: bool = False) -> Target:
        return Target(torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([label]), none | crowd, none, 0)

    found = [Detections(torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([0.9]), torch.tensor([0]))] * 2
    matches = match(Truth([image(0), image(1)]), found)
    scores = resampled(matches, np.array([[2, 0], [1, 1], [0, 2]], dtype=np.int32).T)
    assert scores == pytest.approx([1, 0.5, 0])
    # a quarter of all draws has no image with an object to find: the others score 1
    crowds = match(Truth([image(0), image(0, crowd=True)]), found)
    interval = confidence(crowds, resamples=600)
    assert (interval.low, interval.estimate, interval.high) == pytest.approx((1, 1, 1), abs=1e-12)


@given(seed=st.integers(0, 2**31), images=st.integers(1, 9), data=st.data())
def test_groups_are_drawn_whole(seed: int, images: int, data: st.DataObject) -> None:
    """A group that is drawn n times is each of its images n times."""
    truth, found = random_case(seed, images)
    assume(any(len(target) for target in truth.targets))
    drawn = data.draw(st.lists(st.integers(0, 3), min_size=images, max_size=images))
    groups = np.unique(drawn, return_inverse=True)[1]
    for protocol in PROTOCOLS:
        try:
            matches = match(truth, found, protocol)
        except InputError:
            assume(False)
        together = matches.grouped(groups.tolist())
        counts = np.random.default_rng(seed).integers(1, 4, (groups.max() + 1, 5)).astype(np.int32)
        assert together.images == groups.max() + 1
        assert resampled(together, counts) == pytest.approx(resampled(matches, counts[groups]), abs=1e-12)


def test_groups_that_cannot_be() -> None:
    matches = match(*random_case(2, 3))
    for groups in ([0, 0], [0, 2, 2], [1, 1, 1], [0, 0, -1]):
        with pytest.raises(InputError, match="groups are"):
            matches.grouped(groups)


def test_resamples_are_those_of_the_seed() -> None:
    truth, found = random_case(5, 7)
    matches = match(truth, found)
    first = confidence(matches, resamples=300)
    assert first == confidence(matches, resamples=300) != confidence(matches, resamples=300, seed=1)
    assert json.loads(json.dumps(first.to_json())) == first.to_json()
    assert set(first.to_json()) == {"estimate", "low", "high", "level", "resamples", "seed"}
    assert f"{100 * first.estimate:.1f}, 95 % interval {100 * first.low:.1f} to" in str(first)
    better = paired_difference(matches, match(truth, [each.filter(0.9) for each in found]), resamples=300)
    assert str(better).startswith(f"{100 * better.estimate:+.1f}, 95 % interval {100 * better.low:+.1f} to +")
    assert str(better).endswith("% of the resamples") and better.to_json()["share"] == better.share


def test_detections_in_other_labels_are_paired_by_their_own_map() -> None:
    truth, found = random_case(3, 6)
    renamed = [replace(each, labels=each.labels + 4) for each in found]
    other = match(truth, renamed, class_map={4: 0, 5: 1, 6: 2})
    difference = paired_difference(match(truth, found), other, resamples=20)
    assert (difference.low, difference.high) == (0, 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"resamples": 0}, "resamples is 0: give a whole number from 1"),
        ({"resamples": True}, "resamples is True"),
        ({"resamples": 2.5}, "resamples is 2.5"),
        ({"level": 0}, "level is 0: give a share between 0 and 1"),
        ({"level": 1.0}, "level is 1.0"),
        ({"level": float("nan")}, "level is nan"),
        ({"seed": -1}, "seed is -1"),
        ({"measure": "map75"}, "measure 'map75'"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], words: str) -> None:
    matches = match(*random_case(1, 3))
    with pytest.raises(InputError, match=words):
        confidence(matches, **options)
    with pytest.raises(InputError, match=words):
        paired_difference(matches, matches, **options)


def test_sets_that_cannot_be_paired() -> None:
    truth, found = random_case(1, 4)
    matches = match(truth, found)
    with pytest.raises(InputError, match="of 4 images by coco and of 3 by coco"):
        paired_difference(matches, match(Truth(truth.targets[:3]), found[:3]))
    with pytest.raises(InputError, match="of 4 images by coco and of 4 by voc"):
        paired_difference(matches, match(truth, found, "voc"))
    with pytest.raises(InputError, match="matched with other boxes"):
        paired_difference(matches, match(Truth(truth.targets[::-1]), found))
    with pytest.raises(InputError, match="map for coco"):
        confidence(match(truth, found, "voc"), "map")
    with pytest.raises(InputError, match="3 detection records for 4 images"):
        match(truth, found[:3])
    with pytest.raises(InputError, match="protocol is 'voc12'"):
        match(truth, found, "voc12")
