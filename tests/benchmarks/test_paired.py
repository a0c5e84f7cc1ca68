"""Runs whose detections are kept, and their differences, on drawn pictures."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from sj_lowlat import checkpoint
from sj_lowlat.conversion import convert, prepare, set_precision
from sj_lowlat.data import TrafficDataset, VocDataset
from sj_lowlat.detect import Detections
from sj_lowlat.errors import InputError
from sj_lowlat.evaluation import confidence, evaluate, match, paired_difference
from sj_lowlat.models import snn_tiny_yolov3

FOLDER = Path(__file__).parents[2] / "benchmarks"
PHOTOS = TrafficDataset(6, 64, seed=3)


@pytest.fixture(scope="module")
def quant(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a small Quant ANN that finds something everywhere."""
    torch.manual_seed(0)
    model = snn_tiny_yolov3(4, width=0.125, class_names=PHOTOS.class_names, input_size=64)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                module.bias.fill_(0.5)
    images = torch.stack([PHOTOS[index].image for index in range(6)]) / 255
    return str(checkpoint.save(prepare(model.eval(), 4, images), tmp_path_factory.mktemp("quant")))


def test_a_table_keeps_runs_and_gives_their_differences(
    script: Callable[[str], ModuleType],
    quant: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    score, inputs, paired = script("score"), script("inputs"), script("paired")
    photos = inputs.Photos("traffic", PHOTOS, "coco")
    monkeypatch.setattr(score, "open_photos", lambda name, data: photos)
    command = ["latency", "--data", str(tmp_path), "--networks", f"net={quant}", "--schedules", "2+3",
               "--neurons", "signed", "--size", "64", "--batch-size", "6", "--beside",
               "--output", str(tmp_path / "runs"), "--results", str(tmp_path / "r.json"),
               "--figure", str(tmp_path / "f.png")]  # fmt: skip
    score.main(command)
    plain = capsys.readouterr().out
    assert "less the ANN" not in plain and not list((tmp_path / "runs").glob("*.npz"))
    before = {path.name: json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*.json")}

    score.main([*command, "--set", "keep=true"])
    printed = capsys.readouterr().out
    kept = {path.stem: path for path in (tmp_path / "runs").glob("*.npz")}
    assert {f"{stem}.json" for stem in kept} == set(before)  # of the same requests
    (ann,) = (path for stem, path in kept.items() if "ANN" in stem)
    (snn,) = (path for stem, path in kept.items() if "signed" in stem)

    network = checkpoint.load(quant)
    options: Any = {"size": 64, "batch_size": 6, "monitored": 0, "keep_detections": True}
    snn_of_8_bits = set_precision(convert(network), "int8")
    found = evaluate(snn_of_8_bits, PHOTOS, "2+3", readout=(1, 2, 3, 4, 5), **options).detections
    beside = evaluate(network, PHOTOS, **options).detections
    assert found is not None and beside is not None
    reference = match(PHOTOS, beside["None"])
    points, of_ann = paired.differences(snn, ann)
    assert list(points) == list(found) == ["1", "2", "3", "4", "5"] and of_ann == confidence(reference)
    for step, (interval, difference) in points.items():
        matches = match(PHOTOS, found[step])
        assert interval == confidence(matches) and difference == paired_difference(matches, reference)
    last = points["5"][1]
    assert "| at the end, less the ANN (95 %) |" in printed
    assert f"| {100 * last.estimate:+.1f} ({last.range}) |" in printed

    stamp = snn.stat().st_mtime_ns  # a run that is kept is not done again
    score.main([*command, "--set", "keep=true"])
    assert capsys.readouterr().out == printed and snn.stat().st_mtime_ns == stamp

    paired.main([str(snn), str(ann), "--resamples", "50"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"mAP50 in %; {ann.stem}: {100 * of_ann.estimate:.1f}, 95 % interval")
    assert [line.split()[0] for line in lines[3:]] == ["1", "2", "3", "4", "5"]
    paired.main([str(ann), str(ann), "--resamples", "50"])
    assert capsys.readouterr().out.splitlines()[3].split()[0] == "-"


def test_what_is_kept_scores_as_before_in_labels_of_its_own(
    script: Callable[[str], ModuleType], data_dir: Path, tmp_path: Path
) -> None:
    """Real boxes with difficult ones, half of the images with nothing found, labels of another list."""
    paired = script("paired")
    photos = VocDataset(data_dir / "voc-subset")
    whole = script("inputs").Part(photos, list(range(0, len(photos), 40)))
    found = [
        Detections(target.boxes + 1, torch.linspace(0.2, 0.9, len(target)), target.labels + 3)
        if number % 2
        else Detections(target.boxes[:0], torch.zeros(0), target.labels[:0])
        for number, target in enumerate(whole.targets)
    ]
    class_map = {label + 3: label for label in range(20)}
    paired.save(tmp_path / "a.npz", whole, "voc", class_map, {"8": found})
    expected = confidence(match(whole, found, "voc", class_map))
    points, beside = paired.differences(tmp_path / "a.npz", tmp_path / "a.npz")
    assert points["8"][0] == beside == expected and 0.3 < expected.estimate < 0.7
    assert (points["8"][1].low, points["8"][1].high) == (0, 0)

    part = script("inputs").Part(photos, list(range(1, len(photos), 40)))
    empty = [Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))] * len(part)
    paired.save(tmp_path / "b.npz", part, "voc", None, {"8": empty})
    with pytest.raises(InputError, match="of different photos"):
        paired.differences(tmp_path / "a.npz", tmp_path / "b.npz")


def test_a_run_that_is_not_kept_yet_is_done_again(
    script: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    runs, calls = script("runner").Runs(argparse.Namespace(output=tmp_path)), []

    def work() -> dict[str, Any]:
        calls.append(1)
        return {"number": len(calls)}

    assert [runs.once("a", {}, work, again=again)["number"] for again in (False, True, False)] == [1, 2, 2]
