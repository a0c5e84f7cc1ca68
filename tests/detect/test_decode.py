"""Decoding against a plain loop."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sj_lowlat.detect import HeadSpec, decode
from sj_lowlat.detect.heads import MAX_LOG_SIZE
from sj_lowlat.errors import InputError


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _loop(image: Tensor, spec: HeadSpec) -> tuple[list[list[float]], list[list[float]]]:
    """One image's map, number by number, in Python's doubles."""
    _, rows, columns = image.shape
    raw = image.double().tolist()
    boxes, scores = [], []
    for a, (anchor_w, anchor_h) in enumerate(spec.anchors):
        first = a * (5 + spec.num_classes)
        for row in range(rows):
            for column in range(columns):
                value = [raw[first + c][row][column] for c in range(5 + spec.num_classes)]
                reach = spec.scale_xy
                x = (reach * _sigmoid(value[0]) - (reach - 1) / 2 + column) * spec.stride
                y = (reach * _sigmoid(value[1]) - (reach - 1) / 2 + row) * spec.stride
                w, h = (
                    side * ((2 * _sigmoid(v)) ** 2 if spec.new_coords else math.exp(min(v, 10.0)))
                    for v, side in zip(value[2:4], (anchor_w, anchor_h), strict=True)
                )
                boxes.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
                if spec.kind == "region":
                    total = sum(math.exp(v) for v in value[5:])
                    classes = [math.exp(v) / total for v in value[5:]]
                else:
                    classes = [_sigmoid(v) for v in value[5:]]
                scores.append([_sigmoid(value[4]) * p for p in classes])
    return boxes, scores


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(["yolo", "region"]),
    batch=st.integers(1, 3),
    anchors=st.lists(st.tuples(st.floats(1, 300), st.floats(1, 300)), min_size=1, max_size=3),
    classes=st.integers(1, 4),
    sides=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=2),
    scale_xy=st.sampled_from([1.0, 1.05, 2.0]),
    new_coords=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_equals_loop(kind, batch, anchors, classes, sides, scale_xy, new_coords, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    more = {"scale_xy": scale_xy, "new_coords": new_coords}
    specs = [HeadSpec(tuple(anchors), 8 * (i + 1), classes, kind, **more) for i in range(len(sides))]
    maps = [
        2 * torch.randn(batch, spec.channels, rows, columns, generator=generator)
        for spec, (rows, columns) in zip(specs, sides, strict=True)
    ]
    boxes, scores = decode(maps, specs)
    assert boxes.shape == (batch, sum(len(anchors) * r * c for r, c in sides), 4)
    for n in range(batch):
        loops = [_loop(head_map[n], spec) for head_map, spec in zip(maps, specs, strict=True)]
        expected_boxes = torch.tensor([box for loop in loops for box in loop[0]])
        expected_scores = torch.tensor([score for loop in loops for score in loop[1]])
        torch.testing.assert_close(boxes[n], expected_boxes, rtol=1e-4, atol=1e-2)
        torch.testing.assert_close(scores[n], expected_scores, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_always_float32(dtype) -> None:
    spec = HeadSpec(((300.0, 200.0),), 32, 2)
    raw = torch.randn(1, spec.channels, 13, 13).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        boxes, scores = decode([raw], [spec])
    assert boxes.dtype == scores.dtype == torch.float32
    exact_boxes, exact_scores = decode([raw.float()], [spec])
    assert torch.equal(boxes, exact_boxes) and torch.equal(scores, exact_scores)


def test_memory_format_does_not_matter() -> None:
    spec = HeadSpec(((10.0, 14.0), (23.0, 27.0)), 16, 3)
    raw = torch.randn(2, spec.channels, 5, 4)
    plain, last = decode([raw], [spec]), decode([raw.to(memory_format=torch.channels_last)], [spec])
    torch.testing.assert_close(last, plain)


def test_huge_sizes_stay_finite() -> None:
    spec = HeadSpec(((10.0, 20.0),), 16, 1)
    boxes, _ = decode([torch.full((1, spec.channels, 1, 1), 1e4)], [spec])
    size = boxes[0, 0, 2:] - boxes[0, 0, :2]
    torch.testing.assert_close(size, math.exp(MAX_LOG_SIZE) * torch.tensor([10.0, 20.0]))


@pytest.mark.parametrize(("value", "name"), [(math.nan, "NaN"), (math.inf, "infinity")])
def test_names_what_is_not_finite(value, name) -> None:
    spec = HeadSpec(((10.0, 20.0),), 16, 1)
    raw = torch.zeros(2, spec.channels, 3, 3)
    bad = raw.clone()
    bad[1, 2, 0, 1] = value
    with pytest.raises(InputError, match=rf"head map 1 .*{name}"):
        decode([raw, bad], [spec, spec])


@pytest.mark.parametrize(
    ("maps", "classes", "message"),
    [
        ([], [1], "one HeadSpec per head map"),
        ([], [], "one HeadSpec per head map"),
        ([torch.zeros(1, 7, 2, 2)], [1], r"\[1, 7, 2, 2\].*\[N, 6, H, W\]"),
        ([torch.zeros(6, 2, 2)], [1], r"\[6, 2, 2\]"),
        ([torch.zeros(2, 6, 2)], [1], r"\[2, 6, 2\]"),
        ([torch.zeros(1, 6, 2, 2, dtype=torch.int64)], [1], "int64"),
        ([torch.zeros(1, 6, 2, 2), torch.zeros(1, 7, 2, 2)], [1, 2], "same classes"),
        ([torch.zeros(1, 6, 2, 2), torch.zeros(2, 6, 2, 2)], [1, 1], "batch sizes"),
    ],
)
def test_refuses_maps_that_do_not_fit(maps, classes, message) -> None:
    with pytest.raises(InputError, match=message):
        decode(maps, [HeadSpec(((10.0, 20.0),), 16, count) for count in classes])


@pytest.mark.parametrize(
    "arguments",
    [
        ((), 16, 1),
        (((1.0, 2.0, 3.0),), 16, 1),
        (((1.0, 0.0),), 16, 1),
        (((1.0, math.nan),), 16, 1),
        (((1.0, 2.0),), 0, 1),
        (((1.0, 2.0),), 16, 0),
        (((1.0, 2.0),), 16, 1, "ssd"),
    ],
)
def test_spec_checks_itself(arguments) -> None:
    with pytest.raises(InputError):
        HeadSpec(*arguments)
