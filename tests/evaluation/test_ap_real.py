from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest
import torch

from sj_lowlat.class_names import COCO_CLASSES, VOC_CLASSES, match_classes
from sj_lowlat.data import CocoDataset, Target, VocDataset, ground_truth
from sj_lowlat.detect.detections import Detections
from sj_lowlat.evaluation.coco_ap import coco_ap
from sj_lowlat.evaluation.voc_ap import voc_ap


def _jittered(target: Target, seed: int) -> Detections:
    """The truth, shaken, with some wrong labels and random scores."""
    draw = torch.Generator().manual_seed(seed)
    boxes = target.boxes.repeat(2, 1)
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    boxes = boxes + 0.12 * sides * torch.randn(boxes.shape, generator=draw)
    boxes = torch.cat([boxes[:, :2], torch.maximum(boxes[:, 2:], boxes[:, :2] + 1)], dim=1)
    labels = target.labels.repeat(2)
    wrong = torch.rand(labels.shape, generator=draw) < 0.2
    labels = torch.where(wrong, torch.randint(0, 80, labels.shape, generator=draw), labels)
    return Detections(boxes, torch.rand(labels.shape, generator=draw), labels)


def test_coco_ap_equals_pycocotools_on_the_json(data_dir: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    folder = data_dir / "coco-subset"
    path = folder / "annotations/instances_val2017.json"
    data = CocoDataset(path, folder / "val2017").subset(range(0, 798, 4))
    assert any(bool(target.crowd.any()) for target in ground_truth(data))
    detections = [_jittered(target, seed) for seed, target in enumerate(ground_truth(data))]
    rows = [
        {
            "image_id": target.image_id,
            "category_id": data.category_ids[int(label)],
            "bbox": [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])],
            "score": float(score),
        }
        for target, found in zip(ground_truth(data), detections, strict=True)
        for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        official = COCO(str(path))
        run = COCOeval(official, official.loadRes(rows), "bbox")
        run.params.imgIds = [target.image_id for target in ground_truth(data)]
        run.evaluate()
        run.accumulate()
        run.summarize()
    result = coco_ap(data, detections)
    assert 0.1 < result.map50 < 0.9
    assert (result.map, result.map50) == pytest.approx(tuple(run.stats[:2]), abs=1e-4)


def test_coco_labels_score_voc_by_name(data_dir: Path) -> None:
    data = VocDataset(data_dir / "voc-subset")
    back = match_classes(VOC_CLASSES, COCO_CLASSES)
    detections = [
        Detections(
            target.boxes,
            torch.full((len(target),), 0.9),
            torch.tensor([back[int(label)] for label in target.labels]),
        )
        for target in ground_truth(data)
    ]
    for method in ("11-point", "all-point"):
        result = voc_ap(data, detections, method, class_map=match_classes(COCO_CLASSES, VOC_CLASSES))  # type: ignore[arg-type]
        assert (
            result.map50 == pytest.approx(1.0)
            and set(result.per_class) == set(VOC_CLASSES)
            and result.images == 400
        )
