from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sj_lowlat.errors import InputError
from sj_lowlat.spike_camera.encode import SpikeEncoder, as_light, encode_frames, to_grey

SEEDS = st.integers(0, 2**31)
SIDES = st.integers(1, 9)
RATES = st.floats(0.001, 1)


def _frames(seed: int, steps: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).random((steps, height, width), np.float32)


@settings(max_examples=40)
@given(SEEDS, st.integers(1, 40), SIDES, SIDES, RATES)
def test_every_pixel_is_a_scalar_neuron(seed: int, steps: int, height: int, width: int, rate: float) -> None:
    frames = _frames(seed, steps, height, width)
    encoder = SpikeEncoder(height, width, rate_at_white=rate, seed=seed)
    start = encoder.charge
    planes = encoder.encode(frames)
    assert planes.dtype == np.uint8 and planes.shape == frames.shape
    for y in range(height):
        for x in range(width):
            charge, spikes = float(start[y, x]), []
            for light in frames[:, y, x].tolist():
                charge += rate * light
                spikes.append(int(charge >= 1))
                charge -= spikes[-1]
            assert planes[:, y, x].tolist() == spikes
            assert encoder.charge[y, x] == pytest.approx(charge, abs=1e-7)


@settings(max_examples=40)
@given(SEEDS, st.integers(1, 300), RATES, st.integers(0, 255))
def test_constant_light_has_the_closed_form_and_its_rate(
    seed: int, steps: int, rate: float, grey: int
) -> None:
    encoder = SpikeEncoder(4, 5, rate_at_white=rate, seed=seed)
    start = encoder.charge
    counts = encoder.encode(np.full((steps, 4, 5), grey, np.uint8)).sum(0, dtype=int)
    charge = rate * grey / 255
    # float32 light, and charges rounded to 2**-30
    low, high = (np.floor(start + steps * (charge + error)) for error in (-1e-7, 1e-7))
    assert ((low <= counts) & (counts <= high)).all()
    assert (np.abs(counts / steps - charge) <= 1 / steps + 1e-7).all()


def test_white_at_rate_one_fires_at_every_step_and_black_never() -> None:
    frames = np.zeros((50, 2, 2), np.uint8)
    frames[:, 0] = 255
    planes = encode_frames(frames, rate_at_white=1)
    assert planes[:, 0].all() and not planes[:, 1].any()


def test_starts_are_uniform_so_rates_are_unbiased() -> None:
    start = SpikeEncoder(200, 200, seed=3).charge
    assert start.min() >= 0 and start.max() < 1
    edges = np.histogram(start, 10, (0, 1))[0] / start.size
    assert np.abs(edges - 0.1).max() < 0.01
    dark = encode_frames(np.full((7, 200, 200), 0.5), rate_at_white=0.04)
    assert dark.mean() == pytest.approx(0.02, abs=0.002)


@settings(max_examples=30)
@given(SEEDS, st.lists(st.integers(0, 7), min_size=1, max_size=6), st.sampled_from([None, 3.0, 200.0]))
def test_blocks_do_not_change_the_spikes(seed: int, blocks: list[int], photons: float | None) -> None:
    frames = _frames(seed, sum(blocks), 3, 4)
    whole = encode_frames(frames, photons=photons, seed=seed)
    encoder = SpikeEncoder(3, 4, photons=photons, seed=seed)
    edges = np.cumsum([0, *blocks])
    parts = [encoder.encode(frames[a:b]) for a, b in zip(edges, edges[1:], strict=False)]
    assert np.array_equal(np.concatenate(parts), whole) and encoder.frames == len(frames)
    encoder.reset()
    single = [encoder.step(frame) for frame in frames]
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(single, whole, strict=True))


def test_photon_noise_keeps_the_rate_and_has_its_variance() -> None:
    frames = np.broadcast_to(np.float32(0.5), (200, 60, 60))
    clean, noisy = (encode_frames(frames, photons=photons).sum(0) for photons in (None, 20))
    assert clean.min() >= 59 and clean.max() <= 61
    mean = 200 * 0.3
    assert noisy.mean() == pytest.approx(mean, abs=4 * math.sqrt(mean / 20 / 3600))
    # Poisson charge, and the two ends of the count, each uniform within a spike
    assert noisy.var() == pytest.approx(mean / 20 + 1 / 6, rel=0.1)
    again, other = (encode_frames(frames, photons=20, seed=seed).sum(0) for seed in (0, 1))
    assert np.array_equal(noisy, again) and not np.array_equal(noisy, other)


def test_noise_is_new_at_every_frame_and_spikes_stay_below_two() -> None:
    planes = encode_frames(np.full((400, 10, 10), 1.0), rate_at_white=1, photons=2)
    assert set(np.unique(planes)) == {0, 1}  # charges of 2 photons reach over the threshold and below it
    assert 0.9 < planes.mean() < 1


@settings(max_examples=30)
@given(SEEDS, SIDES, SIDES, st.integers(0, 2))
def test_grey_is_the_luma_of_the_standard(seed: int, height: int, width: int, batch: int) -> None:
    shape = (2,) * batch + (3, height, width)
    images = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))
    red, green, blue = images.double().unbind(-3)
    luma = (0.299 * red + 0.587 * green + 0.114 * blue) / 255
    torch.testing.assert_close(torch.from_numpy(to_grey(images)).double(), luma, atol=1e-7, rtol=0)


def test_neutral_colours_keep_their_value() -> None:
    levels = np.arange(256, dtype=np.uint8)
    image = np.broadcast_to(levels[:, None], (3, 256, 1))
    assert np.array_equal(to_grey(image)[:, 0], as_light(levels))
    assert to_grey(image).max() == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SpikeEncoder(0, 4), "at least 1 x 1"),
        (lambda: SpikeEncoder(4, 4, rate_at_white=0), "rate_at_white 0"),
        (lambda: SpikeEncoder(4, 4, rate_at_white=1.1), "rate_at_white 1.1"),
        (lambda: SpikeEncoder(4, 4, rate_at_white=math.nan), "rate_at_white nan"),
        (lambda: SpikeEncoder(4, 4, photons=0), "photons 0"),
        (lambda: SpikeEncoder(4, 4, photons=math.inf), "photons inf"),
        (lambda: SpikeEncoder(4, 4, seed=-1), "seed -1"),
        (lambda: SpikeEncoder(4, 4).encode(np.zeros((1, 4, 5), np.uint8)), r"\[1, 4, 5\]"),
        (lambda: encode_frames(np.zeros((4, 4), np.uint8)), r"\[4, 4\]"),
        (lambda: encode_frames(np.zeros((1, 4, 4), np.int64)), "type int64"),
        (lambda: encode_frames(np.full((1, 4, 4), 1.5)), "values from 1.5"),
        (lambda: encode_frames(np.full((1, 4, 4), np.nan)), "values from nan"),
        (lambda: to_grey(np.zeros((4, 4, 3), np.uint8)), r"\[4, 4, 3\]"),
        (lambda: to_grey(np.zeros((3, 4, 4))), "type float64"),
    ],
)
def test_bad_input(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=message):
        call()
