from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sj_lowlat.data import moving_sequence
from sj_lowlat.errors import InputError
from sj_lowlat.spike_camera.encode import to_grey
from sj_lowlat.spike_camera.motion import Motion, moving_views, sequence_frames

SEEDS = st.integers(0, 2**31)
MOTIONS = st.builds(
    Motion,
    pan=st.tuples(st.floats(-2, 2), st.floats(-2, 2)),
    zoom=st.floats(0.98, 1.02),
    shake=st.floats(0, 5),
    smoothness=st.floats(1, 200),
    seed=SEEDS,
)


def _grey(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width), np.float32)


@settings(max_examples=30)
@given(SEEDS, st.integers(1, 20), st.integers(1, 20), MOTIONS, st.integers(1, 9), st.data())
def test_centre_frame_is_the_still_image(
    seed: int, height: int, width: int, motion: Motion, frames: int, data: st.DataObject
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (3, height, width), np.uint8)
    boxes = np.float32([[0, 0, width, height], [width / 4, height / 4, width / 2, height / 2]])
    centre = data.draw(st.integers(0, frames - 1))
    view = moving_views(torch.from_numpy(image), boxes, motion, frames, centre)
    assert len(view) == frames
    assert np.array_equal(view.views(centre, centre + 1)[0], to_grey(image))
    np.testing.assert_allclose(view.boxes_at(centre), boxes, atol=1e-5)
    whole = view.views(0, frames)
    assert whole.dtype == np.float32 and whole.min() >= 0 and whole.max() <= 1
    assert np.array_equal(np.concatenate(list(view.blocks(2))), whole)


@settings(max_examples=30)
@given(SEEDS, st.integers(2, 12), st.integers(2, 12), MOTIONS, st.integers(-20, 20))
def test_views_are_sampled_where_the_formula_says(
    seed: int, height: int, width: int, motion: Motion, step: int
) -> None:
    image = _grey(seed, height, width)
    centre = 20
    view = moving_views(image, np.zeros((0, 4)), motion, 41, centre).views(centre + step, centre + step + 1)[
        0
    ]
    zoom, dx, dy = motion.at(step)
    for y in range(height):
        for x in range(width):
            # the middle of pixel i is at i + 0.5; past the border its last pixel goes on
            px = np.clip((x + 0.5 - dx - width / 2) / zoom + width / 2 - 0.5, 0, width - 1)
            py = np.clip((y + 0.5 - dy - height / 2) / zoom + height / 2 - 0.5, 0, height - 1)
            left, top = min(int(px), width - 2), min(int(py), height - 2)
            u, v = px - left, py - top
            wanted = (1 - v) * ((1 - u) * image[top, left] + u * image[top, left + 1]) + v * (
                (1 - u) * image[top + 1, left] + u * image[top + 1, left + 1]
            )
            assert view[y, x] == pytest.approx(wanted, abs=1e-4)


def test_whole_pixels_of_pan_shift_the_image_and_its_boxes() -> None:
    image = _grey(1, 10, 12)
    view = moving_views(image, [[2, 3, 6, 8]], Motion(pan=(2, -1)), 5)
    assert view.centre_frame == 2
    after = view.views(3, 4)[0]
    np.testing.assert_allclose(after[:-1, 2:], image[1:, :-2], atol=1e-5)
    np.testing.assert_allclose(view.boxes_at(3), [[4, 2, 8, 7]], atol=1e-5)
    np.testing.assert_allclose(view.boxes_at(0), [[0, 5, 2, 10]], atol=1e-5)  # cut off at the border


@settings(max_examples=30)
@given(MOTIONS, st.integers(0, 40))
def test_a_box_follows_its_object(motion: Motion, frame: int) -> None:
    image = np.zeros((60, 80), np.float32)
    image[20:40, 30:55] = 1
    view = moving_views(image, [[30, 20, 55, 40]], motion, 41)
    x1, y1, x2, y2 = view.boxes_at(frame)[0]
    bright = view.views(frame, frame + 1)[0]
    # the light that is within the box is its area, what is cut off at the border aside
    assert bright.sum() == pytest.approx((x2 - x1) * (y2 - y1), rel=0.08, abs=4)
    if (x2 - x1) * (y2 - y1) > 20:
        weights = bright / bright.sum()
        assert (weights.sum(0) @ (np.arange(80) + 0.5)) == pytest.approx((x1 + x2) / 2, abs=0.8)
        assert (weights.sum(1) @ (np.arange(60) + 0.5)) == pytest.approx((y1 + y2) / 2, abs=0.8)


def test_objects_out_of_view_have_no_area() -> None:
    view = moving_views(np.ones((20, 20)), [[2, 2, 8, 8], [10, 10, 18, 18]], Motion(pan=(-1, 0)), 31, 0)
    boxes = view.boxes_at(12)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    assert areas.tolist() == [0, pytest.approx(6 * 8)]
    assert moving_views(np.ones((20, 20)), [], Motion(), 1).boxes_at(0).shape == (0, 4)


def test_shake_is_bounded_smooth_and_reproducible() -> None:
    motion = Motion(shake=4, smoothness=50, seed=7)
    places = np.array([motion.at(step)[1:] for step in range(-500, 501)])
    assert np.abs(places[500]).max() == 0
    assert np.ptp(places, axis=0).max() <= 8 and np.ptp(places, axis=0).min() > 2
    # at most 2 pi shake / smoothness a step, that of the quickest wave alone
    assert np.abs(np.diff(places, axis=0)).max() <= 2 * math.pi * 4 / 50
    again, other = Motion(shake=4, smoothness=50, seed=7), Motion(shake=4, smoothness=50, seed=8)
    assert motion.at(99) == again.at(99) != other.at(99)
    assert not np.allclose(places[:, 0], places[:, 1])


def test_traffic_as_light() -> None:
    sequence = moving_sequence(3, 3, 32)
    frames = sequence_frames(sequence)
    assert frames.dtype == np.float32 and np.array_equal(frames, to_grey(sequence.frames))
    slow = sequence_frames(sequence, 4)
    assert slow.shape == (12, 32, 32)
    assert all(np.array_equal(slow[step], frames[step // 4]) for step in range(12))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Motion(pan=(math.nan, 0)), "pan"),
        (lambda: Motion(zoom=0), "zoom 0"),
        (lambda: Motion(shake=-1), "shake -1"),
        (lambda: Motion(smoothness=0.5), "smoothness 0.5"),
        (lambda: Motion(seed=-1), "seed -1"),
        (lambda: moving_views(np.ones((2, 2)), [], Motion(), 0), "frames 0"),
        (lambda: moving_views(np.ones((2, 2)), [], Motion(), 4, 4), "centre_frame 4"),
        (lambda: moving_views(np.ones((2, 2)), [1, 2, 3, 4], Motion(), 4), r"boxes of shape \[4\]"),
        (lambda: moving_views(np.ones(2), [], Motion(), 4), r"image of shape \[2\]"),
        (lambda: moving_views(np.ones((2, 2, 3), np.uint8), [], Motion(), 4), r"\[2, 2, 3\]"),
        (lambda: moving_views(np.ones((2, 2)), [], Motion(), 4).views(0, 5), "frames 0 to 5"),
        (lambda: moving_views(np.ones((2, 2)), [], Motion(), 4).boxes_at(4), "frame 4"),
        (lambda: moving_views(np.ones((2, 2)), [], Motion(), 4).blocks(0), "steps 0"),
        (lambda: sequence_frames(moving_sequence(0, 1, 32), 0), "steps_per_frame 0"),
    ],
)
def test_bad_input(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=message):
        call()
