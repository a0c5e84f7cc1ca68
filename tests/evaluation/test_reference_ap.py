"""The darknet weights score what the data's SOURCES.md says, within 0.01."""

from __future__ import annotations

from pathlib import Path

import pytest

from sj_lowlat.data import CocoDataset, VocDataset
from sj_lowlat.evaluation import evaluate
from sj_lowlat.models import darknet, tiny_yolov3


@pytest.fixture(scope="module")
def coco(data_dir: Path) -> CocoDataset:
    folder = data_dir / "coco-subset"
    return CocoDataset(folder / "annotations" / "instances_val2017.json", folder / "val2017")


def test_coco_subset(data_dir: Path, coco: CocoDataset) -> None:
    net = tiny_yolov3(weights=data_dir / "darknet" / "yolov3-tiny.weights").eval()
    result = evaluate(net, coco, batch_size=4).final
    assert result.images == 798
    assert result.map50 == pytest.approx(0.319, abs=0.01)
    assert result.map == pytest.approx(0.144, abs=0.01)


def test_voc_subset_by_shared_class_names(data_dir: Path) -> None:
    net = tiny_yolov3(weights=data_dir / "darknet" / "yolov3-tiny.weights").eval()
    result = evaluate(net, VocDataset(data_dir / "voc-subset"), protocol="voc", batch_size=4).final
    assert result.images == 400 and len(result.per_class) == 20
    assert result.map50 == pytest.approx(0.592, abs=0.01)


def test_published_anchor_mask_halves_the_accuracy(data_dir: Path, coco: CocoDataset) -> None:
    few = coco.subset(range(0, 798, 8))
    folder = data_dir / "darknet"
    scores = []
    for cfg in ("yolov3-tiny-mask123.cfg", "yolov3-tiny.cfg"):
        net = darknet(folder / cfg, folder / "yolov3-tiny.weights").eval()
        scores.append(evaluate(net, few, batch_size=4).final.map50)
    default = tiny_yolov3(weights=folder / "yolov3-tiny.weights").eval()
    assert evaluate(default, few, batch_size=4).final.map50 == pytest.approx(scores[0], abs=1e-6)
    assert scores[1] < 0.7 * scores[0]
