"""The benchmark of videos: its clips, and its measure of rounding."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from sj_lowlat.data import moving_sequence


def test_a_panning_camera_sees_a_window_that_moves(script: Callable[[str], ModuleType]) -> None:
    moving = script("moving")
    (clip,) = moving.traffic([3], 4, 96, 0.0, panning=True)
    scene = moving_sequence(3, 4, 96 + 4 * moving.PAN)
    left, top = 3 * moving.PAN, 2 * moving.PAN
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
    (plain,), (noisy,) = (script("moving").traffic([0], 1, 160, noise, panning=False) for noise in (0.0, 3.0))
    difference = noisy.frames[0].float() - plain.frames[0].float()
    inner = difference[(plain.frames[0] > 15) & (plain.frames[0] < 240)]
    assert abs(float(inner.std()) - 3.0) < 0.1


def test_rounding_is_that_of_float32(script: Callable[[str], ModuleType]) -> None:
    errors = script("video").drift(30, 10)
    assert [frame for frame, _ in errors] == list(range(3, 31, 3))
    assert all(0 < error < 1e-4 for _, error in errors)


def test_runs_are_kept_and_compared_scene_by_scene(
    script: Callable[[str], ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video, moving, runner = (script(name) for name in ("video", "moving", "runner"))
    args = Namespace(output=tmp_path, scenes=2, frames=2, burst=32, dead_zone=[], block=[])
    source = moving.Source("traffic", noise=2.0)
    rows = list(video.Videos(runner.Runs(args), args).rows(source))
    assert [(row["run"], row.get("steps")) for row in rows] == [
        ("Quant ANN", None), *(("carried over", s) for s in (1, 2, 3)), *(("reset", s) for s in (1, 2, 3)),
    ]  # fmt: skip
    by_run = {(row["run"], row.get("steps")): row for row in rows}
    assert by_run["reset", 1]["ap50"] < by_run["Quant ANN", None]["ap50"]
    assert abs(float(by_run["reset", 3]["less"].split()[0])) < 3 and by_run["reset", 3]["fresh"] == 1
    assert by_run["carried over", 2]["spikes"] < by_run["reset", 2]["spikes"] / 2
    assert "Quant ANN ..." in capsys.readouterr().err
    again = list(video.Videos(runner.Runs(args), args).rows(source))
    assert again == rows and capsys.readouterr().err == ""


def test_sure_detections_are_the_truth_of_a_film(script: Callable[[str], ModuleType]) -> None:
    moving = script("moving")
    found = moving.Detections(torch.tensor([[0.0, 0, 9, 9], [5, 5, 9, 9]]), torch.tensor([0.3, 0.2]),
                              torch.tensor([1, 2]))  # fmt: skip
    frame = torch.zeros(3, 9, 9, dtype=torch.uint8)
    clip = moving.as_truth([frame, frame], [found, found.filter(0.9)], ("a", "b", "c"))
    assert [len(target) for target in clip.targets] == [1, 0] and clip.target(0).labels.tolist() == [1]
    whole, groups = moving.joined([clip, clip])
    assert len(whole) == 4 and groups == [0, 0, 1, 1]


def test_a_frame_is_timed_with_and_without_leaving_out(script: Callable[[str], ModuleType]) -> None:
    speed, moving = script("video_speed"), script("moving")
    quant, snn = speed.load(speed.SHIPPED, spiking=False), speed.load(speed.SHIPPED)
    (clip,) = moving.traffic([0], 3, 96, 0.0, panning=False)
    before = speed.window.WORTH
    medians = speed.measure(clip, quant, {"fp32": snn}, steps_per_frame=1)
    assert list(medians) == ["Quant ANN", "fp32, everywhere", "fp32"] and min(medians.values()) > 0
    assert before == speed.window.WORTH


def test_memory_is_that_of_the_process(script: Callable[[str], ModuleType]) -> None:
    points = script("video").memory(10)
    assert [frame for frame, _ in points] == list(range(1, 11))
    assert 100 < points[0][1] <= points[-1][1] < points[0][1] + 500
