from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sj_lowlat.errors import InputError
from sj_lowlat.spike_camera import SpikeStream, open_stream, write_stream

CLIPS = ["200_part1_key_id151", "200_part3_key_id151", "203_part3_key_id151"]
seeds = st.integers(0, 2**31)


def _planes(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, shape, dtype=np.uint8)


def _bit(content: bytes, number: int) -> int:
    return content[number // 8] >> number % 8 & 1


@given(
    frames=st.integers(1, 20),
    height=st.integers(1, 9),
    width=st.integers(1, 20),
    padding=st.integers(0, 9),
    flip=st.booleans(),
    seed=seeds,
)
def test_dat_round_trip(frames: int, height: int, width: int, padding: int, flip: bool, seed: int) -> None:
    columns = width + padding
    columns += -columns % 8 if height * columns % 8 else 0
    planes = _planes((frames, height, width), seed)
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder, "new", "clip.DAT")
        write_stream(clip, planes, columns=columns, flip=flip)
        content = clip.read_bytes()
        stream = open_stream(clip, height, width, columns=columns, flip=flip)
        np.testing.assert_array_equal(stream.planes(), planes)
        turned = open_stream(clip, height, width, columns=columns, flip=not flip)
        np.testing.assert_array_equal(turned.planes(), planes[:, ::-1])
    # bit by bit, without numpy: least significant first, row by row, padded with 0
    assert len(content) == frames * height * columns // 8
    bits = iter(range(8 * len(content)))
    for frame in planes.tolist():
        for row in reversed(frame) if flip else frame:
            assert [_bit(content, next(bits)) for _ in range(columns)] == row + [0] * (columns - width)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@given(shape=st.tuples(*[st.integers(1, 12)] * 3), seed=seeds, flags=st.booleans())
def test_numpy_reads_and_is_read(suffix: str, shape: tuple[int, int, int], seed: int, flags: bool) -> None:
    planes = _planes(shape, seed)
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder, "ours" + suffix), Path(folder, "theirs" + suffix)
        write_stream(ours, SpikeStream.from_planes(planes))
        array = planes.astype(bool) if flags else planes
        if suffix == ".npy":
            np.save(theirs, array)
            loaded = np.load(ours, allow_pickle=False)
        else:
            np.savez(theirs, spk=array)
            loaded = np.load(ours, allow_pickle=False)["spk"]
        np.testing.assert_array_equal(loaded, planes)
        assert loaded.dtype == np.uint8
        for file in (ours, theirs):
            np.testing.assert_array_equal(open_stream(file).planes(), planes)


@pytest.mark.parametrize("suffix", [".dat", ".npy", ".npz"])
def test_several_blocks_and_parts_of_streams(tmp_path: Path, suffix: str) -> None:
    planes = _planes((600, 4, 8))
    first, second = tmp_path / "first.dat", tmp_path / f"second{suffix}"
    write_stream(first, planes)
    write_stream(second, open_stream(first, 4, 8, frame_rate=40000)[20:590])
    stream = open_stream(second, 4, 8, frame_rate=40000)
    np.testing.assert_array_equal(stream.planes(), planes[20:590])
    np.testing.assert_array_equal(stream[100:].planes(300, 302), planes[420:422])
    np.testing.assert_array_equal(stream.counts(), planes[20:590].sum(0))
    assert stream.frame_rate == 40000


def test_a_stream_onto_its_own_file(tmp_path: Path) -> None:
    planes = _planes((6, 4, 8))
    write_stream(tmp_path / "clip.dat", planes)
    stream = open_stream(tmp_path / "clip.dat", 4, 8)
    write_stream(tmp_path / "clip.dat", stream[2:])
    np.testing.assert_array_equal(open_stream(tmp_path / "clip.dat", 4, 8).planes(), planes[2:])
    with pytest.raises(InputError, match="changed since it was opened"):
        stream.planes()


@pytest.mark.parametrize("name", CLIPS)
def test_simulated_clips_show_their_pictures(data_dir: Path, name: str) -> None:
    folder = data_dir / "spike-camera" / "simulated-reds"
    stream = open_stream(folder / f"{name}.dat")
    assert stream.shape == (301, 250, 400)
    grey = np.asarray(Image.open(folder / f"{name}.png").convert("L"), dtype=np.float64)
    rate = stream.window(150, 21).mean_rate()
    assert np.corrcoef(rate.ravel(), grey.ravel())[0, 1] >= 0.95
    upside_down = open_stream(folder / f"{name}.dat", flip=False).window(150, 21).mean_rate()
    assert np.corrcoef(upside_down.ravel(), grey.ravel())[0, 1] < 0.9


def test_real_recording(data_dir: Path) -> None:
    file = data_dir / "spike-camera" / "real-uhsr" / "uhsr_4144_helicopter.npz"
    stream = open_stream(file)
    assert stream.shape == (200, 250, 250)
    np.testing.assert_array_equal(stream.planes(), np.load(file, allow_pickle=False)["spk"])


def test_padded_recording_opens_with_the_suggested_geometry(tmp_path: Path) -> None:
    planes = _planes((3, 250, 400))
    write_stream(tmp_path / "clip.dat", planes, columns=416)
    with pytest.raises(InputError) as refusal:
        open_stream(tmp_path / "clip.dat")
    message = str(refusal.value)
    assert "has 39000 bytes" in message and "a frame has 12500" in message
    assert "3 whole frames and 1500 bytes are left over" in message
    assert "would fit height=250, width=400, columns=416: pass" in message and "1000" not in message
    stream = open_stream(tmp_path / "clip.dat", height=250, width=400, columns=416)
    np.testing.assert_array_equal(stream.planes(), planes)
    np.testing.assert_array_equal(open_stream(tmp_path / "clip.dat", columns=416).planes(), planes)


def test_every_fitting_geometry_is_suggested(tmp_path: Path) -> None:
    (tmp_path / "clip.dat").write_bytes(bytes(125000))
    with pytest.raises(InputError, match="fit height=250, width=400; or height=1000, width=1000: pass"):
        open_stream(tmp_path / "clip.dat", columns=416)
    (tmp_path / "odd.dat").write_bytes(bytes(3 * 30 * 64 // 8))
    with pytest.raises(InputError, match="fit height=30, width=50, columns=64: pass"):
        open_stream(tmp_path / "odd.dat", 30, 50, columns=56)


def test_truncated_dat(tmp_path: Path) -> None:
    (tmp_path / "clip.dat").write_bytes(bytes(2 * 12500 + 7))
    with pytest.raises(InputError, match=r"No known camera fits .*the last 7 bytes .*truncate -s -7 COPY"):
        open_stream(tmp_path / "clip.dat")
    os.truncate(tmp_path / "clip.dat", 25000)
    assert len(open_stream(tmp_path / "clip.dat")) == 2
    (tmp_path / "short.dat").write_bytes(bytes(7))
    with pytest.raises(InputError, match="not even one frame is whole"):
        open_stream(tmp_path / "short.dat")
    (tmp_path / "empty.dat").touch()
    with pytest.raises(InputError, match="is empty"):
        open_stream(tmp_path / "empty.dat")


@pytest.mark.parametrize("suffix, size", [(".dat", 32), (".npy", 159)])
@pytest.mark.parametrize("harm", ["cut", "gone"])
def test_a_file_that_shrinks_or_goes_after_opening(tmp_path: Path, suffix: str, size: int, harm: str) -> None:
    file = tmp_path / f"clip{suffix}"
    write_stream(file, _planes((16, 4, 8)))
    stream = open_stream(file, 4, 8)
    if harm == "cut":
        os.truncate(file, size)
    else:
        file.unlink()
    with pytest.raises(InputError, match="open it again"):
        stream.counts()


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"height": 250}, "height 250 and width None came: give both"),
        ({"height": 0, "width": 8}, "at least 1 pixel"),
        ({"height": -2, "width": -4}, "at least 1 pixel"),
        ({"columns": 399}, "columns 399 came for pictures 400 wide"),
        ({"height": 3, "width": 5}, "whole bytes.*columns=8"),
        ({"frame_rate": 0}, "frame_rate"),
    ],
)
def test_impossible_geometry(tmp_path: Path, arguments: dict[str, int], match: str) -> None:
    (tmp_path / "clip.dat").write_bytes(bytes(12500))
    with pytest.raises(InputError, match=match):
        open_stream(tmp_path / "clip.dat", **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_arrays_know_their_geometry(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"clip{suffix}"
    write_stream(file, _planes((2, 3, 5)))
    assert open_stream(file, height=3, width=5).shape == (2, 3, 5)
    with pytest.raises(InputError, match="frames of 3 x 5, not 3 x 400"):
        open_stream(file, width=400)
    with pytest.raises(InputError, match="only .dat files pad"):
        open_stream(file, columns=8)
    with pytest.raises(InputError, match="only .dat files pad"):
        write_stream(file, _planes((2, 3, 5)), columns=8)


def test_path_and_suffix(tmp_path: Path) -> None:
    for suffix in (".avi", ""):
        with pytest.raises(InputError, match=r"give .dat, .npy, .npz"):
            open_stream(tmp_path / f"clip{suffix}")
        with pytest.raises(InputError, match=r"give .dat, .npy, .npz"):
            write_stream(tmp_path / f"clip{suffix}", _planes((1, 2, 4)))
    with pytest.raises(InputError, match="clip.dat is not there"):
        open_stream(tmp_path / "clip.dat")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(InputError, match="folder.npz is a folder"):
        open_stream(tmp_path / "folder.npz")


@pytest.mark.parametrize("suffix", [".dat", ".npy", ".npz"])
def test_what_cannot_be_written(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"clip{suffix}"
    file.write_text("before")
    with pytest.raises(InputError, match="value 2"):
        write_stream(file, np.full((2, 3, 8), 2, np.uint8))
    with pytest.raises(InputError, match="without frames"):
        write_stream(file, SpikeStream.from_planes(_planes((2, 3, 8)))[1:1])
    grey = tmp_path / "grey.npy"
    planes = np.zeros((600, 3, 8), np.uint8)
    planes[-1] = 9
    np.save(grey, planes)
    with pytest.raises(InputError, match="value 9"):  # found after the first block is written
        write_stream(file, open_stream(grey))
    assert file.read_text() == "before"
    assert sorted(tmp_path.iterdir()) == sorted([file, grey])


def test_dat_geometry_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="whole bytes"):
        write_stream(tmp_path / "clip.dat", _planes((2, 3, 5)))
    with pytest.raises(InputError, match="columns 4 came"):
        write_stream(tmp_path / "clip.dat", _planes((2, 3, 5)), columns=4)
    assert not list(tmp_path.iterdir())
