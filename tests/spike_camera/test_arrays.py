from __future__ import annotations

import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sj_lowlat.errors import InputError
from sj_lowlat.spike_camera import open_stream, write_stream


def _planes(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, shape, dtype=np.uint8)


def _save(file: Path, array: np.ndarray) -> None:
    if file.suffix == ".npy":
        np.save(file, array)
    else:
        np.savez_compressed(file, spk=array)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize(
    "array, match",
    [
        (np.zeros((2, 3, 4)), "float64 of the shape .*uint8 or bool"),
        (np.zeros((2, 3), np.uint8), r"shape \[2, 3\]"),
        (np.zeros((0, 3, 4), np.uint8), "at least one frame"),
        (np.full((2, 3, 4), 255, np.uint8), "value 255"),
        (np.array([[[None]]]), "object of the shape"),
        (np.zeros((4, 3, 2), np.uint8).T, "Fortran order"),
    ],
)
def test_arrays_that_are_no_planes(tmp_path: Path, suffix: str, array: np.ndarray, match: str) -> None:
    _save(tmp_path / f"clip{suffix}", array)
    with pytest.raises(InputError, match=match):
        open_stream(tmp_path / f"clip{suffix}")


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_other_values_later_in_the_array(tmp_path: Path, suffix: str) -> None:
    planes = _planes((600, 2, 4))
    planes[500, 1, 2] = 3
    _save(tmp_path / f"clip{suffix}", planes)
    with pytest.raises(InputError, match="frame 500 holds the value 3"):
        open_stream(tmp_path / f"clip{suffix}").counts()


def test_npz_without_spk_takes_the_only_array_with_three_axes(tmp_path: Path) -> None:
    planes, file = _planes((2, 3, 5)), tmp_path / "clip.npz"
    np.savez(file, label=47, names=np.array(["a", None], dtype=object), video=planes)
    np.testing.assert_array_equal(open_stream(file).planes(), planes)
    np.savez(file, one=planes, two=planes)
    with pytest.raises(InputError, match="holds one, two, 2 of them"):
        open_stream(file)
    np.savez(file, label=47)
    with pytest.raises(InputError, match="holds label, 0 of them.*spk=planes"):
        open_stream(file)


class _Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise AssertionError('unpickled')",)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    planes, file = _planes((2, 3, 5)), tmp_path / "clip.npz"
    trap = np.empty((1, 1, 1), object)
    trap[0, 0, 0] = _Trap()
    np.savez(file, label_name=trap, spk=planes)
    np.testing.assert_array_equal(open_stream(file).planes(), planes)
    for name in ("clip.npz", "clip.npy"):
        _save(tmp_path / name, trap)
        with pytest.raises(InputError, match="object"):
            open_stream(tmp_path / name)


def test_truncated_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", _planes((6, 4, 8)))
    os.truncate(tmp_path / "clip.npy", 300)
    with pytest.raises(InputError, match="300 bytes of 320: it is truncated"):
        open_stream(tmp_path / "clip.npy")


def test_npz_member_shorter_than_its_header_says(tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", _planes((6, 4, 8)))
    with zipfile.ZipFile(tmp_path / "clip.npz", "w") as archive:
        archive.writestr("spk.npy", (tmp_path / "clip.npy").read_bytes()[:-20])
    with pytest.raises(InputError, match="172 bytes of 192"):
        open_stream(tmp_path / "clip.npz")


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@given(data=st.data())
def test_damaged_files_are_refused_or_read(suffix: str, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"clip{suffix}")
        write_stream(file, _planes((6, 4, 8)))
        content = bytearray(file.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        file.write_bytes(content[: data.draw(st.integers(0, 2 * len(content)))])
        try:
            planes = open_stream(file).planes()
        except InputError:
            return
        assert planes.max() <= 1
