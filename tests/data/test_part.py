from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from sj_lowlat.data import DetectionDataset, Part, Sample, TrafficDataset, batches, ground_truth, spaced


class Unread:
    """A data set whose pictures must not be read for their targets."""

    def __init__(self, whole: TrafficDataset) -> None:
        targets = ground_truth(whole)
        self.class_names, self.target, self.length = whole.class_names, targets.__getitem__, len(whole)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        raise AssertionError("a picture was read")


def test_a_part_is_a_data_set() -> None:
    whole = TrafficDataset(6, 32, seed=3)
    part = Part(whole, [4, 1])
    assert isinstance(part, DetectionDataset) and len(part) == 2 and part.class_names == whole.class_names
    assert torch.equal(part[0].image, whole[4].image)
    (batch,) = batches(part, 2, 32)
    assert [sample.image_id for sample in batch.samples] == [whole[4].image_id, whole[1].image_id]
    expected = [ground_truth(whole)[place].boxes for place in (4, 1)]
    for found in (part, Part(Unread(whole), [4, 1]), Part(Part(whole, [0, 1, 4]), [2, 1])):
        assert all(
            torch.equal(t.boxes, boxes) for t, boxes in zip(ground_truth(found), expected, strict=True)
        )


@given(length=st.integers(1, 2000), count=st.integers(1, 300))
def test_places_are_spread_evenly(length: int, count: int) -> None:
    places = spaced(length, count)
    assert len(places) == min(count, length) and places[0] == 0
    assert len(places) == 1 or places[-1] == length - 1
    steps = {after - before for before, after in zip(places, places[1:], strict=False)}
    assert not steps or (min(steps) >= 1 and max(steps) - min(steps) <= 1)
