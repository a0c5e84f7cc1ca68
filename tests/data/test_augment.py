from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sj_lowlat.data import AugmentedDataset, Sample, TrafficDataset, train_transform
from sj_lowlat.errors import InputError


class _Blocks:
    """A black picture with one red and one blue block, boxed exactly; the third box is a crowd."""

    class_names = ("red", "blue")
    boxes = ((20, 10, 60, 50), (100, 40, 150, 100), (0, 0, 160, 120))

    def __init__(self, width: int = 160, height: int = 120) -> None:
        self.width, self.height = width, height

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> Sample:
        image = torch.zeros(3, self.height, self.width, dtype=torch.uint8)
        for channel, (x1, y1, x2, y2) in ((0, self.boxes[0]), (2, self.boxes[1])):
            image[channel, y1:y2, x1:x2] = 255
        boxes = torch.tensor(self.boxes, dtype=torch.float32)
        crowd = torch.tensor([False, False, True])
        return Sample(image, boxes, torch.tensor([0, 1, 0]), crowd, torch.zeros(3, dtype=torch.bool), index)


def _items(data: AugmentedDataset, places: list[int]) -> list[tuple[torch.Tensor, ...]]:
    return [data[place] for place in places]


def _same(a: list[tuple[torch.Tensor, ...]], b: list[tuple[torch.Tensor, ...]]) -> bool:
    return all(
        torch.equal(x, y) for one, two in zip(a, b, strict=True) for x, y in zip(one, two, strict=True)
    )


def test_items_depend_on_seed_epoch_and_index_alone() -> None:
    data = AugmentedDataset(_Blocks(), 96, seed=3)
    first = _items(data, [0, 1, 2])
    torch.rand(17)
    assert _same(first, _items(data, [2, 1, 0])[::-1])
    assert not torch.equal(first[0][0], first[1][0])
    data.set_epoch(1)
    second = _items(data, [0, 1, 2])
    assert not _same(first, second)
    resumed = AugmentedDataset(_Blocks(), 96, seed=3)
    resumed.set_epoch(1)
    assert _same(second, _items(resumed, [0, 1, 2]))
    assert not _same(first, _items(AugmentedDataset(_Blocks(), 96, seed=4), [0, 1, 2]))


def test_global_random_states_are_untouched() -> None:
    before = torch.random.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    AugmentedDataset(_Blocks(), 96)[0]
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert (before[1], before[2]) == (np.random.get_state()[1].tolist(), random.getstate())


def test_boxes_bound_their_blocks_in_every_view() -> None:
    data, kept, moved = AugmentedDataset(_Blocks(), 96, seed=1), 0, set()
    for index in range(len(data)):
        image, boxes, labels = data[index]
        assert (
            image.shape == (3, 96, 96)
            and image.dtype == torch.float32
            and 0 <= image.min() <= image.max() <= 1
        )
        assert ((boxes >= 0) & (boxes <= 96)).all() and len(boxes) == len(labels) <= 2
        for box, label in zip(boxes, labels.tolist(), strict=True):
            channel, other = (0, 2) if label == 0 else (2, 0)
            bright = image[channel] - image[other] > 0.15
            rows, columns = torch.nonzero(bright, as_tuple=True)
            seen = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            torch.testing.assert_close(box, seen.float(), atol=1.5, rtol=0)
            kept += 1
            moved.add(round(float(box[0])))
    assert kept > 50 and len(moved) > 20


def test_views_zoom_in_and_out_and_flip() -> None:
    data, sizes, order = AugmentedDataset(_Blocks(), 96, seed=2), [], set()
    for index in range(len(data)):
        _, boxes, labels = data[index]
        if len(boxes) == 2:
            sizes.append(float(boxes[0, 2] - boxes[0, 0]))
            order.add(bool(boxes[0, 0] < boxes[1, 0]))
    plain = 40 * 96 / 160
    assert min(sizes) < 0.8 * plain < 1.2 * plain < max(sizes) and order == {True, False}


def test_boxes_mostly_outside_the_view_are_dropped() -> None:
    data = AugmentedDataset(_Blocks(), 64, seed=0, scale=(3.0, 3.0))
    full = 40 * 40 * (3 * 64 / 160) ** 2
    areas = [
        float((box[2] - box[0]) * (box[3] - box[1]))
        for index in range(len(data))
        for box, label in zip(*data[index][1:], strict=True)
        if label == 0
    ]
    assert areas and min(areas) >= 0.25 * full - 1 and min(areas) < 0.9 * full


@settings(deadline=None, max_examples=15)
@given(width=st.integers(1, 300), height=st.integers(1, 300), seed=st.integers(0, 99))
def test_any_picture_size(width: int, height: int, seed: int) -> None:
    image, boxes, _ = AugmentedDataset(_Blocks(width, height), 48, seed)[0]
    assert image.shape == (3, 48, 48) and torch.isfinite(image).all() and torch.isfinite(boxes).all()


def test_bad_scales() -> None:
    for scale in ((0.0, 1.0), (1.2, 1.0)):
        with pytest.raises(InputError, match="0 < smallest"):
            train_transform(64, scale)
    with pytest.raises(InputError, match="size 0"):
        AugmentedDataset(TrafficDataset(1), 0)
