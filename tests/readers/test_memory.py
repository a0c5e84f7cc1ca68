"""Small files do not take much memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

_SCRIPT = Path(__file__).with_name("hostile_files.py")
_MOST = 300  # MiB above the import, of all together


def test_no_small_file_takes_much_memory(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, _SCRIPT, tmp_path], capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 14 and rows[0][1] == "read"
    assert [row for row in rows[1:] if row[1] != "refused"] == []
    assert [row for row in rows if row[2] > _MOST] == []
