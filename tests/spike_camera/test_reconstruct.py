from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sj_lowlat.data import TrafficDataset
from sj_lowlat.errors import InputError
from sj_lowlat.spike_camera.encode import encode_frames, to_grey
from sj_lowlat.spike_camera.motion import Motion, moving_views
from sj_lowlat.spike_camera.reconstruct import adaptive, tfi, tfp, to_image

SEEDS = st.integers(0, 2**31)
SIDES = st.integers(1, 5)


@st.composite
def _cases(draw: st.DrawFn) -> tuple[np.ndarray, int, int]:
    """Planes of any density, a centre, and a window that fits."""
    frames = draw(st.integers(1, 30))
    shape = frames, draw(SIDES), draw(SIDES)
    density = draw(st.sampled_from([0.0, 0.05, 0.3, 0.9, 1.0]))
    planes = np.random.default_rng(draw(SEEDS)).random(shape) < density
    centre = draw(st.integers(0, frames - 1))
    half = draw(st.integers(0, min(centre, frames - 1 - centre)))
    return planes if draw(st.booleans()) else planes.astype(np.uint8), centre, 2 * half + 1


@settings(max_examples=60)
@given(_cases())
def test_playback_is_the_mean_of_the_window(case: tuple[np.ndarray, int, int]) -> None:
    planes, centre, window = case
    rates = tfp(planes, centre, window)
    assert rates.dtype == np.float32
    for place in np.ndindex(rates.shape):
        spikes = planes[(slice(None), *place)].tolist()
        wanted = sum(spikes[centre + step] for step in range(-(window // 2), window // 2 + 1)) / window
        assert rates[place] == pytest.approx(wanted, abs=1e-6)


@settings(max_examples=60)
@given(_cases())
def test_intervals_are_those_of_a_scalar_search(case: tuple[np.ndarray, int, int]) -> None:
    planes, centre, window = case
    rates = tfi(planes, centre, window)
    assert rates.dtype == np.float32 and (rates > 0).all() and (rates <= 1).all()
    for place in np.ndindex(rates.shape):
        times = [-1, *np.flatnonzero(planes[(slice(None), *place)]), len(planes)]
        start = max(time for time in times if time <= centre - window // 2)
        end = min(time for time in times if time > centre + window // 2)
        between = sum(start < time <= end for time in times)
        assert rates[place] == pytest.approx(between / (end - start), abs=1e-6)


def test_interval_semantics_by_hand() -> None:
    spikes = np.zeros((10, 1, 1), np.uint8)
    spikes[[2, 5, 9]] = 1
    found = [1 / tfi(spikes, centre)[0, 0] for centre in range(10)]
    # before the first spike, and from the last on, the planes' ends stand in
    assert found == pytest.approx([3, 3, 3, 3, 3, 4, 4, 4, 4, 1])
    assert tfi(spikes, 4, 5)[0, 0] == pytest.approx(2 / 7)
    assert tfi(np.zeros((7, 2, 2), np.uint8), 3).tolist() == [[pytest.approx(1 / 8)] * 2] * 2


@settings(max_examples=30)
@given(SEEDS, st.floats(0.05, 1), st.integers(1, 20))
def test_still_scenes_are_off_by_no_more_than_promised(seed: int, rate: float, half: int) -> None:
    light = np.random.default_rng(seed).random((5, 6))
    planes = encode_frames(np.broadcast_to(light, (121, 5, 6)), rate_at_white=rate, seed=seed)
    window, truth = 2 * half + 1, light * rate
    assert (np.abs(tfp(planes, 60, window) - truth) <= 1 / window + 1e-6).all()
    # where there are spikes on both sides; the span is at least the window
    inside = planes[: 60 - half + 1].any(0) & planes[60 + half + 1 :].any(0)
    assert (np.abs(tfi(planes, 60, window) - truth) <= truth / window + 1e-6)[inside].all()


def _mse(picture: np.ndarray, truth: np.ndarray) -> float:
    return float(((picture - truth) ** 2).mean())


@pytest.mark.parametrize("rate", [0.2, 0.6])
@pytest.mark.parametrize("speed", [0.1, 0.2, 0.5, 1.0])
def test_adaptive_is_the_best_where_things_move(rate: float, speed: float) -> None:
    for seed in range(3):
        scene = TrafficDataset(1, 96, seed)[0]
        view = moving_views(scene.image, scene.boxes, Motion(pan=(speed, 0)), 121)
        planes = encode_frames(view.views(0, 121), rate_at_white=rate, seed=seed)
        truth = rate * to_grey(scene.image)
        mixed = _mse(adaptive(planes, 60), truth)
        assert mixed < _mse(tfp(planes, 60, 61), truth)
        assert mixed < _mse(tfi(planes, 60), truth)
        assert mixed < _mse(tfp(planes, 60, 7), truth)


@pytest.mark.parametrize(("rate", "photons"), [(0.2, None), (0.6, None), (0.6, 200.0)])
def test_adaptive_rests_where_nothing_moves(rate: float, photons: float | None) -> None:
    for seed in range(3):
        truth = rate * to_grey(TrafficDataset(1, 96, seed)[0].image)
        planes = encode_frames(
            np.broadcast_to(truth / rate, (121, 96, 96)), rate_at_white=rate, photons=photons, seed=seed
        )
        mixed = _mse(adaptive(planes, 60, photons=photons), truth)
        assert mixed < 1.2 * _mse(tfp(planes, 60, 61), truth)
        assert mixed < 0.5 * _mse(tfi(planes, 60, 7), truth)


@settings(max_examples=30)
@given(_cases(), st.sampled_from([1, 3, 5]))
def test_adaptive_lies_between_its_windows(case: tuple[np.ndarray, int, int], pool: int) -> None:
    planes, centre, window = case
    windows = sorted({1, (window + 1) // 4 * 2 + 1, window}, reverse=True)
    mixed = adaptive(planes, centre, windows, pool=pool)
    both = np.stack([tfi(planes, centre, each) for each in windows])
    assert mixed.dtype == np.float32
    assert (mixed >= both.min(0) - 1e-6).all() and (mixed <= both.max(0) + 1e-6).all()


def test_simulated_clips_look_like_their_pictures(data_dir: Path) -> None:
    clips = sorted((data_dir / "spike-camera" / "simulated-reds").glob("*.dat"))
    if not clips:
        pytest.skip("no spike clips")
    for clip in clips:
        bits = np.unpackbits(np.fromfile(clip, np.uint8), bitorder="little")
        planes = bits.reshape(-1, 250, 400)[:, ::-1]
        truth = np.asarray(Image.open(clip.with_suffix(".png")).convert("L")) / 255

        def likeness(picture: np.ndarray, truth: np.ndarray = truth) -> float:
            return float(np.corrcoef(picture.ravel(), truth.ravel())[0, 1])

        playback, mixed = tfp(planes, 150, 21), adaptive(planes, 150)
        assert likeness(playback) >= 0.95
        assert likeness(mixed) >= max(likeness(playback), likeness(tfi(planes, 150)))
        assert mixed.mean() == pytest.approx(0.6 * truth.mean(), rel=0.02)


@settings(max_examples=30)
@given(SEEDS, st.integers(1, 9), st.integers(1, 9), st.floats(0.1, 5))
def test_images_by_gain(seed: int, height: int, width: int, gain: float) -> None:
    grey = np.random.default_rng(seed).random((height, width), np.float32)
    image = to_image(grey, gain)
    assert image.shape == (3, height, width) and image.dtype == np.uint8
    assert (image == image[0]).all()
    np.testing.assert_allclose(image[0] / 255, np.minimum(grey * gain, 1), atol=0.51 / 255)


def test_automatic_gain_takes_dark_pictures_to_white() -> None:
    grey = np.linspace(0, 0.02, 10_000, dtype=np.float32).reshape(100, 100)
    grey[0, 0] = 1  # one wild pixel
    image = to_image(grey)
    assert 0.003 < (image[0] == 255).mean() < 0.01
    assert image[0].astype(int).mean() == pytest.approx(127, abs=2)
    assert not to_image(np.zeros((4, 4), np.float32)).any()
    lone = np.zeros((40, 40), np.float32)
    lone[3, 3] = 0.1  # so little light that the percentile is 0
    assert to_image(lone)[0, 3, 3] == 255


PLANES = np.zeros((9, 4, 4), np.uint8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tfp(PLANES[:0], 0, 1), "at least one frame"),
        (lambda: tfp(PLANES[0], 0, 1), r"\[4, 4\]"),
        (lambda: tfi(PLANES.astype(np.float32), 0), "type float32"),
        (lambda: tfi(PLANES, 9), "give 0 to 8"),
        (lambda: tfi(PLANES, -1), "give 0 to 8"),
        (lambda: tfp(PLANES, 4, 4), "window 4"),
        (lambda: tfp(PLANES, 4, -1), "window -1"),
        (lambda: tfp(PLANES, 3, 9), "odd number from 1 to 7"),
        (lambda: adaptive(PLANES, 4), "window 61"),
        (lambda: adaptive(PLANES, 4, (5, 7)), r"windows \[5, 7\]"),
        (lambda: adaptive(PLANES, 4, ()), r"windows \[\]"),
        (lambda: adaptive(PLANES, 4, (9, 1), pool=2), "pool 2"),
        (lambda: adaptive(PLANES, 4, (9, 1), photons=0), "photons 0"),
        (lambda: to_image(np.ones((3, 4, 4))), r"\[3, 4, 4\]"),
        (lambda: to_image(np.ones((4, 4)), 0), "gain 0"),
        (lambda: to_image(np.ones((4, 4)), "Auto"), "gain 'Auto'"),  # type: ignore[arg-type]
    ],
)
def test_bad_input(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=message):
        call()
