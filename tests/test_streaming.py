"""Detection along a stream: answers are those of the quantised network on the window before them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sj_lowlat.conversion import convert, prepare
from sj_lowlat.detect import detections_from_maps
from sj_lowlat.errors import InputError
from sj_lowlat.models import grey_input, tiny_yolov3
from sj_lowlat.spike_camera import SpikeStream, encode_frames
from sj_lowlat.streaming import detect_stream, white_rate


@pytest.fixture(scope="module")
def quant() -> Any:
    torch.manual_seed(0)
    net = tiny_yolov3(2, width=0.125, input_size=64, class_names=("person", "vehicle"))
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.constant_(module.bias, 0.5)  # objects everywhere
    images = torch.rand(4, 3, 64, 64)
    return prepare(grey_input(net.double().eval()), 4, images[:, :1].double())


def a_stream(frames: int = 120, shape: tuple[int, int] = (40, 60)) -> SpikeStream:
    light = np.random.default_rng(0).random(shape).astype(np.float32)
    return SpikeStream.from_planes(encode_frames(np.repeat(light[None], frames, 0)), 10000.0)


def test_answers_are_those_of_the_window(quant: Any) -> None:
    # 1 spike in 4 frames everywhere: every window of 8 is the same
    planes = np.zeros((160, 40, 60), np.uint8)
    planes[::4] = 1
    stream = SpikeStream.from_planes(planes, 10000.0)
    answers = list(
        detect_stream(convert(quant), stream, window=8, every=76, rate_at_white=0.5, score_threshold=0.0)
    )
    assert [answer.frames for answer in answers] == [8, 84, 160]
    assert [answer.milliseconds for answer in answers] == pytest.approx([0.8, 8.4, 16.0])
    image = torch.full((1, 1, 64, 64), 0.5, dtype=torch.float64)  # 0.25 / 0.5, and grey around it
    with torch.no_grad():
        want = detections_from_maps(quant(image), quant.head_specs, 0.0)[0]
    settled = answers[-1].detections
    assert len(settled) == len(want) > 0
    torch.testing.assert_close(settled.scores, want.scores)
    assert settled.boxes[:, 2].max() <= 60 and settled.boxes[:, 3].max() <= 40


def test_the_rate_of_white_is_guessed(quant: Any) -> None:
    stream = a_stream()
    assert white_rate(stream) == pytest.approx(0.6, abs=0.02)
    assert white_rate(SpikeStream.from_planes(np.zeros((3, 8, 8), np.uint8))) > 0
    answers = list(detect_stream(convert(quant), stream, window=32, every=40))
    assert [answer.frames for answer in answers] == [32, 72, 112]


def test_refusals(quant: Any) -> None:
    stream = a_stream(20)
    for options in ({"window": 21}, {"window": 0}, {"window": 8, "every": 0}):
        with pytest.raises(InputError, match="give a window of 1 to as many frames"):
            next(detect_stream(convert(quant), stream, **options))
    with pytest.raises(InputError, match="needs a detector of signed neurons"):
        next(detect_stream(quant, stream, window=8))
