from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sj_lowlat.data import CocoDataset, DetectionDataset, TrafficDataset, moving_sequence
from sj_lowlat.data.traffic_scene import Scene, Thing, make_scene
from sj_lowlat.data.traffic_shapes import ASPECTS, SHAPES, sprite
from sj_lowlat.errors import InputError


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31), size=st.integers(32, 128), index=st.integers(0, 10**6))
def test_samples_are_valid_and_reproducible(seed: int, size: int, index: int) -> None:
    sample, again = (TrafficDataset(10**6 + 1, size, seed)[index] for _ in range(2))
    assert torch.equal(sample.image, again.image) and torch.equal(sample.boxes, again.boxes)
    assert sample.image.shape == (3, size, size) and sample.image.dtype == torch.uint8
    assert ((sample.boxes >= 0) & (sample.boxes <= size)).all()
    # sides are at least 3 px, but for float32 rounding
    assert (sample.boxes[:, 2:] - sample.boxes[:, :2] >= 3 - 1e-4).all()
    assert ((sample.labels >= 0) & (sample.labels < 4)).all()


def test_drawn_samples_are_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    data = TrafficDataset(3, 32)
    assert data[0] is data[0]
    monkeypatch.setattr("sj_lowlat.data.traffic._KEPT_BYTES", 2 * 3 * 32 * 32)
    small = TrafficDataset(3, 32)
    for index in range(3):
        assert torch.equal(small[index].image, data[index].image)
    assert small[1] is small[1] and small[2] is not small[2]


def test_scenes_vary_and_hold_every_class() -> None:
    data = TrafficDataset(60, 64)
    assert isinstance(data, DetectionDataset) and data.class_names == ("person", "bicycle", "car", "bus")
    samples = [data[index] for index in range(len(data))]
    counts = torch.cat([sample.labels for sample in samples]).bincount(minlength=4)
    assert (counts >= 10).all()
    assert len({len(sample.boxes) for sample in samples}) >= 4
    means = torch.stack([sample.image.float().mean() for sample in samples])
    assert means.std() > 10
    assert not torch.equal(data[0].image, TrafficDataset(60, 64, seed=1)[0].image)


def test_global_random_states_are_untouched() -> None:
    before = torch.random.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    TrafficDataset(1)[0]
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert (before[1], before[2]) == (np.random.get_state()[1].tolist(), random.getstate())


def _thing(**changes: object) -> Thing:
    plain = {
        "kind": "car",
        "style": 5,
        "x": 0.5,
        "ground": 0.9,
        "height": 0.3,
        "speed": 0.01,
        "mirrored": False,
        "track": 0,
    }
    return Thing(**{**plain, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", sorted(SHAPES))
@pytest.mark.parametrize("mirrored", [False, True])
def test_box_bounds_the_pixels_of_its_object(kind: str, mirrored: bool) -> None:
    scene = make_scene(3, 150)
    alone = Scene(3, 150, scene.horizon, (_thing(kind=kind, mirrored=mirrored),))
    empty = Scene(3, 150, scene.horizon, ())
    view = alone.render(noise=False)
    changed = np.abs(view.image.astype(int) - empty.render(noise=False).image.astype(int)).max(axis=2) > 0
    rows, columns = np.nonzero(changed)
    (x1, y1, x2, y2) = view.boxes[0]
    assert (columns.min(), rows.min()) == pytest.approx((x1, y1), abs=1.01)
    # the shadow, outside the box, reaches below
    assert columns.max() + 1 == pytest.approx(x2, abs=1.01) and y2 - 1.01 <= rows.max() + 1 <= y2 + 3
    # nothing of the drawing is cut off by its own canvas, sideways or above
    drawing = np.asarray(sprite(kind, 5, 200, 0.3, mirrored).getchannel("A"))
    assert not drawing[:, 0].any() and not drawing[:, -1].any() and not drawing[0].any()
    assert drawing.shape == (200, int(np.ceil(ASPECTS[kind] * 200)))


def test_hidden_objects_have_no_box_and_partly_hidden_ones_a_smaller_box() -> None:
    horizon = 0.3
    bus = _thing(kind="bus_front", ground=0.95, height=0.6, x=0.5, track=1)

    def boxes_beside(car_x: float) -> dict[int, list[float]]:
        car = _thing(kind="car", ground=0.8, height=0.2, x=car_x, track=0)
        view = Scene(1, 150, horizon, (car, bus)).render(noise=False)
        return dict(zip(view.tracks, view.boxes, strict=True))

    free = boxes_beside(0.2 - 0.4)  # mostly left of the picture
    assert 0 not in free and 1 in free
    assert 0 not in boxes_beside(0.5)  # behind the bus
    half = boxes_beside(0.27)
    assert half[0][2] <= half[1][0] + 8 and half[0][2] - half[0][0] < 0.2 * 2.6 * 150


def test_written_coco_set_reads_back(tmp_path: Path) -> None:
    data = TrafficDataset(3, 64, seed=4)
    path = data.write_coco(tmp_path / "traffic")
    read = CocoDataset(path, path.parent / "images")
    assert read.class_names == data.class_names and read.category_ids == (1, 2, 3, 6)
    assert len(read) == 3 and set(read.notes.values()) == {0}
    for index in range(3):
        mine, theirs = data[index], read[index]
        assert torch.equal(mine.image, theirs.image) and torch.equal(mine.labels, theirs.labels)
        torch.testing.assert_close(mine.boxes, theirs.boxes, atol=1e-4, rtol=0)
    from pycocotools.coco import COCO

    official = COCO(str(path))
    assert len(official.getAnnIds()) == sum(len(data[index].boxes) for index in range(3))
    assert {row["name"] for row in official.loadCats(official.getCatIds())} == set(data.class_names)


def test_sequence_moves_smoothly_in_a_still_street() -> None:
    size, moved = 96, 0
    for seed in range(4):
        film = moving_sequence(seed, 10, size)
        assert film.frames.shape == (10, 3, size, size) and film.frames.dtype == torch.uint8
        assert len(film.boxes) == len(film.labels) == len(film.tracks) == 10
        classes: dict[int, int] = {}
        for now in range(10):
            assert len(film.boxes[now]) == len(film.labels[now]) == len(film.tracks[now])
            assert len(film.tracks[now].unique()) == len(film.tracks[now])
            for track, label in zip(film.tracks[now].tolist(), film.labels[now].tolist(), strict=True):
                assert classes.setdefault(track, label) == label
        for before, after in zip(range(9), range(1, 10), strict=True):
            places = dict(zip(film.tracks[before].tolist(), film.boxes[before], strict=True))
            for track, box in zip(film.tracks[after].tolist(), film.boxes[after], strict=True):
                if track in places:
                    # a pixel of box movement comes from limbs or from what hides the object
                    step = (box - places[track]).abs()
                    assert step.max() < 0.16 * size
                    moved += bool(step.max() > 0.3)
        changed = (film.frames[0].int() - film.frames[-1].int()).abs().amax(0) > 0
        assert 0 < changed.float().mean() < 0.6
    assert moved > 20


def test_velocity_is_what_the_thing_says() -> None:
    scene = Scene(2, 150, 0.3, (_thing(kind="car", x=0.4, speed=0.02, height=0.15),))
    starts = [scene.render(frame, noise=False).boxes[0][0] for frame in range(8)]
    assert np.diff(starts) == pytest.approx(np.full(7, 3.0), abs=0.34)


def test_sequences_repeat_and_differ_by_seed() -> None:
    first, again, other = (moving_sequence(seed, 2, 48).frames for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_bad_input() -> None:
    for call in (lambda: TrafficDataset(0), lambda: TrafficDataset(1, 16), lambda: moving_sequence(0, 0)):
        with pytest.raises(InputError, match="at least"):
            call()
    with pytest.raises(IndexError):
        TrafficDataset(2)[2]
