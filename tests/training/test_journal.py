"""The log of a run, after a crash."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from sj_lowlat.training.journal import journal


def _line(iteration: int) -> str:
    return json.dumps({"iteration": iteration, "losses": {"total": 1.0}, "lr": 0.1, "seconds": 1.0}) + "\n"


@pytest.mark.parametrize(
    "damage",
    [b"\0" * 9 + b"\n", b"null\n", b"[]\n", b"{}\n", b"\xff\n", b'{"iteration": "x"}\n',
     b"[" * 10_000 + b"\n", b"9" * 5000 + b"\n", b'{"iteration": NaN}\n',
     b'{"iteration": 1e999}\n', b'{"iteration": 2'],
)  # fmt: skip
def test_lines_that_are_no_records_are_dropped(tmp_path: Path, damage: bytes) -> None:
    log = tmp_path / "log.jsonl"
    log.write_bytes(_line(1).encode() + damage + (b"" if b"\n" not in damage else _line(2).encode()))
    with journal(tmp_path, 2) as write:
        write(3, {"total": 0.5}, 0.1, 2.0)
    found = [json.loads(line)["iteration"] for line in log.read_text().splitlines()]
    assert found == ([1, 2, 3] if b"\n" in damage else [1, 3])


def test_later_lines_of_an_interrupted_part_are_dropped(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(_line(1) + _line(2) + _line(3))
    with journal(tmp_path, 2):
        pass
    assert (tmp_path / "log.jsonl").read_text() == _line(1) + _line(2)


def test_a_log_that_cannot_be_read_leaves_no_thread(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").mkdir()
    before = threading.active_count()
    with pytest.raises(OSError, match=r"log\.jsonl"), journal(tmp_path, 1):
        pass
    assert threading.active_count() == before and not list(tmp_path.glob("events*"))
