"""An answer for every frame: what settles is the quantised network on that frame."""

from __future__ import annotations

import gc
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sj_lowlat.checkpoint import save
from sj_lowlat.cli import main
from sj_lowlat.conversion import convert, prepare
from sj_lowlat.data import letterbox
from sj_lowlat.detect import Detections, detections_from_maps
from sj_lowlat.errors import InputError
from sj_lowlat.models import grey_input, tiny_yolov3
from sj_lowlat.video import DeadZone, VideoWriter, detect_video, open_frames, track

SETTLED = {"steps_per_frame": 30, "start_steps": 30, "score_threshold": 0.0, "burst": 8}


@pytest.fixture(scope="module")
def ann() -> Any:
    torch.manual_seed(0)
    net = tiny_yolov3(2, width=0.125, input_size=64, class_names=("person", "vehicle"))
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.constant_(module.bias, 0.5)  # objects everywhere
    return net.double().eval()


@pytest.fixture(scope="module")
def quant(ann: Any) -> Any:
    return prepare(ann, 4, torch.rand(4, 3, 64, 64).double())


def a_clip(frames: int = 5, height: int = 40, width: int = 60) -> list[torch.Tensor]:
    """A patch of noise that moves over noise."""
    random = torch.Generator().manual_seed(0)
    ground = torch.randint(0, 256, (3, height, width), generator=random, dtype=torch.uint8)
    clip = []
    for number in range(frames):
        frame = ground.clone()
        frame[:, 8:24, 4 * number : 4 * number + 16] = ground[:, 20:36, 20:36]
        clip.append(frame)
    return clip


@pytest.mark.parametrize("channels", [1, 3])
def test_settled_answers_are_those_of_the_quantised_network(ann: Any, quant: Any, channels: int) -> None:
    if channels == 1:
        quant = prepare(grey_input(ann), 4, torch.rand(4, 1, 64, 64).double())
    clip = a_clip()
    answers = list(detect_video(convert(quant), clip, **SETTLED))
    assert [answer.frame for answer in answers] == [0, 1, 2, 3, 4]
    assert [answer.fresh for answer in answers] == [True, False, False, False, False]
    for answer, frame in zip(answers, clip, strict=True):
        image, box = letterbox(frame, 64)
        if channels == 1:
            image = (image * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0, keepdim=True)
        with torch.no_grad():
            want = detections_from_maps(quant(image[None].double()), quant.head_specs, 0.0)[0]
        assert len(answer.detections) == len(want) > 0
        torch.testing.assert_close(answer.detections.scores, want.scores)
        torch.testing.assert_close(answer.detections.boxes, box.to_image(want.boxes))
    # what changes costs less than a whole run, and a reset run costs that again
    reset = list(detect_video(convert(quant), clip, carry=False, **SETTLED))
    assert all(answer.fresh for answer in reset)
    for ours, other in zip(answers[1:], reset[1:], strict=True):
        assert 0 < ours.spikes < other.spikes and 0 < ours.energy < other.energy
        torch.testing.assert_close(ours.detections.scores, other.detections.scores)


def test_cuts_lost_frames_and_other_sizes_start_anew_or_go_on(quant: Any) -> None:
    clip: list[Any] = [
        None,
        *a_clip(2),
        None,
        *a_clip(1, 60, 40),
        torch.full((3, 60, 40), 255, dtype=torch.uint8),
    ]
    snn = convert(quant)
    answers = list(detect_video(snn, clip, start_steps=6, steps_per_frame=2))
    assert [answer.frame for answer in answers] == [1, 2, 3, 4, 5]
    assert [answer.fresh for answer in answers] == [True, False, False, True, True]
    assert [answer.steps for answer in answers] == [6, 2, 2, 6, 6]
    never = list(detect_video(snn, clip, start_steps=6, cut=None))
    assert [answer.fresh for answer in never] == [True, False, False, True, False]


def test_noise_within_the_dead_zone_costs_nothing(quant: Any) -> None:
    frame = a_clip(1)[0].clamp(10, 245)
    random = torch.Generator().manual_seed(1)
    noisy = [
        (frame.int() + torch.randint(-2, 3, frame.shape, generator=random, dtype=torch.int32)).to(torch.uint8)
        for _ in range(5)
    ]
    free = list(detect_video(convert(quant), [frame, *noisy], start_steps=40, burst=8))
    quiet = list(detect_video(convert(quant), [frame, *noisy], start_steps=40, burst=8, dead_zone=0.02))
    assert all(answer.spikes > 0 for answer in free[1:])
    assert all(answer.spikes == answer.energy == 0 for answer in quiet[1:])
    assert DeadZone(0.02, 4) == DeadZone(threshold=0.02, block=4)


def test_memory_does_not_grow(quant: Any) -> None:
    frame = a_clip(1)[0]
    run = detect_video(convert(quant).float(), (frame for _ in range(60)), operations=True, rederive_every=7)

    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    seen = []
    for answer in run:
        if answer.frame in (19, 59):
            seen.append(tensors())
    assert len(seen) == 2 and seen[1] <= seen[0]


def test_ids_follow_objects(quant: Any) -> None:
    pytest.importorskip("trackers")
    torch.manual_seed(0)
    answers = list(detect_video(convert(quant), a_clip(4), **SETTLED))
    boxes = torch.tensor([[0.0, 0.0, 20.0, 20.0], [30.0, 10.0, 50.0, 40.0]])
    for shift, answer in enumerate(answers):
        moved = boxes + torch.tensor([1.0, 0.0, 1.0, 0.0]) * shift
        order = [0, 1] if shift % 2 else [1, 0]
        found = Detections(moved[order], torch.tensor([0.9, 0.8]), torch.tensor([0, 0]))
        answers[shift] = replace(answer, detections=found)
    ids = [each.ids.tolist() for each in track(answers, 30)]
    first, second = ids[3]
    assert first >= 0 and second >= 0 and first != second
    assert ids[2] == [second, first]  # the other order


def test_refusals(quant: Any) -> None:
    snn, clip = convert(quant), a_clip(1)
    for options, text in (
        ({"steps_per_frame": 0}, "steps_per_frame is 0"),
        ({"start_steps": 0}, "start_steps is 0"),
        ({"rederive_every": 0}, "rederive_every is 0"),
        ({"cut": 0.0}, "cut is 0.0"),
        ({"dead_zone": 1.0}, "threshold is 1.0"),
    ):
        with pytest.raises(InputError, match=text):
            detect_video(snn, clip, **options)
    with pytest.raises(InputError):
        detect_video(quant, clip)


@pytest.fixture
def folder(quant: Any, tmp_path: Path) -> Path:
    """A network, and a clip of 30 frames."""
    save(convert(quant).float(), tmp_path / "snn")
    with VideoWriter(tmp_path / "clip.mp4", 20) as video:
        for frame in a_clip(5) * 6:
            video.write(frame)
    return tmp_path


def test_the_command_draws_and_counts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = [
        "detect",
        str(folder / "clip.mp4"),
        "--model",
        str(folder / "snn"),
        "--output",
        str(folder / "out"),
    ]
    assert main([*call, "--burst", "4", "--dead-zone", "0.01", "--block", "2"]) == 0
    assert "% of a whole run" in capsys.readouterr().err
    rows = [json.loads(line) for line in (folder / "out" / "clip.jsonl").read_text().splitlines()]
    assert [row["frame"] for row in rows] == list(range(30))
    assert sum(1 for _ in open_frames(folder / "out" / "clip.mp4")) == 30
    record = json.loads((folder / "out" / "detections.json").read_text())["videos"][0]
    assert record["frames"] == 30 and record["objects"] == sum(len(row["boxes"]) for row in rows)
    mean = sum(row["energy"] for row in rows) / 30
    assert record["mean_of_a_frame"]["energy"] == pytest.approx(mean)


def test_after_ctrl_c_the_files_are_whole(folder: Path) -> None:
    with VideoWriter(folder / "long.mp4", 20) as video:
        for frame in a_clip(5) * 400:
            video.write(frame)
    call = [sys.executable, "-m", "sj_lowlat", "detect", str(folder / "long.mp4")]
    call += ["--model", str(folder / "snn"), "--output", str(folder / "out")]
    process = subprocess.Popen(call, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "frame 1/" in line:
            break
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    lines = (folder / "out" / "long.jsonl").read_text().splitlines()
    played = sum(1 for _ in open_frames(folder / "out" / "long.mp4"))
    assert 1 <= len(lines) < 2000 and played - len(lines) in (0, 1)
    assert not list((folder / "out").glob(".*writing*"))
