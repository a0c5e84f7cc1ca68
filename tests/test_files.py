"""Files are whole or absent, and nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sj_lowlat import files
from sj_lowlat.files import atomic_write

# writes half of a file, says so and waits
WRITER = """
import sys
from sj_lowlat.files import atomic_write
with atomic_write(sys.argv[1]) as path:
    path.write_text("half")
    print(path.name, flush=True)
    sys.stdin.read()
"""


def _writer(target: Path) -> tuple[subprocess.Popen[str], Path]:
    command = [sys.executable, "-c", WRITER, str(target)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, target.parent / process.stdout.readline().strip()


@pytest.mark.skipif(sys.platform == "win32", reason="no flock")
def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    (tmp_path / ".result.original.json").write_text("of the user")
    killed, left = _writer(target)
    killed.kill()
    killed.communicate()
    assert left.read_text() == "half" and not target.exists()
    alive, in_use = _writer(target)  # another process has removed the first file
    assert not left.exists()
    files._remove_left_behind.cache_clear()
    with atomic_write(target) as path:
        path.write_text("whole")
        assert {file.name for file in tmp_path.iterdir()} == {path.name, in_use.name, ".result.original.json"}
    assert target.read_text() == "whole"
    alive.communicate()
    assert alive.returncode == 0 and target.read_text() == "half"  # it was the last that ended
    assert {file.name for file in tmp_path.iterdir()} == {"result.json", ".result.original.json"}


@pytest.mark.skipif(sys.platform == "win32", reason="no flock")
def test_a_file_that_is_taken_for_left_behind_before_it_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, met = files.fcntl.flock, []

    def too_late(handle: Any, how: int) -> None:
        if not met:
            met.extend(tmp_path.iterdir())
            met[0].unlink()
        flock(handle, how)

    monkeypatch.setattr(files.fcntl, "flock", too_late)
    with atomic_write(tmp_path / "result") as path:
        assert path.exists() and path != met[0]


def test_the_bytes_are_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    fsync, replace = os.fsync, Path.replace

    def synced(handle: int) -> None:
        calls.append(os.fstat(handle).st_ino)
        fsync(handle)

    def renamed(path: Path, target: Path) -> Path:
        calls.append("rename")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    target = tmp_path / "new" / ("長" * 85)  # 255 bytes, the longest name there is
    with atomic_write(target) as path:
        path.unlink()  # as writers do that rename files of their own
        path.write_text("whole")
    assert calls == [target.stat().st_ino, "rename"]


@pytest.mark.skipif(sys.platform == "win32", reason="other permissions")
def test_permissions_are_those_of_any_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(mask: int) -> int:
        raise AssertionError("the mask is the whole process's: other threads would write with it")

    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patch, atomic_write(tmp_path / "result") as path:
            patch.setattr(os, "umask", changed)
            path.write_text("")
            assert path.stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)
    assert (tmp_path / "result").stat().st_mode & 0o777 == 0o640


def test_a_failed_block_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "result"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_write(target) as path:
        path.write_text("half")
        raise ZeroDivisionError
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]
