from __future__ import annotations

import json
from pathlib import Path

import pytest

from sj_lowlat.class_names import COCO_CLASSES, COCO_IDS, VOC_CLASSES, match_classes
from sj_lowlat.errors import InputError


def test_tables_equal_the_official_json(data_dir: Path) -> None:
    record = json.loads((data_dir / "coco-subset/annotations/instances_val2017.json").read_text())
    assert [(row["id"], row["name"]) for row in record["categories"]] == list(
        zip(COCO_IDS, COCO_CLASSES, strict=True)
    )


def test_darknet_names_are_coco_in_order(data_dir: Path) -> None:
    names = (data_dir / "darknet/coco.names").read_text().split("\n")[:80]
    assert match_classes(names, COCO_CLASSES) == {label: label for label in range(80)}


def test_all_voc_classes_are_in_coco() -> None:
    pairs = {VOC_CLASSES[a]: COCO_CLASSES[b] for a, b in match_classes(VOC_CLASSES, COCO_CLASSES).items()}
    assert len(VOC_CLASSES) == len(pairs) == 20
    renamed = {a: b for a, b in pairs.items() if a != b}
    assert renamed == {
        "aeroplane": "airplane",
        "motorbike": "motorcycle",
        "sofa": "couch",
        "pottedplant": "potted plant",
        "diningtable": "dining table",
        "tvmonitor": "tv",
    }


def test_unmatched_classes_are_absent() -> None:
    assert match_classes(["tree", "Dining_Table", "sofa"], ["couch", "person", "dining table"]) == {
        1: 2,
        2: 0,
    }


def test_nothing_in_common_is_an_error() -> None:
    with pytest.raises(InputError, match=r"none of the 1 source classes \(tree\)"):
        match_classes(["tree"], COCO_CLASSES)
