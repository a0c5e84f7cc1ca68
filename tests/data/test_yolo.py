"""Labels in YOLO's format, in the layouts that people have."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sj_lowlat.data import CocoDataset, DetectionDataset, TrafficDataset, YoloDataset, ground_truth
from sj_lowlat.data.yolo_labels import read_labels
from sj_lowlat.detect import Detections
from sj_lowlat.errors import InputError
from sj_lowlat.evaluation import coco_ap, evaluate
from sj_lowlat.models import snn_tiny_yolov3

NAMES = "names: [cat, dog]\n"


def _picture(path: Path, size: tuple[int, int] = (40, 20), **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (10, 20, 30)).save(path, **options)


def _text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _one(root: Path, line: str, yaml: str = f"val: images/val\n{NAMES}") -> Path:
    """A set of one picture; the folder."""
    _picture(root / "images/val/a.png")
    _text(root / "labels/val/a.txt", line)
    _text(root / "data.yaml", yaml)
    return root


def _as_yolo(data: CocoDataset, root: Path) -> None:
    """The boxes of a data set as label files: the other way round than the reader."""
    for record, target in zip(data.images, ground_truth(data), strict=True):
        width, height = record["width"], record["height"]
        lines = []
        for (x1, y1, x2, y2), label in zip(target.boxes.tolist(), target.labels.tolist(), strict=True):
            numbers = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height
            lines.append(" ".join([str(label), *(f"{number:.9f}" for number in numbers)]))
        _text(root / "labels" / Path(record["file_name"]).with_suffix(".txt"), "\n".join(lines))


def test_the_same_scenes_as_coco_and_as_yolo(tmp_path: Path) -> None:
    annotations = TrafficDataset(6, size=96, seed=3).write_coco(tmp_path)
    coco = CocoDataset(annotations, tmp_path / "images")
    _as_yolo(coco, tmp_path)
    _text(tmp_path / "data.yaml", f"val: images\nnames: {json.dumps(list(coco.class_names))}\n")
    yolo = YoloDataset(tmp_path)
    assert isinstance(yolo, DetectionDataset) and yolo.class_names == coco.class_names
    assert len(yolo) == len(coco) == 6 and set(yolo.notes.values()) == {0}
    chance, found = torch.Generator().manual_seed(0), []
    for ours, theirs in zip(yolo, coco, strict=True):  # type: ignore[call-overload]
        assert torch.equal(ours.image, theirs.image) and torch.equal(ours.labels, theirs.labels)
        torch.testing.assert_close(ours.boxes, theirs.boxes, atol=1e-4, rtol=0)
        assert ours.boxes.dtype == torch.float32 and not ours.crowd.any() and not ours.difficult.any()
        shifted = theirs.boxes + torch.randn(theirs.boxes.shape, generator=chance) * 2
        found.append(Detections(shifted, torch.rand(len(shifted), generator=chance), theirs.labels))
    for ours, theirs in zip(ground_truth(yolo), ground_truth(coco), strict=True):
        torch.testing.assert_close(ours.boxes, theirs.boxes, atol=1e-4, rtol=0)
    ours, theirs = coco_ap(yolo, found), coco_ap(coco, found)
    assert ours == theirs and 0.1 < ours.map50 < 1


def test_real_pictures_as_coco_and_as_yolo(data_dir: Path, tmp_path: Path) -> None:
    folder = data_dir / "coco-subset"
    coco = CocoDataset(folder / "annotations/instances_val2017.json", folder / "val2017").subset(range(20))
    (tmp_path / "images").symlink_to(folder / "val2017")
    _as_yolo(coco, tmp_path)
    listed = _text(tmp_path / "few.txt", "".join(f"./images/{row['file_name']}\n" for row in coco.images))
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(coco.class_names))
    _text(tmp_path / "data.yaml", f"path: /content/coco\nval: {listed.name}\nnc: 80\nnames:\n{names}")
    yolo = YoloDataset(tmp_path / "data.yaml", "val")
    assert yolo.class_names == coco.class_names
    for ours, theirs in zip(ground_truth(yolo), ground_truth(coco), strict=True):
        torch.testing.assert_close(ours.boxes, theirs.boxes, atol=1e-3, rtol=0)
        assert torch.equal(ours.labels, theirs.labels)
    assert torch.equal(yolo[3].image, coco[3].image)


box = st.tuples(*[st.floats(0.02, 0.98)] * 4).map(lambda v: (min(v[0], v[2]), min(v[1], v[3]),
                                                             max(v[0], v[2]), max(v[1], v[3])))  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, 4), box), max_size=6), st.booleans())
def test_boxes_and_polygons(tmp_path_factory: Any, objects: list[Any], polygons: bool) -> None:
    """The corners of a box are a polygon with that box."""
    lines = []
    for label, (x1, y1, x2, y2) in objects:
        corners = (x1, y1, x2, y1, x2, y2, x1, y2, (x1 + x2) / 2, y2)
        numbers = corners if polygons else ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
        lines.append(" ".join(map(repr, (label, *numbers))))
    file = _text(tmp_path_factory.mktemp("labels") / "a.txt", "\n\n".join(lines))
    boxes, labels = read_labels(file, 5)
    assert labels == [label for label, _ in objects]
    np.testing.assert_allclose(boxes, np.array([box for _, box in objects]).reshape(-1, 4), atol=1e-12)


def test_no_objects(tmp_path: Path) -> None:
    """An empty label file, and none."""
    _one(tmp_path, "1 0.5 0.5 0.5 1")
    for name in ("b", "c"):
        _picture(tmp_path / f"images/val/{name}.jpg")
    _text(tmp_path / "labels/val/b.txt", "\n")
    data = YoloDataset(tmp_path)
    assert [len(target) for target in ground_truth(data)] == [1, 0, 0]
    assert data[1].boxes.shape == (0, 4) and data[2].labels.dtype == torch.int64
    assert [target.image_id for target in ground_truth(data)] == [f"images/val/{n}" for n in
                                                                  ("a.png", "b.jpg", "c.jpg")]  # fmt: skip
    assert data[0].boxes.tolist() == [[10, 0, 30, 20]] and data[0].labels.tolist() == [1]


def test_boxes_at_the_border(tmp_path: Path) -> None:
    """Reaching out, empty, twice, and outside by a rounding error."""
    lines = ["0 0.9 0.5 0.4 1", "0 0.5 0.5 0 1", "1 0.9 0.5 0.4 1", "0 0.9 0.5 0.4 1",
             "1 1.000001 0.5 1 0.5", "1 -0.005 0.5 0.001 0.1"]  # fmt: skip
    data = YoloDataset(_one(tmp_path, "\n".join(lines)))
    torch.testing.assert_close(
        data[0].boxes, torch.tensor([[28.0, 0, 40, 20], [28, 0, 40, 20], [20, 5, 40, 15]]), atol=1e-4, rtol=0
    )
    assert data.notes == {
        "boxes clipped to the picture": 3,
        "empty boxes dropped": 2,
        "repeated lines dropped": 1,
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.5", "4 numbers; a line is class x_centre"),
        ("0 0.5 0.5 0.5 0.5 0.9", r"6 numbers \(the sixth may be a score"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "8 numbers"),
        ("cat 0.5 0.5 0.1 0.1", "not all numbers"),
        ("0,0.5,0.5,0.1,0.1", "not all numbers"),
        ("2 0.5 0.5 0.1 0.1", "there are the classes 0 to 1"),
        ("-1 0.5 0.5 0.1 0.1", "there are the classes 0 to 1"),
        ("0.5 0.5 0.5 0.1 0.1", "there are the classes 0 to 1"),
        ("nan 0.5 0.5 0.1 0.1", "there are the classes 0 to 1"),
        ("0 20 10 5 5", "divide pixels by the picture's width and height"),
        ("0 0.5 0.5 0.1 1.02", r"must lie in \[0, 1\]"),
        ("0 0.5 0.5 -0.1 0.1", r"must lie in \[0, 1\]"),
        ("0 0.5 nan 0.1 0.1", r"must lie in \[0, 1\]"),
        ("0 0.5 inf 0.1 0.1", r"must lie in \[0, 1\]"),
        ("0 0.1 0.1 0.2 0.2 0.3 7", r"must lie in \[0, 1\]"),
    ],
)
def test_lines_that_are_no_labels(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"labels/val/a\.txt, line 2: '{line[:3]}.* came, .*{message}"):
        YoloDataset(_one(tmp_path, f"0 0.5 0.5 0.1 0.1\n{line}\n"))


def test_coordinates_are_those_of_the_upright_picture(tmp_path: Path) -> None:
    """A phone's photo, stored lying: 40 x 20 stands as 20 x 40."""
    folder, mark = _one(tmp_path, "0 0.5 0.25 0.5 0.5"), Image.Exif()
    mark[0x0112] = 6
    _picture(folder / "images/val/a.png", exif=mark.tobytes())
    data = YoloDataset(folder)
    assert data[0].image.shape == (3, 40, 20)
    assert data[0].boxes.tolist() == data.target(0).boxes.tolist() == [[5, 0, 15, 20]]


class TestLayouts:
    LINE = "1 0.5 0.5 0.5 1"

    def _check(self, data: YoloDataset, *images: str) -> None:
        assert [target.image_id for target in ground_truth(data)] == list(images)
        assert data.class_names == ("cat", "dog")
        assert all(sample.boxes.tolist() == [[10, 0, 30, 20]] for sample in map(data.__getitem__, range(1)))

    @pytest.mark.parametrize(
        "names",
        [
            "names: [cat, dog]",
            "nc: 2\nnames: {0: cat, 1: dog}",
            "names:\n- cat\n- 'dog'",
            "names: {1: dog, 0: cat}",
        ],
    )
    @pytest.mark.parametrize(
        "path",
        [
            "",
            "path: .",
            "path: ./",
            "path: ../datasets/pets",
            "path: /content/pets",
            "path: # here",
            "path: ~",
        ],
    )
    def test_yaml(self, tmp_path: Path, names: str, path: str) -> None:
        _one(tmp_path, self.LINE, f"{path}\ntrain: images/train # none\nval: images/val\ntest:\n{names}\n")
        self._check(YoloDataset(tmp_path / "data.yaml", "val"), "images/val/a.png")

    @pytest.mark.parametrize(
        "places",
        ["images/val", "./images/val/", "../images/val", "[images/val]", "val.txt", "[val.txt, images/val]",
         "images\\val", "lists/val.txt", "images/val/a.png", "{root}/images/val", "absolute.txt"],
    )  # fmt: skip
    def test_sets(self, tmp_path: Path, places: str) -> None:
        _one(tmp_path, self.LINE, f"val: {places.replace('{root}', str(tmp_path))}\n{NAMES}")
        _text(tmp_path / "val.txt", "images/val/a.png\n\n./images/val/a.png\n")
        _text(tmp_path / "lists/val.txt", "../images/val/a.png")
        _text(tmp_path / "absolute.txt", f"{tmp_path}/images/val/a.png\r\n")
        self._check(YoloDataset(tmp_path), "images/val/a.png")

    def test_a_root_below_the_yaml(self, tmp_path: Path) -> None:
        _one(tmp_path / "pets", self.LINE)
        _text(tmp_path / "pets.yaml", f"path: pets\nvalidation: images/val\n{NAMES}")
        self._check(YoloDataset(tmp_path, "valid"), "images/val/a.png")

    def test_a_list_in_another_folder(self, tmp_path: Path) -> None:
        """Names in it may be relative to it."""
        _one(tmp_path, self.LINE, f"val: images/list.txt\n{NAMES}")
        _text(tmp_path / "images/list.txt", "./val/a.png\n")
        self._check(YoloDataset(tmp_path), "images/val/a.png")

    def test_sets_beside_each_other(self, tmp_path: Path) -> None:
        """As exported by annotation services."""
        for name in ("train", "valid"):
            _picture(tmp_path / name / "images/a.png")
            _text(tmp_path / name / "labels/a.txt", self.LINE)
        _text(
            tmp_path / "data.yaml",
            f"train: ../train/images\nval: ../valid/images\n{NAMES}roboflow: {{a: b}}\n",
        )
        for name, folder in (("train", "train"), ("val", "valid"), ("valid", "valid")):
            self._check(YoloDataset(tmp_path, name), f"{folder}/images/a.png")
        with pytest.raises(InputError, match="no set was given: .* the sets train, val: give one of them"):
            YoloDataset(tmp_path)
        with pytest.raises(InputError, match="set 'test' came: .*has the sets train, val"):
            YoloDataset(tmp_path, "test")

    def test_folders_alone(self, tmp_path: Path) -> None:
        for name in ("x/b.png", "a.jpg"):
            _picture(tmp_path / "images" / name)
            _text(tmp_path / "labels" / Path(name).with_suffix(".txt"), self.LINE)
        _text(tmp_path / "classes.txt", "cat\ndog\n")
        self._check(YoloDataset(tmp_path), "images/a.jpg", "images/x/b.png")
        for name in ("train2017", "val2017"):
            _picture(tmp_path / "images" / name / "c.png")
            _text(tmp_path / "labels" / name / "c.txt", self.LINE)
        self._check(YoloDataset(tmp_path, "val"), "images/val2017/c.png")
        _picture(tmp_path / "images/val/c.png")
        with pytest.raises(InputError, match="several sets val: write a data.yaml"):
            YoloDataset(tmp_path, "val")

    def test_labels_beside_pictures(self, tmp_path: Path) -> None:
        _picture(tmp_path / "a.png")
        _text(tmp_path / "a.txt", self.LINE)
        _text(tmp_path / "classes.txt", "cat\r\ndog")
        self._check(YoloDataset(tmp_path), "a.png")

    @pytest.mark.parametrize(
        ("data", "names", "listed", "picture"),
        [
            ("obj.data", "obj.names", "train.txt", "img/a.png"),
            ("obj.data", "data/obj.names", "data/train.txt", "data/obj_train_data/a.png"),
            ("data/obj.data", "data/obj.names", "data/train.txt", "data/obj/a.png"),
            ("cfg/obj.data", "data/obj.names", "data/train.txt", "data/obj/a.png"),
        ],
    )
    @pytest.mark.parametrize("prefix", [True, False])
    def test_darknet(
        self, tmp_path: Path, data: str, names: str, listed: str, picture: str, prefix: bool
    ) -> None:
        """As darknet and annotation tools write them: ``data/`` may be a folder, or only a name."""
        cut = data == "obj.data" and not prefix

        def place(name: str) -> Path:
            return tmp_path / (name.removeprefix("data/") if cut else name)

        _picture(place(picture))
        _text(place(picture).with_suffix(".txt"), self.LINE)
        _text(place(names), "cat\ndog\n\n")
        _text(place(listed), f"{picture}\n")
        file = _text(
            tmp_path / data,
            f"# of darknet\nclasses= 2\ntrain  = {listed}\nvalid = none.txt\nnames = {names}\nbackup = b/\n",
        )
        found = YoloDataset(file, "train")
        assert len(found) == 1 and found.class_names == ("cat", "dog")
        assert found.images[0].samefile(place(picture)) and found[0].boxes.tolist() == [[10, 0, 30, 20]]

    def test_voc_folders(self, tmp_path: Path) -> None:
        """darknet's script for VOC puts labels beside JPEGImages."""
        _picture(tmp_path / "VOC2007/JPEGImages/a.jpg")
        _text(tmp_path / "VOC2007/labels/a.txt", self.LINE)
        _text(tmp_path / "train.txt", "VOC2007/JPEGImages/a.jpg")
        _text(tmp_path / "voc.names", "cat\ndog")
        file = _text(tmp_path / "voc.data", "train = train.txt\nnames = voc.names")
        self._check(YoloDataset(file), "VOC2007/JPEGImages/a.jpg")


class TestRefused:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "is no data.yaml"),
            ("- a", "is no data.yaml"),
            ("val: images/val", r"needs names, a list of classes such as names: \[cat, dog\]"),
            ("val: images/val\nnames: cat", "needs names"),
            ("val: images/val\nnames: []", "needs names"),
            ("val: images/val\nnames: {1: cat, 2: dog}", "needs names"),
            ("val: images/val\nnames: [[cat], dog]", "needs names"),
            ("val: images/val\nnames: {a: cat}", "needs names"),
            (f"val: images/val\nnc: 3\n{NAMES}", "says nc: 3 and names 2 classes"),
            (f"val: images/val\nnc: [1]\n{NAMES}", "says nc: what is no number and names 2 classes"),
            (NAMES, "names no pictures: give train, val or test"),
            (f"val: {{a: b}}\n{NAMES}", "val is neither a folder"),
            (f"val: [[a]]\n{NAMES}", "val is neither a folder"),
            (f"val: images/val\nkpt_shape: [17, 3]\n{NAMES}", "key points"),
            (f"val: images/val: x\n{NAMES}", "damaged or no YAML"),
            ("a: " + "[" * 5000, "nested too deeply"),
            ("&a [*a]", "damaged or no YAML"),
            ("? [a]\n: b", "damaged or no YAML"),
            ("a: !!python/object/apply:os.system ['true']", "needs names"),
            ("\x01", "damaged or no YAML"),
            ("#" * 2**19 + "#", "more than 524288 bytes"),
        ],
    )
    def test_yaml(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(InputError, match=message) as error:
            YoloDataset(_one(tmp_path, "", text))
        assert "data.yaml" in str(error.value) and len(str(error.value)) < 600

    def test_merge_keys_do_not_grow(self, tmp_path: Path) -> None:
        """Thirty lines, each twice the one before."""
        grown = "\n".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}" for i in range(1, 30))
        _one(tmp_path, "0 0.5 0.5 1 1", f"a0: &a0 {{x: y}}\n{grown}\nval: images/val\n{NAMES}")
        assert len(YoloDataset(tmp_path)) == 1

    def test_aliases_do_not_grow(self, tmp_path: Path) -> None:
        """Of a list in a list in a list, ten times each, which would be printed."""
        grown = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30))
        text = f"a0: &a0 [x]\n{grown}\nval: images/val\n"
        for key in (
            f"nc: *a29\n{NAMES}",
            "names: *a29",
            f"train: *a29\n{NAMES}",
            f"path: *a29\nval: x\n{NAMES}",
        ):
            with pytest.raises((InputError, FileNotFoundError)):
                YoloDataset(_one(tmp_path, "", text + key), "val")

    def test_no_device_is_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "data.yaml")
        with pytest.raises(InputError, match="is a device: give a data.yaml"):
            YoloDataset(tmp_path / "data.yaml")

    def test_classes_stay_text(self, tmp_path: Path) -> None:
        data = YoloDataset(_one(tmp_path, "1 0.5 0.5 1 1", "val: images/val\nnames: [no, 7, 0x1, on]\n"))
        assert data.class_names == ("no", "7", "0x1", "on")

    @pytest.mark.parametrize(
        "name", ["../../secret", "/etc", "images/../../secret", "../../../etc", "list.txt", "/secret/a.png"]
    )
    def test_names_that_leave_the_folder(self, tmp_path: Path, name: str) -> None:
        _picture(tmp_path / "secret/a.png")
        _text(tmp_path / "secret/a.txt", "0 0.5 0.5 1 1")
        root = _one(tmp_path / "data", "", f"val: {name}\n{NAMES}")
        _text(root / "list.txt", f"{tmp_path}/secret/a.png")
        with pytest.raises(InputError, match="names the file .*, which is not in .*data: files must lie in"):
            YoloDataset(root)

    def test_a_path_that_leaves_the_folder(self, tmp_path: Path) -> None:
        """It is where the data lay once; what is said of another folder is not looked for there."""
        _one(tmp_path / "other", "")
        _text(tmp_path / "own/data.yaml", f"path: {tmp_path / 'other'}\nval: images/val\n{NAMES}")
        with pytest.raises(
            FileNotFoundError, match=r"set val at images/val, which is not in .*own: .*put data\.yaml there"
        ):
            YoloDataset(tmp_path / "own")

    def test_what_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="no data at .*: give a data.yaml"):
            YoloDataset(tmp_path / "none")
        with pytest.raises(InputError, match=r"has neither data\.yaml nor classes\.txt"):
            YoloDataset(tmp_path)
        with pytest.raises(InputError, match="does not describe data in YOLO's format"):
            YoloDataset(_text(tmp_path / "a.txt", ""))
        with pytest.raises(InputError, match=r"classes\.txt is empty"):
            YoloDataset(_text(tmp_path / "classes.txt", "\n").parent)
        _one(tmp_path, "", f"val: list.txt\n{NAMES}")
        _text(tmp_path / "list.txt", "".join(f"images/val/{name}.png\n" for name in "abcde"))
        with pytest.raises(
            FileNotFoundError, match=r"4 of the 5 pictures .* are not in .* \(images/val/b.png, .*, \.\.\.\)"
        ):
            YoloDataset(tmp_path)
        _text(tmp_path / "list.txt", "\n")
        with pytest.raises(InputError, match="the set val of .* holds no pictures"):
            YoloDataset(tmp_path)
        for name in ("a.yaml", "b.yaml"):
            _text(tmp_path / "several" / name, "")
        with pytest.raises(InputError, match=r"holds a\.yaml, b\.yaml: give one of them"):
            YoloDataset(tmp_path / "several")

    def test_not_one_label_file(self, tmp_path: Path) -> None:
        """The labels lie elsewhere: they are not taken for empty."""
        folder = _one(tmp_path, "")
        os.rename(folder / "labels", folder / "annotations")
        with pytest.raises(
            FileNotFoundError,
            match=r"none of the 1 pictures .* for images/val/a\.png it would be labels/val/a\.txt, or",
        ):
            YoloDataset(folder)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("train = a.txt", "needs a line such as names = obj.names"),
            ("names = obj.names\nclasses = 3\ntrain = a.txt", "says classes = 3, and obj.names names 2"),
            ("names = obj.names", "names no pictures: give train or valid"),
        ],
    )
    def test_darknet(self, tmp_path: Path, text: str, message: str) -> None:
        _text(tmp_path / "obj.names", "cat\ndog")
        with pytest.raises(InputError, match=message):
            YoloDataset(_text(tmp_path / "obj.data", text))
        with pytest.raises(FileNotFoundError, match="names none.names, which is not in"):
            YoloDataset(_text(tmp_path / "obj.data", "names = none.names\ntrain = a.txt"))

    def test_files_that_are_too_long(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"a\.txt has more than 4194304 bytes"):
            YoloDataset(_one(tmp_path, "0 0.5 0.5 1 1\n" * 300_000))


def test_a_broken_picture_is_told_and_the_rest_is_scored(tmp_path: Path) -> None:
    """Cut off in its pixels, and in its header."""
    scenes = TrafficDataset(3, size=64, seed=3)
    coco = CocoDataset(scenes.write_coco(tmp_path), tmp_path / "images")
    _as_yolo(coco, tmp_path)
    _text(tmp_path / "data.yaml", f"val: images\nnames: {json.dumps(list(coco.class_names))}\n")
    for number, length in ((1, 1500), (2, 20)):
        file = tmp_path / "images" / coco.images[number]["file_name"]
        Image.open(file).save(file, "JPEG")
        file.write_bytes(file.read_bytes()[:length])
    data = YoloDataset(tmp_path)
    for number in (1, 2):
        with pytest.raises(InputError, match="cannot read the image"):
            data[number]
    assert data.target(1).boxes.max() > 1 and data.target(2).boxes.max() <= 1
    net = snn_tiny_yolov3(len(data.class_names), width=0.125, input_size=64, class_names=data.class_names)
    result = evaluate(net, data)
    assert [failed["image"] for failed in result.failed] == [1, 2] and result.final.images == 3
