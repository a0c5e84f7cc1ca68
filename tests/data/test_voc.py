from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from PIL import Image

from sj_lowlat.class_names import VOC_CLASSES
from sj_lowlat.data import DetectionDataset, VocDataset, ground_truth
from sj_lowlat.errors import InputError

_OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{box[0]}</xmin>
<ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox>{extra}</object>"""
_PART = (
    "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
)


def _write(root: Path, objects: str, names: str = "one\n") -> Path:
    base = root / "VOCdevkit/VOC2007"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (base / folder).mkdir(parents=True)
    (base / "ImageSets/Main/test.txt").write_text(names)
    Image.new("RGB", (40, 30)).save(base / "JPEGImages/one.jpg")
    size = "<size><width>40</width><height>30</height></size>"
    (base / "Annotations/one.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    return base


def test_boxes_are_edges_counted_from_zero(tmp_path: Path) -> None:
    first = _OBJECT.format(name="dog", difficult=0, box=(1, 1, 40, 30), extra="")
    second = _OBJECT.format(name="person", difficult=1, box=(11, 6, 11, 8), extra=_PART)
    _write(tmp_path, first + second)
    data = VocDataset(tmp_path)
    assert isinstance(data, DetectionDataset) and data.class_names == VOC_CLASSES
    sample = data[0]
    # the whole picture of 40 x 30 px, then a box of 1 x 3 px
    assert sample.boxes.tolist() == [[0, 0, 40, 30], [10, 5, 11, 8]]
    assert [VOC_CLASSES[label] for label in sample.labels] == ["dog", "person"]
    assert sample.difficult.tolist() == [False, True] and not sample.crowd.any()
    assert sample.image_id == "one" and sample.image.shape == (3, 30, 40)


def test_one_object_none_and_out_of_range(tmp_path: Path) -> None:
    base = _write(tmp_path, _OBJECT.format(name="cow", difficult=0, box=(0, 0, 44, 33), extra=""))
    assert VocDataset(tmp_path)[0].boxes.tolist() == [[0, 0, 40, 30]]
    (base / "Annotations/one.xml").write_text(
        "<annotation><size><width>40</width><height>30</height></size></annotation>"
    )
    assert VocDataset(tmp_path)[0].boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        (_OBJECT.format(name="tree", difficult=0, box=(1, 1, 2, 2), extra=""), "names tree"),
        (_OBJECT.format(name="dog", difficult=0, box=(90, 1, 99, 2), extra=""), "without area"),
        (_OBJECT.format(name="dog", difficult=0, box=("a", 1, 99, 2), extra=""), "not a VOC annotation"),
        ("<object>", "not a VOC annotation"),
        ("<object><name>dog</name></object>", "not a VOC annotation"),
    ],
)
def test_unusable_xml(tmp_path: Path, objects: str, message: str) -> None:
    _write(tmp_path, objects)
    with pytest.raises(InputError, match=message):
        VocDataset(tmp_path)


def test_missing_parts(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="VOCdevkit/VOC2007"):
        VocDataset(tmp_path)
    base = _write(tmp_path, "", names="one\ntwo\n")
    with pytest.raises(FileNotFoundError, match=r"2 files .*two.jpg"):
        VocDataset(tmp_path)
    with pytest.raises(FileNotFoundError, match="val.txt"):
        VocDataset(tmp_path, "val")
    (base / "ImageSets/Main/test.txt").write_text("")
    with pytest.raises(InputError, match="list .* is empty"):
        VocDataset(tmp_path)


@pytest.mark.parametrize(("image_set", "year"), [("test", "2012"), ("test", "1999"), ("all", "2007")])
def test_unknown_sets(tmp_path: Path, image_set: str, year: str) -> None:
    with pytest.raises(InputError, match="only for 2007"):
        VocDataset(tmp_path, image_set, year)


def test_broken_jpeg(tmp_path: Path) -> None:
    base = _write(tmp_path, "")
    (base / "JPEGImages/one.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(InputError, match="cannot read the image"):
        VocDataset(tmp_path)[0]


def test_real_subset_against_its_xml(data_dir: Path) -> None:
    root = data_dir / "voc-subset"
    data = VocDataset(root)
    assert len(data) == 400 and len(VocDataset(root, "trainval")) == 700
    for target in ground_truth(data)[::40]:
        tree = ElementTree.parse(root / f"VOCdevkit/VOC2007/Annotations/{target.image_id}.xml").getroot()
        objects = tree.findall("object")
        names = [thing.findtext("name") for thing in objects]
        assert [VOC_CLASSES[label] for label in target.labels] == names
        assert target.difficult.tolist() == [thing.findtext("difficult") == "1" for thing in objects]
        widths = [
            float(thing.findtext("bndbox/xmax") or "") - float(thing.findtext("bndbox/xmin") or "") + 1
            for thing in objects
        ]
        torch.testing.assert_close(target.boxes[:, 2] - target.boxes[:, 0], torch.tensor(widths))
    sample = data[0]
    assert (sample.boxes[:, 2] <= sample.image.shape[2]).all() and (
        sample.boxes[:, 3] <= sample.image.shape[1]
    ).all()
