"""Training for low light: its pictures are those of the simulated camera, and a short run of it."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from sj_lowlat import checkpoint
from sj_lowlat.models import snn_tiny_yolov3
from sj_lowlat.spike_camera import SPIKE_CLASSES, Camera, SpikeDataset, encode_traffic, to_image

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("clips")


@pytest.mark.parametrize(("rate", "window"), [(0.05, 40), (0.5, 16)])
def test_pictures_are_those_of_recorded_clips(
    script: ModuleType, tmp_path: Path, rate: float, window: int
) -> None:
    """The same scene, window and light, recorded frame by frame: no pixel's noise, but all of their sums."""
    dim = script.DimTraffic(2, 8, 96, (rate, rate), (window, window))
    camera = Camera(frames=64, size=96, rate_at_white=rate, photons=50.0)
    clips = SpikeDataset(encode_traffic(2, tmp_path, camera, script.HOLD))
    for scene in range(2):
        clip = clips.clip(scene)
        assert torch.equal(clip.target.boxes, dim[scene].boxes)
        start = clip.frame - window // 2
        recorded = to_image(clip.stream.mean_rate(start, start + window), 1 / rate)[0].astype(float)
        drawn = np.stack([dim[scene + 2 * draw].image[0].numpy().astype(float) for draw in range(8)])
        blocks = [
            pictures.reshape(*pictures.shape[:-2], 6, 16, 6, 16).mean((-3, -1))
            for pictures in (recorded, drawn.mean(0))
        ]
        assert np.abs(blocks[0] - blocks[1]).max() < 16  # of 255, over 256 pixels each
        assert recorded.std() == pytest.approx(drawn.std(axis=(1, 2)).mean(), rel=0.03)


def test_items_depend_on_their_number_alone(script: ModuleType) -> None:
    first, again = (script.DimTraffic(3, 4, 64) for _ in range(2))
    assert len(first) == 12 and first.class_names == SPIKE_CLASSES
    pictures = [first[i].image for i in range(12)]
    for i in reversed(range(12)):
        assert torch.equal(pictures[i], again[i].image)
    assert not torch.equal(pictures[0], pictures[3])  # the same scene in another light


def test_a_short_run(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = snn_tiny_yolov3(2, 0.125, SPIKE_CLASSES, 64)
    folder = checkpoint.save(start, tmp_path / "daylight")
    plan = json.loads((FOLDER / "configs" / "low_light.json").read_text())
    plan["data"] |= {"scenes": 2, "size": 64}
    plan["calibration_images"] = 2
    short = tmp_path / "plan.json"
    short.write_text(json.dumps(plan))
    train = importlib.import_module("train")
    places = ["--output", str(tmp_path), "--plan", str(short), "--shorten", "500"]
    train.main(["low-light", "--network", str(folder), *places])
    assert checkpoint.load(tmp_path / "dark16").levels == 16
    capsys.readouterr()
    train.main(["low-light", "--network", str(folder), *places])
    assert capsys.readouterr().out.count("done before") == 2
