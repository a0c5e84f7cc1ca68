"""The table of SECURITY.md names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_row_of_the_table_is_held_by_tests() -> None:
    lines = (ROOT / "SECURITY.md").read_text(encoding="utf-8").splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith("| ")][2:]
    assert len(rows) > 15
    for threat, _, held in rows:
        names = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", held)
        assert names, threat
        for file, name in names:
            assert re.search(rf"def {name}\(", (ROOT / file).read_text(encoding="utf-8")), f"{file}::{name}"
