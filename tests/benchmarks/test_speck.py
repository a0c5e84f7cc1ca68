"""The detector for Speck: the documented commands at a hundredth of their size."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("sinabs")


@pytest.mark.filterwarnings("ignore:nirtorch.load:DeprecationWarning")
def test_the_commands_at_a_hundredth(
    script: Callable[[str], ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speck = script("speck")
    speck.main(["train", "--output", str(tmp_path), "--shorten", "100"])
    assert "s of CPU" in capsys.readouterr().out
    speck.main(["train", "--output", str(tmp_path), "--shorten", "100"])
    assert capsys.readouterr().out.count("done before") == 2
    few = ["--images", "10", "--compared", "1", "--schedules", "4+0b4c4"]
    speck.main(["score", "--output", str(tmp_path), *few])
    printed = capsys.readouterr().out
    assert "cores.7.0" in printed and "| the same in sinabs | 4+0b4c4 |" in printed
    record = json.loads((tmp_path / "speck.json").read_text())
    rows = {row["network"]: row for row in record["rows"]}
    assert rows["its NIR file in sinabs"]["schedule"] == "4+0c4"
    chip, theirs = rows["spiking, as on the chip"], rows["the same in sinabs"]
    # sums on the host are floats, in another order there
    assert theirs["spikes"] == pytest.approx(chip["spikes"], rel=1e-3) and chip["spikes"] > 1000
    assert theirs["map50"] == pytest.approx(chip["map50"], abs=0.01)
    (same,) = record["same"]
    assert same["places"] > 100_000 and same["equal"] > 0.999 * same["places"]
    assert -(2**15) <= same["lowest"] <= 0 < same["highest"] < 2**15
