"""The demo, small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sj_lowlat import checkpoint
from sj_lowlat.demo import ROWS, DemoConfig, demo
from sj_lowlat.errors import InputError

SMALL = DemoConfig(
    train_images=16, test_images=8, size=64, width=0.125, iterations=6, quant_iterations=4, levels=4
)


def test_demo_leaves_table_networks_and_pictures(tmp_path: Path) -> None:
    lines: list[str] = []
    result = demo(tmp_path, SMALL, lines.append)
    table = lines[-1]
    for label, _, _ in ROWS:
        assert label in table
    for words in ("Quant ANN", "energy", "firing rate per layer", str(tmp_path)):
        assert words in table
    for name in ("map_against_steps.png", "firing_rates.png", "detections.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    record = json.loads((tmp_path / "demo.json").read_text())
    assert record["versions"]["torch"] and set(record["spiking"]) == {label for label, _, _ in ROWS}
    assert [step for step, _ in result.spiking["signed + flush"].curve()] == [6, 8, 12]
    assert checkpoint.load(tmp_path / "snn").conversion_report.layers

    again = demo(tmp_path, SMALL, lines.append)  # trained networks are used again
    assert again.quant.final.map50 == result.quant.final.map50


def test_sizes_that_cannot_be() -> None:
    with pytest.raises(InputError, match="size is 100"):
        DemoConfig(size=100)
    with pytest.raises(InputError, match="levels is 0"):
        DemoConfig(levels=0)
