"""Pictures rebuilt from the simulated spike camera, beside the light."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from sj_lowlat.spike_camera import encode_frames

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("rebuild")


def test_the_clips_are_those_of_table_3(script: ModuleType, tmp_path: Path) -> None:
    clips = importlib.import_module("clips")
    clip = clips.record("traffic-dark", tmp_path, tmp_path, 1, script.FRAMES, 0).clip(0)
    light = script.light_of(0, script.MOTIONS["slow"], clips.TRAFFIC_SIZE)
    planes = encode_frames(light, **script.CAMERAS["little light"], seed=script.SEED)
    np.testing.assert_array_equal(clip.stream.planes(), planes)
    assert clip.frame == script.CENTRE
    daylight, fast = clips.CONDITIONS["traffic"], clips.CONDITIONS["traffic-fast"]
    assert [round(1 / each.speed) for each in (daylight, fast)] == [
        script.MOTIONS["slow"],
        script.MOTIONS["fast"],
    ]
    assert not daylight.camera and script.CAMERAS["daylight"] == {
        "rate_at_white": clips.Camera().rate_at_white
    }


def test_decibels_by_hand(script: ModuleType) -> None:
    assert script.psnr([np.full((2, 2), 0.01), np.full(4, 0.01)]) == pytest.approx(20)
    assert script.psnr([np.zeros(3), np.ones(1)]) == pytest.approx(6.0206, abs=1e-4)


def test_every_way_is_scored(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, figure = tmp_path / "r.json", tmp_path / "f.png"
    script.main(["--scenes", "1", "--size", "48", "--results", str(results), "--figure", str(figure)])
    printed = capsys.readouterr().out
    assert "all pixels: 1 scenes" in printed and "light changes within 30 frames: 1 scenes" in printed
    for way in script.REBUILD:
        assert printed.count(f"\n| {way} |") == 2
    found = json.loads(results.read_text())["psnr"]
    assert len(found) == len(script.MOTIONS) * len(script.CAMERAS) and figure.stat().st_size > 0
    still, fast = found["still, daylight"], found["fast, daylight"]
    assert still["TFI"]["all"] + 3 < still["TFSTP"]["all"] < still["TFP, 255 frames"]["all"]
    assert fast["TFP, 255 frames"]["moving"] < fast["TFSTP"]["moving"]
    assert "moving" not in still["TFSTP"]
