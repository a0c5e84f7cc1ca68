"""``encode``, and ``detect`` on spike streams."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sj_lowlat.spike_camera import SpikeDataset, SpikeStream, encode_frames, write_stream

Run = Callable[..., Any]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    light = np.random.default_rng(0).random((40, 64)).astype(np.float32)
    path = tmp_path / "clip.dat"
    write_stream(path, SpikeStream.from_planes(encode_frames(np.repeat(light[None], 50, 0))))
    return path


def test_detect_in_a_stream(places: Any, run: Run, tmp_path: Path, clip: Path) -> None:
    size = ("--height", 40, "--width", 64)
    command = ("detect", clip, places.pictures / "000000.png", "--model", places.snn, "--min-score", 0.01)
    done = run(*command, *size, "--window", 20, "--every", 10, "--output", tmp_path / "found")
    assert done.code == 0, done.err
    record = json.loads((tmp_path / "found" / "detections.json").read_text())
    (stream,) = record["streams"]
    assert [answer["frames"] for answer in stream["answers"]] == [20, 30, 40, 50]
    assert "clip.dat, 2.50 ms: " in done.out and len(record["images"]) == 1
    with Image.open(tmp_path / "found" / "clip.png") as drawn:
        assert drawn.size == (3 * 64 + 8, 60)
    with Image.open(tmp_path / "found" / "clip.gif") as animated:
        assert animated.n_frames == 4 and animated.size == (3 * 64 + 8, 60)  # type: ignore[attr-defined]


def test_a_long_stream_is_animated_in_part(
    places: Any, run: Run, tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sj_lowlat.cli.streams._MOST_PICTURES", 4)
    size = ("--height", 40, "--width", 64, "--window", 10, "--every", 4)
    done = run("detect", clip, "--model", places.snn, *size, "--output", tmp_path / "found")
    assert done.code == 0, done.err
    (stream,) = json.loads((tmp_path / "found" / "detections.json").read_text())["streams"]
    assert len(stream["answers"]) == 11  # drawn: 0, 4 and 8
    with Image.open(tmp_path / "found" / "clip.gif") as animated:
        assert animated.n_frames == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("window", [1, 2, 50])
def test_short_and_whole_windows_are_drawn(
    places: Any, run: Run, tmp_path: Path, clip: Path, window: int
) -> None:
    size = ("--height", 40, "--width", 64, "--every", 25, "--window", window)
    done = run("detect", clip, "--model", places.snn, *size, "--output", tmp_path / "found")
    assert done.code == 0, done.err
    with Image.open(tmp_path / "found" / "clip.png") as drawn:
        picture = np.asarray(drawn)[20:, 68:132, 0]  # below the caption, between the gaps
    assert picture.std() > 0


def test_a_stream_of_another_geometry_is_reported(places: Any, run: Run, tmp_path: Path, clip: Path) -> None:
    command = ("detect", clip, "--model", places.snn, "--output", tmp_path / "found")
    done = run(*command)
    assert done.code == 1 and "unfinished frame" in done.err and done.err.count("clip.dat") == 1
    clip.write_bytes(clip.read_bytes()[:-7])
    done = run(*command, "--height", 40, "--width", 64)
    assert done.code == 1 and "clip.dat" in done.err
    assert not (tmp_path / "found" / "clip.png").exists()
    done = run("detect", clip, "--model", places.ann, "--height", 40, "--width", 64)
    assert done.code == 1 and "give a spiking network" in done.err


def test_encode(places: Any, run: Run, tmp_path: Path) -> None:
    command = ("encode", "--data", places.data, "--output", tmp_path / "set", "--frames", 16, "--size", 64)
    done = run(*command, "--limit", 2, "--speed", 0.1)
    assert done.code == 0, done.err
    data = SpikeDataset(tmp_path / "set" / "instances.json")
    assert len(data) == 2 and data.clip(1).stream.shape == (16, 64, 64)
    assert "2 clips of 16 frames" in done.out
    for window in ("", ":5"):
        words = f"spikes:{tmp_path / 'set' / 'instances.json'}{window}"
        done = run("evaluate", "--model", places.ann, "--data", words, "--output", tmp_path / "e.json")
        assert done.code == 0 and "2 images" in done.out, done.err
    done = run(*command, "--speed", 0.2)
    assert done.code == 2 and "begun with another" in done.err

    done = run("encode", "--data", "traffic:2", "--output", tmp_path / "t", "--frames", 8, "--size", 64)
    assert done.code == 0, done.err
    assert len(SpikeDataset(tmp_path / "t" / "instances.json")) == 2
    done = run("encode", "--data", "traffic:2", "--output", tmp_path / "u", "--speed", 1)
    assert done.code == 2 and "by themselves" in done.err
    done = run("encode", "--data", "traffic:2:5", "--output", tmp_path / "u")
    assert done.code == 2 and "follow from --seed" in done.err
    done = run("encode", "--data", places.pictures, "--output", tmp_path / "u")
    assert done.code == 2 and "has no boxes" in done.err
