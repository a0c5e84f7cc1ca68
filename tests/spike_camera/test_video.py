from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sj_lowlat.errors import InputError
from sj_lowlat.spike_camera.video import interpolate, video_frames


def _write(path: Path, frames: np.ndarray, codec: str, rate: int = 25) -> Path:
    """RGB uint8 ``[F, H, W, 3]`` as a video."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_lossless_video_comes_back_exactly(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 24, 32, 3), np.uint8)
    video = video_frames(_write(tmp_path / "film.mkv", frames, "ffv1", rate=30))
    assert (video.fps, video.height, video.width) == (30, 24, 32)
    for _ in range(2):  # each pass begins anew
        read = np.stack(list(video))
        assert read.dtype == np.float32
        np.testing.assert_allclose(read, frames @ [0.299, 0.587, 0.114] / 255, atol=1e-6)


@pytest.mark.parametrize("name", ["film.mp4", "film.avi"])
def test_common_videos_keep_their_light(tmp_path: Path, name: str) -> None:
    levels = np.array([0, 60, 128, 200, 255], np.uint8)
    frames = np.broadcast_to(levels[:, None, None, None], (5, 32, 48, 3)).copy()
    video = video_frames(_write(tmp_path / name, frames, "mpeg4"))
    read = np.stack(list(video))
    assert read.shape == (5, 32, 48) and video.fps == 25
    # video levels of 16 to 235 are spread to 0 to 1
    np.testing.assert_allclose(read.mean((1, 2)), levels / 255, atol=0.03)


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.integers(0, 5), st.integers(1, 9))
def test_interpolation_is_linear_between_neighbours(seed: int, count: int, steps: int) -> None:
    frames = np.random.default_rng(seed).random((count, 2, 3), np.float32)
    slow = list(interpolate(iter(frames), steps))
    assert len(slow) == max(0, (count - 1) * steps + 1)
    for step, frame in enumerate(slow):
        wanted = [np.interp(step / steps, np.arange(count), column) for column in frames.reshape(count, -1).T]
        np.testing.assert_allclose(frame.ravel(), wanted, atol=1e-6)
        assert frame.min() >= 0 and frame.max() <= 1


def test_files_that_are_no_videos(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with pytest.raises(InputError, match="there is no file"):
        video_frames(tmp_path / "missing.mp4")
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    with pytest.raises(InputError, match="cannot be read as a video"):
        video_frames(text)
    sound = tmp_path / "sound.wav"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(InputError, match="holds no video"):
        video_frames(sound)


def test_without_pyav_the_error_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match="pip install av"):
        video_frames(tmp_path / "film.mp4")


def test_bad_steps() -> None:
    with pytest.raises(InputError, match="steps_per_frame 0"):
        interpolate([], 0)
