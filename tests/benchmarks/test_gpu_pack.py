"""What is packed for a machine with a GPU, and a training that ends in time."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from sj_lowlat import checkpoint

FOLDER = Path(__file__).parents[2] / "benchmarks"


def test_packed_photos_train(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    gpu = importlib.import_module("gpu")
    data, packed = tmp_path / "data", tmp_path / "packed"
    (data / "pictures").mkdir(parents=True)
    (data / "darknet").mkdir()
    shutil.copy(data_dir / "darknet" / "yolov3-tiny.weights", data / "darknet")
    photos = sorted((data_dir / "coco-subset" / "train2017").iterdir())[:4]
    for photo in photos:
        shutil.copy(photo, data / "pictures")

    gpu.main(["pack", "--data", str(data), "--output", str(packed), "--side", "96"])
    small = sorted((packed / "pictures").iterdir())
    for before, after in zip(photos, small, strict=True):
        with Image.open(before) as old, Image.open(after) as new:
            assert max(new.size) == 96
            assert new.width / new.height == pytest.approx(old.width / old.height, rel=0.02)
    weights = "darknet/yolov3-tiny.weights"
    assert (packed / weights).read_bytes() == (data_dir / weights).read_bytes()

    plan = json.loads((FOLDER / "configs" / "snn_tiny_yolov3_coco.json").read_text())
    plan |= {"calibration_images": 2, "calibration_size": 64}
    plan["finetune"] |= {"batch_size": 2}
    plan["stages"][0] |= {"size": 64}
    plan["stages"].append({"name": "fewer", "iterations": 600, "size": 64, "lr": 1e-4, "spike_weight": 0.1})
    written = tmp_path / "plan.json"
    written.write_text(json.dumps(plan))
    options = ["--plan", str(written), "--output", str(tmp_path / "run"), "--workers", "0"]
    gpu.main(["train", "--data", str(packed), "--seconds", "1", "--trial", "4", *options])
    # too little time: as many iterations as the trial has
    for stage in ("quant16", "fewer"):
        log = (tmp_path / "run" / stage / "log.jsonl").read_text().splitlines()
        assert json.loads(log[-1])["iteration"] == 4
    assert checkpoint.load(tmp_path / "run" / "quant16").levels == 16
    assert not (tmp_path / "run" / "trial").exists()
