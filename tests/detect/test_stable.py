"""Detections that no longer change."""

from __future__ import annotations

import pytest
import torch

from sj_lowlat.detect import Detections, HeadSpec, StableDetections, same_detections
from sj_lowlat.errors import InputError

SPEC = HeadSpec(((16.0, 16.0),), 8, 2)


def record(*rows: tuple[float, float, float, float, int]) -> Detections:
    boxes = torch.tensor([row[:4] for row in rows]).reshape(-1, 4)
    return Detections(boxes, torch.full((len(rows),), 0.9), torch.tensor([row[4] for row in rows]).long())


def maps(*cells: tuple[int, int] | None) -> list[torch.Tensor]:
    """One object in each image, in a cell of the map, or none."""
    raw = torch.full((len(cells), SPEC.channels, 4, 4), -10.0)
    for image, cell in enumerate(cells):
        if cell is not None:
            raw[image, :4, *cell] = 0
            raw[image, 4:6, *cell] = 10.0
    return [raw]


@pytest.mark.parametrize(
    ("after", "same"),
    [
        (record((1, 1, 20, 20, 0), (30, 30, 50, 50, 1)), True),
        (record((30, 30, 50, 50.5, 1), (1, 1, 20, 20, 0)), True),  # in another order, moved a little
        (record((1, 1, 20, 20, 1), (30, 30, 50, 50, 0)), False),
        (record((1, 1, 20, 20, 0)), False),
        (record((1, 1, 20, 20, 0), (30, 30, 50, 65, 1)), False),
        (record((1, 1, 20, 20, 0), (1, 1, 20, 20, 0)), False),
    ],
)
def test_same_objects(after: Detections, same: bool) -> None:
    assert same_detections(record((1, 1, 20, 20, 0), (30, 30, 50, 50, 1)), after) is same


def test_as_many_objects_of_each_class() -> None:
    """Boxes that all overlap say nothing of how many there are of a class."""
    box = (1, 1, 20, 20)
    one, other = record((*box, 1), (*box, 1), (*box, 2)), record((*box, 1), (*box, 2), (*box, 2))
    assert not same_detections(one, other) and not same_detections(other, one)
    assert same_detections(one, one)


def test_nothing_is_the_same_as_nothing() -> None:
    assert same_detections(record(), record())


def test_each_image_is_done_for_itself() -> None:
    stable = StableDetections([SPEC], reads=2)
    a, b = (1, 2), (3, 0)
    reads = [(a, a, None), (a, b, None), (a, b, None), (b, b, a), (b, a, a)]
    all_done = [stable.update(step, maps(*cells)) for step, cells in enumerate(reads, 1)]
    assert stable.stopped == [3, 4, None] and not any(all_done)  # what is done stays done
    assert stable.update(6, maps(a, a, a))
    assert stable.stopped == [3, 4, 6]


@pytest.mark.parametrize("reads", [0, -1, 1.5, True])
def test_reads_that_cannot_be(reads: object) -> None:
    with pytest.raises(InputError, match=r"stop_reads.*at least 1"):
        StableDetections([SPEC], reads)  # type: ignore[arg-type]
