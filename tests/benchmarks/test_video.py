"""The benchmark of videos: its clips, and its measure of rounding."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import torch

from sj_lowlat.data import moving_sequence


def test_a_panning_camera_sees_a_window_that_moves(script: Callable[[str], ModuleType]) -> None:
    video = script("video")
    (clip,) = video.traffic([3], 4, 96, 0.0, panning=True)
    scene = moving_sequence(3, 4, 96 + 4 * video.PAN)
    left, top = 3 * video.PAN, 2 * video.PAN
    assert torch.equal(clip.frames[3], scene.frames[3, :, top : top + 96, left : left + 96])
    inside = [  # boxes that lie wholly in the window
        box for box in scene.boxes[3].tolist()
        if left <= box[0] and box[2] <= left + 96 and top <= box[1] and box[3] <= top + 96
    ]  # fmt: skip
    moved = [[box[0] - left, box[1] - top, box[2] - left, box[3] - top] for box in inside]
    assert moved and all(box in clip.target(3).boxes.tolist() for box in moved)
    boxes = clip.target(3).boxes
    assert boxes.min() >= 0 and boxes.max() <= 96


def test_noise_has_the_deviation_that_is_asked_for(script: Callable[[str], ModuleType]) -> None:
    (plain,), (noisy,) = (script("video").traffic([0], 1, 160, noise, panning=False) for noise in (0.0, 3.0))
    difference = noisy.frames[0].float() - plain.frames[0].float()
    inner = difference[(plain.frames[0] > 15) & (plain.frames[0] < 240)]
    assert abs(float(inner.std()) - 3.0) < 0.1


def test_rounding_is_that_of_float32(script: Callable[[str], ModuleType]) -> None:
    errors = script("video").drift(30, 10)
    assert [frame for frame, _ in errors] == list(range(3, 31, 3))
    assert all(0 < error < 1e-4 for _, error in errors)
