"""Records that an interrupted run goes on from, one run in a folder, errors that name their file."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from sj_lowlat.errors import InputError
from sj_lowlat.progress import Progress, one_run, writing

REQUEST = {"size": 64, "steps": [1, 2], "stop": None}


def begun(path: Path, count: int = 3) -> bytes:
    progress = Progress(path, REQUEST)
    for number in range(count):
        progress.add({"number": number})
    return path.read_bytes()


def test_records_come_back(tmp_path: Path) -> None:
    begun(tmp_path / "a.jsonl")
    again = Progress(tmp_path / "a.jsonl", REQUEST)
    assert again.records == [{"number": 0}, {"number": 1}, {"number": 2}]
    again.add({"number": 3})
    assert [r["number"] for r in Progress(tmp_path / "a.jsonl", REQUEST).records] == [0, 1, 2, 3]


def test_whatever_a_crash_cuts_off_only_whole_records_count(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    data = begun(path)
    ends = [place for place, byte in enumerate(data) if byte == ord("\n")]
    for length in range(len(data) + 1):
        path.write_bytes(data[:length])
        progress = Progress(path, REQUEST)
        kept = max(sum(end < length for end in ends) - 1, 0)
        assert progress.records == [{"number": number} for number in range(kept)]
        for number in range(kept, 3):
            progress.add({"number": number})
        assert path.read_bytes() == data
    path.write_bytes(data[: ends[1] + 1] + b"\0" * 40 + b"\n")  # after a power failure
    assert Progress(path, REQUEST).records == [{"number": 0}]
    assert path.read_bytes() == data[: ends[1] + 1]


def test_another_request_may_not_go_on(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    data = begun(path)
    for other, words in (
        ({"size": 96}, "size was 64, now it is 96"),
        ({"limit": 5}, "limit was None, now it is 5"),
    ):
        with pytest.raises(InputError, match=words):
            Progress(path, {**REQUEST, **other})
    assert path.read_bytes() == data
    path.write_bytes(data[: data.index(b"\n") + 3])  # nothing was done
    Progress(path, {**REQUEST, "size": 96}).add({"number": 9})
    assert Progress(path, {**REQUEST, "size": 96}).records == [{"number": 9}]


@pytest.mark.parametrize("content", [b"my notes", b"my notes\n", b'{"a": 1}\n', b"[1]\n", b"\0\0\n", b"\n\n"])
def test_a_file_of_somebody_else_is_left_alone(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(InputError, match="no record of this command"):
        Progress(tmp_path / "a.jsonl", REQUEST)
    assert (tmp_path / "a.jsonl").read_bytes() == content


def test_without_a_file_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    progress = Progress(None, REQUEST)
    progress.add({"number": 0})
    assert progress.records == [] and list(tmp_path.iterdir()) == []


def test_a_folder_that_is_removed_is_told(tmp_path: Path) -> None:
    progress = Progress(tmp_path / "a.jsonl", REQUEST)
    progress.add({"number": 0})
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(OSError, match=r"a\.jsonl: its folder is gone"):
        progress.add({"number": 1})


@pytest.mark.parametrize("name", ["", "results.json"])
def test_one_run_at_a_time(name: str, tmp_path: Path) -> None:
    """The second run is another process, or another thread of this one."""
    code = "import sys, pathlib, sj_lowlat.progress as p; p.one_run(pathlib.Path(sys.argv[1]), sys.argv[2])"
    other = [sys.executable, "-c", f"{code}.__enter__()", tmp_path, name]
    seen: list[Any] = []

    def enter() -> None:
        try:
            with one_run(tmp_path, name):
                pass
        except InputError as error:
            seen.append(str(error))

    with one_run(tmp_path, name), one_run(tmp_path, name):  # the same run may
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        refused = subprocess.run(other, capture_output=True, text=True, timeout=120)
        with one_run(tmp_path, "another.json"):
            pass
    assert len(seen) == 1 and f"another run writes to {tmp_path / name}" in seen[0]
    assert refused.returncode == 1 and "another run writes to" in refused.stderr
    assert list(tmp_path.iterdir()) == []
    with one_run(tmp_path / "new", name):
        pass
    assert not (tmp_path / "new").exists()
    enter()
    assert len(seen) == 1


def test_errors_name_the_file() -> None:
    path = Path("runs/net.bin")
    with pytest.raises(OSError, match="No space left on device: 'runs/net.bin'"), writing(path):
        raise OSError(28, "No space left on device")
    with pytest.raises(PermissionError, match="'elsewhere'"), writing(path):
        raise PermissionError(13, "Permission denied", "elsewhere")
    with (
        pytest.raises(OSError, match=r"cannot write runs/net.bin \(enforce fail\)"),
        writing(path, RuntimeError),
    ):
        raise RuntimeError("enforce fail")
    with pytest.raises(RuntimeError), writing(path):
        raise RuntimeError("not of the disk")
