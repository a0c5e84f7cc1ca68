"""Places in the page's drawings, and its pictures, read back by other code."""

from __future__ import annotations

import base64
import io
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import colormaps
from PIL import Image

from sj_lowlat.detect import Detections
from sj_lowlat.report.images import photo, tiles
from sj_lowlat.report.shapes import WIDTH, boxes, curve, labelled, raster_paths, trace_points


def opened(address: str) -> Image.Image:
    kind, _, data = address.partition(";base64,")
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    assert kind == f"data:image/{picture.format.lower()}"  # type: ignore[union-attr]
    return picture


@given(
    count=st.integers(1, 12),
    seed=st.integers(0, 999),
    width=st.integers(20, 900),
    height=st.integers(20, 900),
)
def test_labels_stay_in_the_picture(count: int, seed: int, width: int, height: int) -> None:
    g = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 4, generator=g) * 1.4 - 0.2  # some reach out
    corners = torch.cat(
        [torch.minimum(corners[:, :2], corners[:, 2:]), torch.maximum(corners[:, :2], corners[:, 2:])], 1
    )
    found = Detections(
        corners * torch.tensor([width, height, width, height]),
        torch.rand(count, generator=g),
        torch.zeros(count).long(),
    )
    drawn = boxes(found, ["traffic light"], width, height)
    assert [shape.text for shape in drawn] == [f"traffic light {s:.2f}" for s in found.scores.sort().values]
    for shape in drawn:
        x, y, wide, high = shape.label
        assert x >= -1e-6 and x + wide <= width + 1e-6 and y >= -1e-6
        assert y + high <= max(height, high) + 1e-6


def test_labels_of_boxes_in_one_place_stand_apart() -> None:
    found = Detections(
        torch.tensor([[100.0, 100, 300, 250]] * 3), torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 1, 0])
    )
    labels = [shape.label for shape in boxes(found, ["car", "bus"], 640, 480)]
    for i, a in enumerate(labels):
        for b in labels[:i]:
            assert a[1] + a[3] <= b[1] or b[1] + b[3] <= a[1] or a[0] + a[2] <= b[0] or b[0] + b[2] <= a[0]


def test_raster_has_a_bar_for_every_spike() -> None:
    spikes = torch.tensor([[1.0, 0.0], [0.0, -4.0], [2.0, 0.0]])
    positive, negative = raster_paths(spikes, 10.0)
    number = r"(-?[\d.]+)"
    bars = [tuple(map(float, bar)) for bar in re.findall(f"M{number} {number}v{number}", positive)]
    assert [x for x, _, _ in bars] == pytest.approx([WIDTH / 6, WIDTH * 5 / 6], abs=0.1)
    assert [y + tall / 2 for _, y, tall in bars] == pytest.approx([5, 5], abs=0.1)
    assert bars[0][2] < bars[1][2]
    ((x, y, tall),) = [tuple(map(float, bar)) for bar in re.findall(f"M{number} {number}v{number}", negative)]
    assert (x, y + tall / 2, tall) == pytest.approx((WIDTH / 2, 15, 9), abs=0.1)


def test_traces_lie_on_one_scale_with_zero_and_threshold() -> None:
    lines, zero, threshold = trace_points(torch.tensor([[0.0, 2.0], [1.0, -1.0]]), 100.0)
    downs = [[float(point.split(",")[1]) for point in line.split()] for line in lines]
    assert downs[0] == [zero, threshold] and 0 < downs[1][0] < threshold < zero < downs[1][1] < 100
    assert zero - threshold == pytest.approx(threshold - downs[1][0], abs=0.11)


@given(
    scores=st.dictionaries(st.integers(1, 300), st.floats(0, 1), min_size=1, max_size=20).map(
        lambda found: sorted(found.items())
    )
)
def test_curves_fit_their_chart(scores: list[tuple[int, float]]) -> None:
    drawn = curve(scores, 200.0)
    assert [(step, point[2]) for step, point in drawn.points.items()] == scores
    (_, zero), (down, top) = (drawn.levels[0], drawn.levels[-1])
    assert zero == 0 and down == pytest.approx(0) and 2 <= len(drawn.levels) <= 8
    for step, (x, y, score) in drawn.points.items():
        assert x == pytest.approx(WIDTH * step / scores[-1][0])
        assert y == pytest.approx(200 * (1 - score / top)) and -1e-9 <= y <= 200


@given(st.lists(st.floats(0, 640), min_size=1, max_size=30, unique=True).map(sorted))
def test_labels_keep_their_distance_and_the_last_is_there(places: list[float]) -> None:
    kept = sorted(labelled(places))
    assert kept[-1] == len(places) - 1
    assert all(places[b] - places[a] >= 24 for a, b in zip(kept, kept[1:], strict=False))
    for index, place in enumerate(places):  # what has no label would stand too near
        assert index in kept or any(abs(place - places[other]) < 24 for other in kept)


@pytest.mark.parametrize("signed", [False, True])
def test_tiles_have_the_colours_of_their_values_and_clear_gaps(signed: bool) -> None:
    maps = torch.tensor(
        [[[0.0, 2.0], [4.0, 9.0]], [[4.0, 4.0], [0.0, -4.0 if signed else 0.0]], [[0.0] * 2] * 2]
    )
    picture = opened(tiles(maps, 4.0, 4, 2, signed)).convert("RGBA")
    assert picture.size == (4 + 2 + 4, 4 + 2 + 4)  # each value is 2 x 2 pixels
    map_ = colormaps["coolwarm" if signed else "viridis"]

    def colour(value: float) -> tuple[int, ...]:
        share = (min(value, 4.0) / 4 + 1) / 2 if signed else min(value, 4.0) / 4
        return tuple(map_(share, bytes=True)[:3])

    for place, left, top in ((0, 0, 0), (1, 6, 0), (2, 0, 6)):
        for row in range(2):
            for column in range(2):
                pixel = picture.getpixel((left + 2 * column, top + 2 * row))
                wanted = colour(float(maps[place, row, column]))
                assert pixel[3] == 255 and max(abs(a - b) for a, b in zip(pixel, wanted, strict=False)) <= 3
    assert {picture.getpixel((x, y))[3] for x, y in ((4, 0), (0, 5), (9, 9))} == {0}


def test_large_maps_are_thinned_out_and_photos_made_smaller() -> None:
    assert opened(tiles(torch.rand(1, 100, 50), 1.0, 20, 6, False)).size[1] <= 20
    assert opened(photo(torch.zeros(3, 100, 50, dtype=torch.uint8))).size == (50, 100)
    assert opened(photo(torch.zeros(3, 500, 2048, dtype=torch.uint8))).size == (1024, 250)
