from __future__ import annotations

import math
from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sj_lowlat.errors import InputError
from sj_lowlat.spike_camera import encode_frames, open_stream, tfi, tfp, tfstp
from sj_lowlat.spike_camera.plasticity import after_interval, after_spike

SEEDS = st.integers(0, 2**31)
SHARES = st.floats(0.02, 0.98)
TIMES = st.floats(0.2, 50)


def _steady(interval: float, U: float, C: float, tau_D: float, tau_F: float) -> tuple[float, float]:
    """ln s and ln w that a spike and the interval after it leave as they are: the recursions solved by hand.

    w = (w (1 - C) + C (1 - U)) f and s = (s (1 - u) + u) d, with f = exp(-interval / tau_F), d likewise.
    """
    log_d, log_f = -interval / tau_D, -interval / tau_F
    log_w = math.log(C * (1 - U)) + log_f - math.log1p(-(1 - C) * math.exp(log_f))
    u = U + math.exp(log_w)
    return math.log(u) + log_d - math.log1p(-(1 - u) * math.exp(log_d)), log_w


def _periodic(interval: int, spikes: int) -> np.ndarray:
    planes = np.zeros((interval * spikes, 1, 1), np.uint8)
    planes[::interval] = 1
    return planes


@settings(max_examples=200)
@given(st.floats(0.5, 2000), SHARES, SHARES, TIMES, TIMES)
def test_a_steady_synapse_tells_its_interval_twice(
    interval: float, U: float, C: float, tau_D: float, tau_F: float
) -> None:
    log_s, log_w = (np.array([value]) for value in _steady(interval, U, C, tau_D, tau_F))
    after_s, after_w = after_spike(log_s, log_w, U, C)
    again = after_interval(after_s, after_w, np.array([interval]), tau_D, tau_F)
    np.testing.assert_allclose(again, (log_s, log_w), rtol=1e-9, atol=1e-9)
    assert tau_D * (after_s - log_s)[0] == pytest.approx(interval, rel=1e-7)
    assert tau_F * (after_w - log_w)[0] == pytest.approx(interval, rel=1e-7)


@settings(max_examples=60)
@given(st.integers(1, 40), SHARES, SHARES, TIMES, TIMES)
def test_constant_intervals_come_back(interval: int, U: float, C: float, tau_D: float, tau_F: float) -> None:
    # what is left of the start: of w by the docstring's share, of s by one that is no more than this
    kept = max((1 - C) * math.exp(-interval / tau_F), (1 - U) * math.exp(-interval / tau_D))
    spikes = 5 + math.ceil(math.log(1e-9) / math.log(kept))
    rate = tfstp(_periodic(interval, spikes), interval * (spikes - 1) - 1, U, C, tau_D, tau_F)
    assert rate[0, 0] == pytest.approx(1 / interval, rel=1e-4)


def _by_hand(spikes: list[int], centre: int, U: float, C: float, tau_D: float, tau_F: float) -> float:
    """The paper's R and u, one pixel, one spike after the other, in 300 digits."""
    with localcontext() as context:
        context.prec = 300
        U, C, tau_D, tau_F = map(Decimal, (U, C, tau_D, tau_F))  # type: ignore[assignment]
        times = [-1, *(time for time, spike in enumerate(spikes) if spike), len(spikes)]
        last = next(place for place, time in enumerate(times) if time > centre)
        R, u = Decimal(1), U
        for start, end in zip(times[:last], times[1 : last + 1], strict=True):
            R, u = (
                1 - (1 - R * (1 - u)) * (-(end - start) / tau_D).exp(),
                U + (u + C * (1 - u) - U) * (-(end - start) / tau_F).exp(),  # type: ignore[operator]
            )
        by_R = -tau_D * ((1 - R) / (1 - R * (1 - u))).ln()
        by_u = -tau_F * ((u - U) / (u + C * (1 - u) - U)).ln()  # type: ignore[operator]
        return float((1 / max(by_R, Decimal(1)) + 1 / max(by_u, Decimal(1))) / 2)


@settings(max_examples=60)
@given(
    st.integers(1, 60),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.sampled_from([0.0, 0.05, 0.3, 0.9, 1.0]),
    SEEDS,
    st.data(),
)
def test_rates_are_those_of_the_papers_recursion(
    frames: int, sides: tuple[int, int], density: float, seed: int, data: st.DataObject
) -> None:
    planes = np.random.default_rng(seed).random((frames, *sides)) < density
    centre = data.draw(st.integers(0, frames - 1))
    synapse = data.draw(st.none() | st.tuples(SHARES, SHARES, TIMES, TIMES)) or (0.15, 0.15, 1.0, 10.0)
    rates = tfstp(planes, centre, *synapse)
    assert rates.dtype == np.float32 and rates.shape == sides
    assert (rates > 0).all() and (rates <= 1).all()
    np.testing.assert_array_equal(tfstp(planes.astype(np.uint8), centre, *synapse), rates)
    for row, column in np.ndindex(sides):
        wanted = _by_hand(planes[:, row, column].tolist(), centre, *synapse)
        assert rates[row, column] == pytest.approx(wanted, rel=1e-6)


def test_the_defaults_are_those_of_the_published_program() -> None:
    planes = np.random.default_rng(0).random((80, 3, 5)) < 0.3
    np.testing.assert_array_equal(tfstp(planes, 60), tfstp(planes, 60, 0.15, 0.15, 0.05 * 20, 0.5 * 20))


@settings(max_examples=30)
@given(SEEDS, st.integers(300, 399))
def test_still_scenes_are_off_by_no_more_than_promised(seed: int, centre: int) -> None:
    """A pixel's intervals are a and a + 1, and s, w, s' and w' are higher where intervals are shorter.

    So they stay between the steady ones, and with them Delta_F; Delta_D leaves a and a + 1 by no more than
    tau_D ln(s'(a) / s'(a + 1)).
    """
    light = np.random.default_rng(seed).uniform(0.03, 1, (5, 6))
    planes = encode_frames(np.broadcast_to(light, (500, 5, 6)), rate_at_white=1.0, seed=seed)
    rates = tfstp(planes, centre)
    for place in np.ndindex(light.shape):
        short = math.floor(1 / light[place])
        steady = [_steady(interval, 0.15, 0.15, 1, 10) for interval in (short, short + 1)]
        after = [after_spike(np.array([s]), np.array([w]), 0.15, 0.15)[0][0] for s, w in steady]
        beyond = after[0] - after[1]
        assert 0 < beyond < 0.35
        assert short - beyond - 1e-3 <= 1 / rates[place] <= short + 1 + beyond + 1e-3
        assert abs(1 / rates[place] - 1 / light[place]) < 1.35


def test_it_is_less_noisy_than_one_interval_and_sharper_than_many() -> None:
    light = np.linspace(0.3, 1, 200)
    still = encode_frames(np.broadcast_to(light, (300, 1, 200)), rate_at_white=1.0, seed=0)
    errors = [float(np.abs(each(still, 200)[0] - light).mean()) for each in (tfstp, tfi)]
    assert errors[0] < 0.75 * errors[1]
    squares = np.where(np.arange(240) // 12 % 2, 0.9, 0.3)[None]  # move by a pixel a frame
    moving = np.stack([np.roll(squares, step, 1) for step in range(300)])
    planes = encode_frames(moving, rate_at_white=1.0, seed=0)
    memory, mean = (
        np.abs(rates - moving[200]).mean() for rates in (tfstp(planes, 200), tfp(planes, 200, 61))
    )
    assert memory < 0.75 * mean


@pytest.mark.parametrize(("before", "after"), [(2, 9), (9, 2), (1, 5), (30, 3), (1, 60)])
def test_a_step_of_light_is_followed(before: int, after: int) -> None:
    step = 40 * before
    planes = np.zeros((step + 60 * after, 1, 1), np.uint8)
    planes[: step + 1 : before] = planes[step::after] = 1
    found = np.array(
        [
            tfstp(planes, step - before)[0, 0],
            *(tfstp(planes, c)[0, 0] for c in range(step, len(planes) - after, after)),
        ]
    )
    assert found[0] == pytest.approx(1 / before, rel=1e-3)
    left = np.abs(found - 1 / after) / abs(1 / before - 1 / after)
    kept = 0.85 * math.exp(-after / 10)
    # towards the new rate with each spike, and by the docstring's share
    assert (np.diff(left) <= 1e-6).all()
    assert (left[1:] <= 2 * kept ** np.arange(len(left) - 1) + 1e-4).all()


def test_dark_bright_and_lone_pixels() -> None:
    planes = np.zeros((200, 1, 4), bool)
    planes[:, 0, 1] = True
    planes[40, 0, 2] = True
    planes[150, 0, 3] = True
    dark, bright, early, late = tfstp(planes, 100)[0]
    assert dark == pytest.approx(1 / 201, rel=1e-6)
    assert bright == pytest.approx(1, abs=1e-4)
    assert early == pytest.approx(1 / 160, rel=0.01)  # from 40 on; a little is left of the 41 frames before
    assert late == pytest.approx(1 / 151, rel=1e-6)


def test_a_pixel_that_goes_dark_does_not_stay_bright() -> None:
    planes = np.ones((400, 1, 1), np.uint8)
    planes[100:] = 0
    assert tfstp(planes, 99)[0, 0] < 0.01 and tfstp(planes, 98)[0, 0] > 0.99


def test_a_synapse_that_is_misled_ends_at_one_spike_a_frame() -> None:
    planes = np.ones((80, 1, 1), np.uint8)
    planes[60:69] = 0  # soon U alone counts again, while most resources are still spent
    by_hand = _by_hand(planes.ravel().tolist(), 60, 0.02, 0.98, 50.0, 2.0)
    rate = tfstp(planes, 60, 0.02, 0.98, 50.0, 2.0)[0, 0]
    assert 0.5 < rate <= 1
    assert rate == pytest.approx(by_hand, rel=1e-6)


def test_long_and_strange_synapses_end_in_rates() -> None:
    planes = np.random.default_rng(0).random((400, 3, 5)) < np.linspace(0, 1, 15).reshape(3, 5)
    with np.errstate(all="raise", under="ignore"):
        for tau_D, tau_F in [(1e-3, 1e-3), (1e12, 1e12), (1e18, 1e-3), (1e-3, 1e18)]:
            for share in (1e-6, 1 - 1e-6):
                rates = tfstp(planes, 200, share, 1 - share, tau_D, tau_F)
                assert (rates > 0).all() and (rates <= 1).all()


def test_views_of_planes_are_read_like_planes() -> None:
    planes = np.random.default_rng(0).random((60, 8, 10)) < 0.3
    whole = tfstp(planes, 40)
    np.testing.assert_array_equal(tfstp(planes[:, ::-1, 1:9:2], 40), whole[::-1, 1:9:2])


def test_simulated_clips_look_like_their_pictures(data_dir: Path) -> None:
    from PIL import Image

    clips = sorted((data_dir / "spike-camera" / "simulated-reds").glob("*.dat"))
    if not clips:
        pytest.skip("no spike clips")
    for clip in clips:
        planes = open_stream(clip, 250, 400).planes()
        truth = np.asarray(Image.open(clip.with_suffix(".png")).convert("L")) / 255
        likeness, single = (
            np.corrcoef(each(planes, 150).ravel(), truth.ravel())[0, 1] for each in (tfstp, tfi)
        )
        assert likeness > single


PLANES = np.zeros((9, 4, 4), np.uint8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tfstp(PLANES[:0], 0), "at least one frame"),
        (lambda: tfstp(PLANES[0], 0), r"\[4, 4\]"),
        (lambda: tfstp(PLANES.astype(np.float32), 0), "type float32"),
        (lambda: tfstp(PLANES, 9), "give 0 to 8"),
        (lambda: tfstp(PLANES, -1), "give 0 to 8"),
        (lambda: tfstp(PLANES, 4, U=0), "U 0 came"),
        (lambda: tfstp(PLANES, 4, C=1.0), r"C 1\.0 came"),
        (lambda: tfstp(PLANES, 4, U=math.nan), "U nan came"),
        (lambda: tfstp(PLANES, 4, tau_D=0), "tau_D 0 came"),
        (lambda: tfstp(PLANES, 4, tau_F=math.inf), "tau_F inf came"),
    ],
)
def test_bad_input(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=message):
        call()
