"""Encoders: seeded, by name, with the rates and independence of their distribution."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sj_lowlat.encoders import ConstantCurrent, Poisson, find_encoder
from sj_lowlat.errors import InputError


def test_encoders_by_name() -> None:
    assert isinstance(find_encoder("constant", 0), ConstantCurrent)
    poisson = find_encoder("poisson", 5)
    assert isinstance(poisson, Poisson) and poisson.seed == 5
    assert find_encoder(poisson, 0) is poisson
    with pytest.raises(
        InputError, match="encoder is 'rate', it must be one of constant, poisson, or a callable"
    ):
        find_encoder("rate", 0)


@settings(max_examples=10)
@given(seed=st.integers(0, 2**40), start=st.integers(0, 5), split=st.integers(1, 5))
def test_poisson_is_seeded_by_step(seed: int, start: int, split: int) -> None:
    images = torch.rand(2, 1, 4, 4)
    encoder = Poisson(seed)
    whole = encoder(images, start, 6)
    assert whole.shape == (12, 1, 4, 4) and set(whole.unique().tolist()) <= {0.0, 1.0}
    assert (
        torch.equal(
            torch.cat([encoder(images, start, split), encoder(images, start + split, 6 - split)]), whole
        )
        if split < 6
        else True
    )
    steps = whole.view(6, -1)
    assert not torch.equal(steps[0], steps[1])


def test_poisson_rates_and_independence() -> None:
    images = torch.linspace(0, 1, 11).view(1, 1, 1, 11).expand(1, 1, 200, 11).contiguous()
    steps = 100
    spikes = Poisson(3)(images, 0, steps).view(steps, 200, 11)
    rates, p = spikes.mean((0, 1)), images[0, 0, 0]
    assert rates[0] == 0 and rates[-1] == 1
    # 5 standard deviations of the mean of 20,000 draws
    assert bool(((rates - p).abs() <= 5 * (p * (1 - p) / (200 * steps)).sqrt()).all())
    other = Poisson(4)(images, 0, steps).view(steps, 200, 11)
    for shifted in (spikes[1:], other[:-1], other[1:]):
        # neither steps nor seeds repeat one another
        agreement = (shifted[:, :, 5] == spikes[: len(shifted), :, 5]).float().mean()
        assert abs(float(agreement) - 0.5) < 0.03
