"""Reading and writing videos: what is written comes back, whatever ends the writing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from sj_lowlat.detect import save_image
from sj_lowlat.errors import InputError
from sj_lowlat.video import VideoWriter, is_video, open_frames

av = pytest.importorskip("av")


def pictures(count: int = 6) -> list[torch.Tensor]:
    """A bright square that moves over a grey ground; odd sides, which codecs do not take."""
    frames = torch.full((count, 3, 65, 81), 90, dtype=torch.uint8)
    for number in range(count):
        frames[number, 0, 16:32, 8 * number : 8 * number + 16] = 250
    return list(frames)


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_what_is_written_comes_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clip{suffix}"
    with VideoWriter(path, 12.5) as video:
        for picture in pictures():
            video.write(picture)
    assert is_video(path)
    source = open_frames(path)
    assert source.fps == pytest.approx(12.5)
    back = list(source)
    assert len(back) == 6
    for found, want in zip(back, pictures(), strict=True):
        assert found is not None and found.shape == (3, 64, 80)
        error = float((found.float() - want[:, :64, :80].float()).abs().mean())
        assert error < (20 if suffix == ".gif" else 6)  # a GIF has 256 colours
    if suffix == ".gif":  # another reader
        assert Image.open(path).n_frames == 6  # type: ignore[attr-defined]


def test_an_interrupted_video_can_be_played(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with pytest.raises(KeyboardInterrupt), VideoWriter(path, 25) as video:
        for picture in pictures()[:4]:
            video.write(picture)
        raise KeyboardInterrupt
    assert sum(1 for _ in open_frames(path)) == 4
    assert [file.name for file in tmp_path.iterdir()] == ["clip.mp4"]


def test_image_sequences(tmp_path: Path) -> None:
    for number, picture in enumerate(pictures(3)):
        save_image(tmp_path / f"{number:03d}.png", picture)
    for source in (tmp_path, f"{tmp_path}/0*.png"):
        frames = open_frames(source)
        assert frames.count == 3 and frames.fps is None
        for _ in range(2):  # each pass begins anew
            for found, want in zip(frames, pictures(3), strict=True):
                assert found is not None and torch.equal(found, want)


def test_a_damaged_part_is_lost_and_the_rest_comes(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, 25) as video:
        for picture in pictures(10):
            video.write(picture)
    container = av.open(str(path))
    packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    container.close()
    content = bytearray(path.read_bytes())
    position, size = packets[5]
    content[position : position + size] = bytes(b ^ 0xFF for b in content[position : position + size])
    path.write_bytes(content)
    frames = list(open_frames(path))
    assert None in frames and 5 <= sum(frame is not None for frame in frames) < 10


def test_refusals(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    for source, text in {
        tmp_path / "text.mp4": "cannot be read as a video",
        tmp_path / "none.mp4": "there is no video",
        f"{tmp_path}/*.png": "no file is named like",
        99: "there is no video",
    }.items():
        with pytest.raises(InputError, match=text):
            open_frames(source)
    with pytest.raises(InputError, match=r"\.mp4 or \.gif"):
        VideoWriter(tmp_path / "clip.mkv", 25)
    with pytest.raises(InputError, match="fps is 0"):
        VideoWriter(tmp_path / "clip.mp4", 0)
