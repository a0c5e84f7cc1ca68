"""The table of methods, on two photos: every row, steps that are compared, runs that are done once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from sj_lowlat import checkpoint
from sj_lowlat.conversion import METHODS, prepare, replace_layers
from sj_lowlat.models import tiny_yolov3

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def methods(script: Callable[[str], ModuleType]) -> Any:
    return script("methods")


def networks(folder: Path) -> list[str]:
    """Untrained ones, in the form that each method wants."""
    torch.manual_seed(0)
    images = torch.rand(2, 3, 64, 64)
    leaky = tiny_yolov3(width=0.125).eval()
    relu = replace_layers(leaky, images, only_activations=True).eval()
    made = {
        "leaky": leaky,
        "shipped": prepare(leaky, 4, images),
        "relu": relu,
        "quant": prepare(relu, 4, images),
        "clipped": prepare(relu, calibration=images, method="rate-norm"),
        "plain": prepare(relu, calibration=images, method="cao"),
    }
    for name, network in made.items():
        checkpoint.save(network, folder / name)
    return [f"{name}={folder / name}" for name in made]


def test_every_row_runs_once(
    methods: Any, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {name: tmp_path / name for name in ("runs", "results.json", "figure.png")}
    command = [
        "--data", data_dir, "--images", 2, "--long-images", 1, "--size", 64, "--time-steps", 6, 8,
        "--total", 10, "--calibration", 2, "--monitored", 1, "--output", places["runs"],
        "--results", places["results.json"], "--figure", places["figure.png"],
        "--networks", *networks(tmp_path),
    ]  # fmt: skip
    words = [str(word) for word in command]
    for shard in ("0/2", "1/2"):
        methods.main([*words, "--shard", shard])
    assert not places["results.json"].exists()
    done = {path: path.stat().st_mtime_ns for path in places["runs"].iterdir()}
    methods.main(words)
    assert {path: path.stat().st_mtime_ns for path in places["runs"].iterdir()} == done
    plan = json.loads((FOLDER / "configs" / "methods.json").read_text())
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(plan["rows"])
    rows = {line.split("|")[1].strip(): line for line in lines[2:]}
    assert set(rows) == {row.get("label", row["method"]) for row in plan["rows"]}
    assert "10" in rows["spiking-yolo, long"] and "| 1 |" in rows["spiking-yolo, long"]
    record = json.loads(places["results.json"].read_text())
    assert len(record["runs"]) == len(done) and places["figure.png"].stat().st_size > 10_000
    steps = {name: run["points"][-1]["steps"] for name, run in record["runs"].items()}
    assert (
        steps["wait on quant 8 2"] == 10 * 4
    )  # ten of its eleven layers of neurons are one behind the other
    assert steps["srp on quant 6 2"] == 6 and steps["srp on quant 8 2"] == 8
    next(places["runs"].glob("srp_on_quant_6_2-*.json")).unlink()
    methods.main([*words, "--methods", "done"])
    again = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert again[2:] == [line for line in lines[2:] if not line.startswith("| srp |")]


def test_a_row_is_compared_from_where_it_stays_good(methods: Any) -> None:
    row = object.__new__(methods.Row)
    row.points = {2: 30.0, 4: 10.0, 8: 29.5, 16: 31.0}
    assert row.reach(29.0) == 8 and row.reach(31.0) == 16 and row.reach(32.0) is None


def test_the_table_names_methods_that_there_are() -> None:
    plan = json.loads((FOLDER / "configs" / "methods.json").read_text())
    assert {row["method"] for row in plan["rows"]} <= set(METHODS)
    assert {row["network"] for row in plan["rows"]} <= set(plan["networks"])
    assert (
        set(plan["bold"]) <= {row.get("label", row["method"]) for row in plan["rows"]}
        and len(plan["bold"]) <= 6
    )
