"""The benchmark scripts, on next to nothing."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from sj_lowlat import checkpoint
from sj_lowlat.conversion import prepare
from sj_lowlat.data import TrafficDataset, letterbox
from sj_lowlat.detect import Detections
from sj_lowlat.functional import rate_error
from sj_lowlat.models import snn_tiny_yolov3
from sj_lowlat.schedule import Schedule

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def quant(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a small Quant ANN of the traffic classes."""
    photos = TrafficDataset(2, 64)
    model = snn_tiny_yolov3(4, width=0.125, class_names=photos.class_names, input_size=64)
    images = torch.stack([letterbox(photos[index].image, 64)[0] for index in range(2)])
    return str(checkpoint.save(prepare(model, 4, images), tmp_path_factory.mktemp("quant")))


@pytest.mark.parametrize("text", ["", "0+4", "8+", "8-4", "4b0", "b2", "8+4,2", "x"])
def test_what_is_no_schedule_is_refused(script: Callable[[str], ModuleType], text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="8\\+4"):
        script("runner").schedule(text)


def test_schedules_are_those_of_all_networks_or_of_one(script: Callable[[str], ModuleType]) -> None:
    schedules = script("score").schedules
    assert schedules("8+4,2+4b2, 16") == ("", [Schedule(8, 4), Schedule(2, 4, 2), Schedule(16)])
    assert schedules("net=8+4") == ("net", [Schedule(8, 4)])


def test_markdown_has_a_line_a_row_and_refuses_ragged_ones(script: Callable[[str], ModuleType]) -> None:
    markdown = script("runner").markdown
    assert markdown(("a", "b"), [("1", "2"), ["3", ""]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 |  |"
    with pytest.raises(ValueError, match=r"\[1, 2\]"):
        markdown(("a", "b"), [("1",)])


def test_a_run_is_done_once_for_each_request(script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    runner, calls = script("runner"), []

    def work() -> dict[str, Any]:
        calls.append(1)
        return {"points": [], "rates": [1], "number": len(calls)}

    args = argparse.Namespace(output=tmp_path / "runs", results=tmp_path / "all.json")
    for _ in range(2):  # as when an interrupted script is started again
        runs = runner.Runs(args)
        assert runs.once("net, if 8+4", {"images": 2}, work)["number"] == 1
    assert runs.once("net, other", {"images": 2}, lambda: {"number": 7})["number"] == 7
    assert runs.once("net, if 8+4", {"images": 3}, work)["number"] == 2, "another request, another run"
    runs.save()
    saved = json.loads((tmp_path / "all.json").read_text())
    assert saved["runs"]["net, if 8+4"] == {
        "request": {"images": 3},
        "points": [],
        "rates": None,
        "number": 2,
    }
    assert {"command", "versions", "seed"} <= set(saved)


def test_evenly_spaced_images_keep_their_boxes(script: Callable[[str], ModuleType]) -> None:
    inputs, whole = script("inputs"), TrafficDataset(9, 64)
    photos = inputs.Photos("traffic", whole, "coco").spaced(3)
    assert len(photos) == 3 and "3 of 9" in photos.label
    for index, place in enumerate((0, 4, 8)):
        assert torch.equal(photos.dataset[index].image, whole[place].image)
        assert torch.equal(photos.dataset.target(index).boxes, whole[place].boxes)
    assert inputs.Photos("traffic", whole, "coco").spaced(9).dataset is whole


def test_a_network_trained_anew_is_another(
    script: Callable[[str], ModuleType], quant: str, tmp_path: Path
) -> None:
    inputs = script("inputs")
    model = checkpoint.load(quant)
    with torch.no_grad():
        next(model.parameters()).add_(1)
    assert inputs.fingerprint(quant) != inputs.fingerprint(str(checkpoint.save(model, tmp_path)))
    assert inputs.levels_of(quant) == 4


def test_neuron_response_agrees_with_the_equations(
    script: Callable[[str], ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, figure = tmp_path / "r.json", tmp_path / "f.png"
    script("neuron_response").main(
        ["--time-steps", "4", "10", "--points", "4000", "--results", str(results), "--figure", str(figure)]
    )
    errors = json.loads(results.read_text())["errors"]
    assert [(row["time_steps"], row["ratio"]) for row in errors] == [(4, 0), (4, 0.5), (10, 0), (10, 0.5)]
    for row in errors:
        for name, value in rate_error(row["time_steps"], row["ratio"]).items():
            assert row["measured"][name] == pytest.approx(value, rel=1e-4, abs=1e-6)
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.count("\n| ") == 6


def test_latency_scores_every_step(
    script: Callable[[str], ModuleType],
    quant: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    score, inputs = script("score"), script("inputs")
    photos = inputs.Photos("traffic", TrafficDataset(2, 64), "coco")
    monkeypatch.setattr(score, "open_photos", lambda name, data: photos)
    results, figure = tmp_path / "r.json", tmp_path / "f.png"
    options = ["--schedules", "2+3,4b2", "--neurons", "signed", "residual-fix", "--size", "64", "--beside"]
    places = ["--output", str(tmp_path / "runs"), "--results", str(results), "--figure", str(figure)]
    score.main(["latency", "--data", str(tmp_path), "--networks", f"net={quant}", *options, *places])
    runs = json.loads(results.read_text())["runs"]
    steps = {name: [point["steps"] for point in run["points"]] for name, run in runs.items()}
    assert steps == {
        "net ANN": [None],
        "net signed 2+3": [1, 2, 3, 4, 5],
        "net signed 4+0b2": [1, 2, 3, 4],
        "net residual fix 2+3": [1, 2, 3, 4, 5],
        "net residual fix 4+0b2": [1, 2, 3, 4],
    }
    settings = runs["net signed 2+3"]["settings"]
    assert (settings["time_steps"], settings["flush"], settings["charge"]) == (2, 3, 4)
    assert len(list((tmp_path / "runs").glob("*.json"))) == len(runs)
    printed = capsys.readouterr().out
    assert "| net, Quant ANN, L = 4 | 2 |" in printed and "| fewest within 0.5 | these x burst |" in printed
    assert figure.is_file()


def test_the_first_read_out_that_is_good_enough_is_told(
    script: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    table = script("score").Table({"cell": "{map50:.1f}"}, None, {}, None)

    def soonest(values: dict[int, float]) -> int | str:
        points = [{"steps": step, "map50": value / 100} for step, value in values.items()]
        found = table._results({"points": points, "energy": None}, {"map50": 20.0}, Schedule(2, 2, burst=3))
        assert found["sent"] == ("-" if found["soonest"] == "-" else 3 * found["soonest"])
        return found["soonest"]

    assert soonest({1: 3.0, 2: 19.6, 3: 18.0, 4: 20.0}) == 2
    assert soonest({1: 3.0}) == "-"


def test_table_1_runs_on_photos(
    script: Callable[[str], ModuleType], data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two real photos: a ReLU network in the paper's setting, and its quantised twin."""
    relu = str(checkpoint.save(snn_tiny_yolov3(80, width=0.125, input_size=64), tmp_path / "relu"))
    network = checkpoint.load(relu)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    trained = str(checkpoint.save(prepare(network, 4, images), tmp_path / "quant4"))
    results = tmp_path / "r.json"
    script("score").main(
        ["table1_coco", "--data", str(data_dir), "--networks", f"relu={relu}", f"quant={trained}",
         "--schedules", "quant=2+3", "--set", "steps=[2, 4, 34]", "--images", "2",
         "--size", "64", "--calibration", "1", "--output", str(tmp_path / "runs"),
         "--results", str(results), "--figure", str(tmp_path / "f.png")]
    )  # fmt: skip
    runs = json.loads(results.read_text())["runs"]
    steps = {name: [point["steps"] for point in run["points"]] for name, run in runs.items()}
    assert steps["relu residual-fix, 2 images, 34 steps"] == [2, 4, 34]
    assert steps["quant signed 2+3, 2 images"] == [2, 4, 5]
    assert runs["quant signed 2+3, 2 images"]["settings"]["charge"] == 4
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("| relu, residual fix |") for line in lines) == 1
    assert any(line.startswith("| paper: residual fix") and "36.2 at 300" in line for line in lines)


def test_each_table_has_the_rows_of_its_page(
    script: Callable[[str], ModuleType],
    quant: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two drawn pictures: what the tables ask of a network, and what the ablation's charge is."""
    score, inputs = script("score"), script("inputs")
    photos = inputs.Photos("traffic", TrafficDataset(2, 64), "coco")
    monkeypatch.setattr(score, "open_photos", lambda name, data: photos)
    monkeypatch.setattr(script("runner"), "calibration_images", lambda *_: torch.rand(2, 3, 64, 64))
    fresh = snn_tiny_yolov3(4, width=0.125, class_names=photos.dataset.class_names, input_size=64)
    relu = str(checkpoint.save(fresh, tmp_path / "relu"))

    def run(table: str, *networks: str) -> tuple[list[str], dict[str, Any]]:
        places = ["--output", str(tmp_path / table), "--results", str(tmp_path / f"{table}.json")]
        places += (
            [] if table in ("levels", "precision", "coco_subset") else ["--figure", str(tmp_path / "f.png")]
        )
        few = ["--data", str(tmp_path), "--size", "64", "--beside", "--networks", *networks]
        score.main([table, *few, *places])
        lines = capsys.readouterr().out.splitlines()
        start = max(index for index, line in enumerate(lines) if line.startswith("| ---"))
        rows = [line for line in lines[start + 1 :] if line.startswith("| ")]
        return rows, json.loads((tmp_path / f"{table}.json").read_text())["runs"]

    rows, runs = run("ablation", f"strided_relu={relu}", f"strided_quant={quant}")
    assert len(rows) == 6 and sum("Quant-ReLU, L = 4" in row for row in rows) == 3
    assert runs["strided_quant signed 16+4"]["settings"]["charge"] == 16  # and not the network's 4 levels
    rows, runs = run("levels", f"net={relu}")
    assert len(rows) == 17 and rows[6].startswith("| 8 | mse | yes | 3, x4 | 1 |")
    rows, runs = run("precision", f"net={quant}")
    assert [row.split(" | ")[1] for row in rows] == ["-", *["fp32"] * 2, "bf16", "int8", *["fp32"] * 7]
    assert runs["16+16 stop 2"]["mean_steps"] <= 32 and runs["counts"]["settings"]["mode"] == "counts"
    rows, runs = run("coco_subset", f"quant4={quant}")
    assert len(rows) == 1 and rows[0].startswith("| 4 |")
    assert [point["steps"] for point in runs["signed4"]["points"]] == [4, 8]


def test_a_table_refuses_networks_that_it_cannot_score(
    script: Callable[[str], ModuleType], quant: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = [f"net={quant}", f"other={quant}"]
    refused = {
        "levels": "no quantised network",
        "ablation": "names its networks leaky",
        "latency": "one network",
    }
    for table, words in refused.items():
        with pytest.raises(SystemExit):
            script("score").main([table, "--data", str(tmp_path), "--networks", *two])
        assert words in capsys.readouterr().err


def test_what_is_no_table_runs_on_photos(
    script: Callable[[str], ModuleType], data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Firing before and behind max-pools, boxes, and settling: the shipped network on two photos."""
    name, results = "snn-tiny-yolov3-coco", tmp_path / "r.json"
    places = ["--data", str(data_dir), "--size", "64"]
    kept = ["--results", str(results), "--figure", str(tmp_path / "f.png"), "--images", "1"]
    networks = ["--pooled", name, "--strided", name, "--schedule", "2+2b4"]
    script("firing_rates").main([*places, *kept, *networks, "--output", str(tmp_path / "runs")])
    runs = json.loads(results.read_text())["runs"]
    layers = runs["max-pool signed 2+2b4"]["layers"]
    pools = [layer for layer in layers if layer["kind"] == "max-pool"]
    assert len(pools) == 6 and runs["max-pool signed 2+2b4"]["schedule"]["charge"] == 16
    assert all(0 < abs(pool["net_rate"]) <= pool["rate"] for pool in pools)
    assert all(
        pool["net_rate_each_step"] >= pool["net_rate"] for pool in pools
    )  # maxima of sums and of steps
    assert capsys.readouterr().out.count(" | max-pool, signed | ") == 6

    script("detections").main([*places, *kept, "--schedule", "4+2b4", "--early", "3"])
    assert len(json.loads(results.read_text())["photos"]) == 2

    capsys.readouterr()
    script("settle").main([*places, "--network", name, "--images", "1", "--flush", "16"])
    assert capsys.readouterr().out.splitlines()[-1].endswith("1 of 1 images below 1e-3")


def test_table_3_has_every_condition(
    script: Callable[[str], ModuleType],
    quant: str,
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two clips each of generated traffic and of real photos; the second time all is there."""
    table3 = script("spike_camera")
    photos = checkpoint.save(snn_tiny_yolov3(80, width=0.125, input_size=64), tmp_path / "relu")
    results, figure = tmp_path / "r.json", tmp_path / "f.png"
    places = ["--output", str(tmp_path / "runs"), "--results", str(results), "--figure", str(figure)]
    networks = ["--traffic-networks", f"daylight={quant}", "--networks", f"photos={photos}"]
    few = ["--images", "2", "--steps", "4", "8", "--size", "64", "--calibration", "1"]
    command = ["--data", str(data_dir), *networks, *few, *places]
    table3.main(command)
    printed = capsys.readouterr().out
    conditions = table3.CONDITIONS
    for condition in conditions.values():
        assert f"\nAP50 in %, {condition.label}: 2 clips, mean rate " in printed
    assert printed.count("\n| ANN on ") == 4 * len(conditions)
    assert printed.count("\n| SNN on the spikes") == 3 * len(conditions)
    assert printed.count("daylight |") == 7 * 3 and printed.count("photos |") == 7 * 4
    assert "\n| paper's SNN-Tiny-YOLOv3, on the spikes | 45.0 | 50.9 | 52.4 |" in printed
    runs = json.loads(results.read_text())["runs"]
    assert len(runs) == len(conditions) * (1 + 2 + 3 + 3 * 2) and figure.stat().st_size > 0
    rates = {name: runs[f"{name}, clips"]["mean_rate"] for name in conditions}
    assert all(rates[name] < 3 < 10 < rates[name.removesuffix("-dark")] for name in rates if "dark" in name)

    monkeypatch.setattr(table3, "score", None)
    table3.main(command)
    assert capsys.readouterr().out == printed


def test_table_3_wants_networks_that_it_can_tell_apart(
    script: Callable[[str], ModuleType], quant: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table3 = script("spike_camera")
    with pytest.raises(SystemExit):
        table3.main(["--data", str(tmp_path), "--traffic-networks", f"a={quant}", f"b={quant}"])
    assert "folders of different names" in capsys.readouterr().err
    places = ["--output", str(tmp_path / "runs"), "--results", str(tmp_path / "r.json")]
    table3.main(["--data", str(tmp_path), "--conditions", "traffic", *places])
    assert "traffic, daylight: no network was given" in capsys.readouterr().out


def test_classes_that_become_one_are_suppressed_together(script: Callable[[str], ModuleType]) -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 10, 10], [30, 30, 40, 40], [0, 0, 10, 10], [5, 5, 9, 9]])
    found = Detections(boxes, torch.tensor([0.5, 0.6, 0.7, 0.8, 0.9]), torch.tensor([0, 1, 1, 2, 3]))
    merged = script("spike_camera").persons_and_vehicles(found, ("car", "bus", "person", "cat"))
    assert merged.scores.tolist() == pytest.approx([0.8, 0.7, 0.6])
    assert merged.labels.tolist() == [0, 1, 1]
