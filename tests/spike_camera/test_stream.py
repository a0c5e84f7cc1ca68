from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sj_lowlat.errors import InputError
from sj_lowlat.spike_camera import SpikeStream, open_stream, write_stream


def _planes(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, shape, dtype=np.uint8)


shapes = st.tuples(st.integers(1, 40), st.integers(1, 9), st.integers(1, 9))


@given(shape=shapes, seed=st.integers(0, 2**31), flags=st.booleans())
def test_planes_come_back(shape: tuple[int, int, int], seed: int, flags: bool) -> None:
    planes = _planes(shape, seed)
    stream = SpikeStream.from_planes(planes.astype(bool) if flags else planes)
    assert stream.shape == shape and len(stream) == shape[0] and stream.frame_rate == 20000.0
    back = stream.planes()
    assert back.dtype == np.uint8 and back.flags.c_contiguous and back.flags.writeable
    np.testing.assert_array_equal(back, planes)


@given(shape=shapes, cuts=st.lists(st.integers(-45, 45) | st.none(), min_size=4, max_size=4))
def test_slices_of_slices_follow_numpy(shape: tuple[int, int, int], cuts: list[int | None]) -> None:
    planes = _planes(shape)
    part = SpikeStream.from_planes(planes, 40000)[cuts[0] : cuts[1]][cuts[2] : cuts[3]]
    expected = planes[cuts[0] : cuts[1]][cuts[2] : cuts[3]]
    np.testing.assert_array_equal(part.planes(), expected)
    np.testing.assert_array_equal(part.counts(), expected.sum(0))
    assert len(part) == len(expected) and part.frame_rate == 40000
    assert part.shape == expected.shape


@given(frames=st.integers(1, 40), data=st.data())
def test_window_is_centred(frames: int, data: st.DataObject) -> None:
    centre = data.draw(st.integers(0, frames - 1))
    reach = min(centre, frames - 1 - centre)
    length = data.draw(st.integers(1, 2 * reach + 1))
    planes = _planes((frames, 2, 3))
    window = SpikeStream.from_planes(planes).window(centre, length)
    first = centre - length // 2
    np.testing.assert_array_equal(window.planes(), planes[first : first + length])
    assert window.first == first


def test_sums_over_more_frames_than_a_block_has() -> None:
    planes = np.ones((700, 2, 3), np.uint8)
    planes[:, 0, 0] = 0
    stream = SpikeStream.from_planes(planes)
    assert [len(block) for block in stream.blocks()] == [255, 255, 190]
    assert stream.counts().tolist() == [[0, 700, 700], [700, 700, 700]]
    assert stream.counts(3, 633)[1, 1] == 630 and stream.counts().dtype == np.int32
    assert stream.counts(5, 5).sum() == 0


def test_mean_rate_is_spikes_a_frame() -> None:
    planes = _planes((301, 4, 6))
    rate = SpikeStream.from_planes(planes)[1:].mean_rate(9, 300)
    assert rate.dtype == np.float32
    np.testing.assert_allclose(rate, planes[10:301].mean(0), rtol=1e-6)


def test_to_torch_adds_a_channel() -> None:
    planes = _planes((7, 3, 5))
    stream = SpikeStream.from_planes(planes)
    picture = stream.to_torch(2, 6)
    assert picture.shape == (4, 1, 3, 5) and picture.dtype == torch.float32
    assert torch.equal(picture[:, 0], torch.from_numpy(planes[2:6]).float())
    assert stream.to_torch(dtype=torch.bool).dtype == torch.bool


def test_changing_the_result_changes_nothing_else() -> None:
    planes = _planes((4, 3, 5))
    stream = SpikeStream.from_planes(planes)
    expected = planes.copy()
    planes[:] = 0
    stream.planes()[:] = 0
    np.testing.assert_array_equal(stream.planes(), expected)


def test_says_what_it_is() -> None:
    assert repr(SpikeStream.from_planes(_planes((7, 3, 5)))) == "SpikeStream(7 frames of 3 x 5 at 20000 Hz)"


@pytest.mark.parametrize("step", [2, -1, 0])
def test_steps_are_refused(step: int) -> None:
    with pytest.raises(InputError, match=f"step {step}"):
        SpikeStream.from_planes(_planes((4, 1, 1)))[::step]


def test_single_frames_are_refused() -> None:
    with pytest.raises(InputError, match=r"index 3 .*planes\(i, i \+ 1\)"):
        SpikeStream.from_planes(_planes((4, 1, 1)))[3]  # type: ignore[index]


@pytest.mark.parametrize("bounds", [(-1, 3), (0, 5), (3, 2), (5, None)])
def test_windows_must_lie_within(bounds: tuple[int, int | None]) -> None:
    stream = SpikeStream.from_planes(_planes((9, 1, 1)))[2:6]
    for read in (stream.planes, stream.counts, stream.mean_rate, stream.to_torch):
        with pytest.raises(InputError, match="the stream has the frames 0:4"):
            read(*bounds)


@pytest.mark.parametrize("centre, length", [(0, 2), (8, 3), (4, 10), (4, 0), (4, -3), (-1, 1)])
def test_centred_windows_must_lie_within(centre: int, length: int) -> None:
    with pytest.raises(InputError, match=f"window of {length} frames around frame {centre} came"):
        SpikeStream.from_planes(_planes((9, 1, 1))).window(centre, length)


@pytest.mark.parametrize(
    "planes, match",
    [
        (np.zeros((2, 3, 4)), "float64 planes of the shape .*uint8 or bool"),
        (np.zeros((2, 3), np.uint8), r"shape \[2, 3\]"),
        (np.zeros((0, 3, 4), np.uint8), "at least one frame"),
        (np.full((2, 3, 4), 255, np.uint8), "frame 0 holds the value 255"),
        ([[[0, 1]]], "type list"),
        (torch.zeros(2, 3, 4, dtype=torch.uint8), "type Tensor"),
    ],
)
def test_what_is_no_planes(planes: object, match: str) -> None:
    with pytest.raises(InputError, match=match):
        SpikeStream.from_planes(planes)  # type: ignore[arg-type]


def test_the_frame_with_another_value_is_named() -> None:
    planes = np.zeros((700, 2, 2), np.uint8)
    planes[600, 1, 1] = 2
    with pytest.raises(InputError, match="frame 600 holds the value 2"):
        SpikeStream.from_planes(planes)


@pytest.mark.parametrize("rate", [0, -1.0, float("nan"), float("inf")])
def test_frame_rate_must_be_positive(rate: float) -> None:
    with pytest.raises(InputError, match="frame_rate"):
        SpikeStream.from_planes(_planes((1, 1, 1)), rate)


def test_an_empty_window_has_no_mean() -> None:
    with pytest.raises(InputError, match="empty window 2:2"):
        SpikeStream.from_planes(_planes((4, 1, 1))).mean_rate(2, 2)


def test_a_view_leaves_its_source_nowhere() -> None:
    source = SpikeStream.from_planes(_planes((4, 1, 1))).source
    with pytest.raises(InputError, match=r"frames 2:5 came: give a part of 0:4"):
        SpikeStream(source, first=2, stop=5)


def test_workers_can_be_sent_a_stream(tmp_path: Path) -> None:
    planes = _planes((6, 4, 8))
    write_stream(tmp_path / "clip.dat", planes)
    stream = open_stream(tmp_path / "clip.dat", 4, 8)[1:5]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(stream)).planes(), planes[1:5])


def test_a_gigabyte_is_scanned_in_little_memory(tmp_path: Path) -> None:
    clip = tmp_path / "sparse.dat"
    with clip.open("wb") as file:
        file.truncate(2**30 // 12500 * 12500)  # a hole, which takes no room on the disk
    scan = """
import resource, sys
from sj_lowlat.spike_camera import open_stream
stream = open_stream(sys.argv[1])
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
rate = stream.mean_rate()
print(len(stream), rate.max(), (peak() - before) // (1024 * 1024 if sys.platform == "darwin" else 1024))
"""
    run = [sys.executable, "-c", scan, str(clip)]
    frames, brightest, grown = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
    assert (frames, brightest) == ("85899", "0.0") and int(grown) < 64  # MiB
