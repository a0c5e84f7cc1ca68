"""Networks on the planes of a spike camera settle to the quantised network on the mean plane."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sj_lowlat.conversion import convert, prepare
from sj_lowlat.encoders import SlidingPlanes, SpikePlanes
from sj_lowlat.errors import InputError
from sj_lowlat.models import grey_input, snn_tiny_yolov3, tiny_yolov3
from sj_lowlat.simulation import simulate
from sj_lowlat.spike_camera import SpikeStream

LEVELS = 4


def network(channels: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1), nn.LeakyReLU(0.1), nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1),
    ).double().eval()  # fmt: skip


def stream_of(seed: int, frames: int, height: int = 8, width: int = 8) -> SpikeStream:
    light = np.random.default_rng(seed).random((height, width)) * 0.6
    planes = np.random.default_rng(seed + 1).random((frames, height, width)) < light
    return SpikeStream.from_planes(planes.astype(np.uint8), 20000.0)


@settings(max_examples=15)
@given(
    frames=st.integers(2, 24),
    gain=st.booleans(),
    channels=st.sampled_from([1, 3]),
    chunk=st.integers(1, 7),
    seed=st.integers(0, 99),
)
def test_settles_to_the_quantised_network_on_the_mean_plane(
    frames: int, gain: bool, channels: int, chunk: int, seed: int
) -> None:
    net = network(channels)
    levels = LEVELS if gain else frames
    quant = prepare(net, levels, torch.rand(4, channels, 8, 8, dtype=torch.float64))
    streams = [stream_of(seed + i, frames) for i in range(2)]
    means = torch.stack([torch.from_numpy(s.mean_rate().astype(np.float64)) for s in streams])
    grey = (means / 0.5)[:, None].expand(-1, channels, -1, -1)
    with torch.no_grad():
        want = quant(grey)
    got = simulate(
        convert(quant),
        torch.zeros(2, channels, 8, 8, dtype=torch.float64),
        frames,
        flush=80,
        levels=levels,
        encoder=SpikePlanes(streams, 0.5),
        chunk=chunk,
    )
    torch.testing.assert_close(got.final, want)


@settings(max_examples=15)
@given(window=st.integers(1, 12), chunk=st.integers(1, 5), seed=st.integers(0, 99))
def test_a_sliding_window_settles_to_the_window_that_it_has_come_to(
    window: int, chunk: int, seed: int
) -> None:
    quant = prepare(network(), LEVELS, torch.rand(4, 1, 8, 8, dtype=torch.float64))
    first, last = stream_of(seed, window + 5).planes(), stream_of(seed + 7, window).planes()
    repeats = -(-90 // window)  # any window of a periodic stream has the same sum
    stream = SpikeStream.from_planes(np.concatenate([first, *[last] * repeats]), 20000.0)
    with torch.no_grad():
        want = quant(torch.from_numpy(last.mean(0) / 0.6)[None, None])
    got = simulate(
        convert(quant),
        torch.zeros(1, 1, 8, 8, dtype=torch.float64),
        window,
        flush=len(stream) - window,
        levels=LEVELS,
        encoder=SlidingPlanes([stream], window),
        chunk=chunk,
    )
    torch.testing.assert_close(got.final, want)


def test_a_small_stream_lies_at_the_top_left_of_grey() -> None:
    stream = stream_of(0, 6, 5, 7)
    images = torch.zeros(1, 3, 8, 8)
    x = SpikePlanes([stream])(images, 2, 3)
    assert x.shape == (3, 3, 8, 8)
    torch.testing.assert_close(x[:, :, :5, :7], (stream.to_torch(2, 5) / 0.6).expand(-1, 3, -1, -1))
    assert bool((x[:, :, 5:] == 0.5).all()) and bool((x[:, :, :, 7:] == 0.5).all())
    moved = SlidingPlanes([stream], 3)(images, 3, 2)
    torch.testing.assert_close(moved[:, :1, :5, :7], (stream.to_torch(3, 5) - stream.to_torch(0, 2)) / 0.6)
    assert not moved[:, :, 5:].any()


def test_refusals() -> None:
    stream, images = stream_of(0, 6), torch.zeros(1, 1, 8, 8)
    with pytest.raises(InputError, match="6 frames of 8 x 8 came for 7 steps"):
        SpikePlanes([stream])(images, 0, 7)
    with pytest.raises(InputError, match="larger images"):
        SpikePlanes([stream])(images[..., :4], 0, 2)
    with pytest.raises(InputError, match="2 streams came for 1 images"):
        SpikePlanes([stream] * 2)(images, 0, 2)
    with pytest.raises(InputError, match="rate_at_white is 0"):
        SpikePlanes([stream], 0)
    with pytest.raises(InputError, match="window is 0"):
        SlidingPlanes([stream], 0)


@pytest.mark.parametrize("make", [tiny_yolov3, snn_tiny_yolov3])
@pytest.mark.parametrize("quantised", [False, True])
def test_grey_input(make: object, quantised: bool) -> None:
    torch.manual_seed(0)
    colour = make(3, width=0.125, input_size=64).double().eval()  # type: ignore[operator]
    images = torch.rand(2, 1, 64, 64, dtype=torch.float64)
    three = images.expand(-1, 3, -1, -1)
    if quantised:
        colour = prepare(colour, 8, three)
    grey = grey_input(colour)
    with torch.no_grad():
        for got, want in zip(grey(images), colour(three), strict=True):
            torch.testing.assert_close(got, want)
        with pytest.raises(InputError, match=r"\[N, 1, H, W\]"):
            grey(three)
    for wrong in (grey, convert(colour) if quantised else grey):
        with pytest.raises(InputError, match="1 input channels|spiking already"):
            grey_input(wrong)
