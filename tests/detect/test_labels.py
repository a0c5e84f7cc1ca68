"""Where labels of boxes go."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sj_lowlat.detect.labels import place_labels

FRAME = (640, 480)


def rectangles(corners, sizes) -> list[tuple[int, int, int, int]]:
    return [(x, y, x + w, y + h) for (x, y), (w, h) in zip(corners, sizes, strict=True)]


def overlap(a, b) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0)


def test_above_its_box_where_there_is_room() -> None:
    assert place_labels([(80, 16)], np.array([[100, 100, 300, 400]]), FRAME) == [(100, 84)]


def test_a_box_at_the_right_edge_keeps_its_whole_label() -> None:
    ((x, y),) = place_labels([(110, 16)], np.array([[600, 100, 639, 300]]), FRAME)
    assert (x, y) == (530, 84)


def test_a_box_at_the_top_keeps_its_head_free() -> None:
    box = (200, 0, 300, 300)
    (label,) = rectangles(place_labels([(80, 16)], np.array([box]), FRAME), [(80, 16)])
    assert overlap(label, (225, 0, 275, 100)) == 0  # a face


def test_three_boxes_in_one_place_have_three_labels() -> None:
    boxes = np.array([[100, 200, 300, 400], [103, 203, 300, 402], [106, 199, 298, 399]])
    sizes = [(90, 18), (120, 18), (100, 18)]
    labels = rectangles(place_labels(sizes, boxes, FRAME), sizes)
    assert all(overlap(a, b) == 0 for i, a in enumerate(labels) for b in labels[:i])


def test_the_most_important_label_goes_first() -> None:
    box, size = [100, 200, 300, 400], (90, 18)
    assert place_labels([size] * 3, np.array([box] * 3), FRAME)[0] == (100, 182)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_labels_stay_in_the_frame_and_apart(data) -> None:
    """Even six boxes in one corner leave room for their labels."""
    count = data.draw(st.integers(1, 6))
    side = st.integers(0, 639)
    boxes = []
    for _ in range(count):
        (x1, x2), (y1, y2) = (
            sorted([data.draw(side), data.draw(side)]),
            sorted([data.draw(side) * 3 // 4, data.draw(side) * 3 // 4]),
        )
        boxes.append([x1, y1, x2, y2])
    sizes = [(data.draw(st.integers(30, 130)), 18) for _ in range(count)]
    labels = rectangles(place_labels(sizes, np.array(boxes), FRAME), sizes)
    assert all(x1 >= 0 and y1 >= 0 and x2 <= 640 and y2 <= 480 for x1, y1, x2, y2 in labels)
    hidden = [overlap(a, b) for i, a in enumerate(labels) for b in labels[:i]]
    assert sum(hidden) == 0


def test_a_label_larger_than_the_frame_begins_at_its_edge() -> None:
    assert place_labels([(50, 12)], np.array([[2, 2, 18, 18]]), (20, 20))[0][0] == 0
