"""The detector for Speck: the documented commands at a hundredth of their size."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("sinabs")


def test_the_commands_at_a_hundredth(
    script: Callable[[str], ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speck = script("speck")
    speck.main(["train", "--output", str(tmp_path), "--shorten", "100"])
    assert "s of CPU" in capsys.readouterr().out
    speck.main(["train", "--output", str(tmp_path), "--shorten", "100"])
    assert capsys.readouterr().out.count("done before") == 2
    score = [
        "score",
        "--output",
        str(tmp_path),
        "--images",
        "10",
        "--compared",
        "1",
        "--schedules",
        "4+0b4c4",
    ]
    speck.main(score)
    printed = capsys.readouterr().out
    assert "cores.7.0" in printed and "| in sinabs | 4+0b4c4 |" in printed
    record = json.loads((tmp_path / "speck.json").read_text())
    rows = {row["network"]: row for row in record["rows"]}
    chip, theirs = rows["spiking, as on the chip"], rows["in sinabs"]
    assert chip["spikes"] == theirs["spikes"] > 1000 and chip["map50"] == theirs["map50"]
    (same,) = record["same"]
    assert same["equal"] == same["places"] > 100_000 and same["maps"] < 1e-4
    assert -(2**15) <= same["lowest"] <= 0 < same["highest"] < 2**15
