"""Every reader tells what is wrong with a file in an error of its own, whatever the file holds."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from sj_lowlat import checkpoint, models, pretrained
from sj_lowlat.cli.options import finer_factors
from sj_lowlat.cli.sources import open_data
from sj_lowlat.data import CocoDataset, VocDataset
from sj_lowlat.data.images import image_size, read_image
from sj_lowlat.errors import InputError
from sj_lowlat.files import inside, parse_json, read_json
from sj_lowlat.graph import from_rows
from sj_lowlat.network.modules import root_from_rows
from sj_lowlat.schedule import Schedule
from sj_lowlat.spike_camera import SpikeDataset, open_stream
from sj_lowlat.zoo import open_network

DEEP = "[" * 100_000
HUGE = 10**400
PREPARE = {"verb": "prepare", "levels": 4, "per_channel": False}


def _png(width: int, height: int, data: bytes = b"") -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DEEP, "nested too deeply"),
        ("9" * 5000, "more than 64 bits"),
        (str(2**63), "more than 64 bits"),
        ('{"a": 1, "b": 2, "a": 3}', "key 'a' twice"),
        ("", "Expecting value"),
        (b"\xff", "can't decode byte 0xff"),
    ],
)
def test_json(text: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=f"^x is damaged or no JSON .*{message}.*: give a toy$"):
        parse_json(text, "x", "a toy")


def test_json_that_is_right(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + json.dumps({"a": [2**63 - 1, -1.5, None]}).encode())
    assert read_json(tmp_path / "a.json", "a toy") == {"a": [2**63 - 1, -1.5, None]}
    with pytest.raises(FileNotFoundError, match="no file at .*: give a toy"):
        read_json(tmp_path, "a toy")


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "b/../../a", "..", "./../a"])
def test_names_that_leave_a_folder(name: str) -> None:
    with pytest.raises(InputError, match="x names the file .*, which is not in f"):
        inside(Path("f"), name, "x")


def test_names_that_stay_in_a_folder(tmp_path: Path) -> None:
    assert inside(Path("f"), "b/../..a", "x") == Path("f/..a") and inside(Path("f"), "b/c", "x") == Path(
        "f/b/c"
    )
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / "link").symlink_to(tmp_path)  # the user's own
    assert inside(tmp_path / "shelf", "link/shelf", "x").is_dir()
    # the kernel would follow the link before it goes up
    assert inside(tmp_path / "shelf", "link/../a", "x") == tmp_path / "shelf" / "a"


class TestCoco:
    GOOD: dict[str, Any] = {
        "images": [{"id": 1, "file_name": "a.png", "width": 4, "height": 4}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 2, 2]}],
        "categories": [{"id": 1, "name": "x"}],
    }
    CLIP: dict[str, Any] = {
        "images": [
            {
                "id": 1,
                "file_name": "a.dat",
                "width": 8,
                "height": 8,
                "frames": 1,
                "frame": 0,
                "frame_rate": 1.0,
                "rate_at_white": 0.6,
            }
        ],
        "annotations": [],
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "vehicle"}],
    }

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
        (tmp_path / "a.dat").write_bytes(bytes(8))
        return tmp_path

    @staticmethod
    def _write(folder: Path, record: dict[str, Any], place: tuple[str, str], value: Any) -> Path:
        record = json.loads(json.dumps(record))
        record[place[0]][0][place[1]] = value
        (folder / "a.json").write_text(json.dumps(record))
        return folder / "a.json"

    @pytest.mark.parametrize(
        ("place", "value", "message"),
        [
            (("images", "width"), HUGE, "more than 64 bits"),
            (("images", "width"), -1, "image 1 is -1 x 4 px"),
            (("images", "height"), 1e300, "image 1 is 4 x 1e.300 px"),
            (("images", "file_name"), "../a.png", "which is not in"),
            (("images", "file_name"), 3, "is not an instances JSON"),
            (("images", "id"), [], "is not an instances JSON"),
            (("annotations", "bbox"), [0, HUGE, 2, 2], "more than 64 bits"),
            (("annotations", "bbox"), 3, "is not an instances JSON"),
            (("categories", "id"), float("inf"), "OverflowError"),
        ],
    )
    def test_values(self, folder: Path, place: tuple[str, str], value: Any, message: str) -> None:
        assert CocoDataset(self._write(folder, self.GOOD, ("images", "id"), 1), folder)[0].boxes.shape == (
            1,
            4,
        )
        with pytest.raises(InputError, match=message):
            CocoDataset(self._write(folder, self.GOOD, place, value), folder)

    def test_a_name_that_no_file_can_have(self, folder: Path) -> None:
        for name in ("é" * 300, "a\0b"):
            with pytest.raises(FileNotFoundError, match="1 of the 1 images"):
                CocoDataset(self._write(folder, self.GOOD, ("images", "file_name"), name), folder)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("rate_at_white", 0),
            ("rate_at_white", "x"),
            ("rate_at_white", 1.5),
            ("frame_rate", float("nan")),
            ("frame", 0.5),
            ("frame", -1),
            ("frames", True),
        ],
    )
    def test_clips(self, folder: Path, field: str, value: Any) -> None:
        assert len(SpikeDataset(self._write(folder, self.CLIP, ("images", "id"), 1)).clip(0).stream) == 1
        with pytest.raises(InputError, match=f"image 1 has {field} "):
            SpikeDataset(self._write(folder, self.CLIP, ("images", field), value))

    def test_boxes_behind_the_last_frame(self, folder: Path) -> None:
        with pytest.raises(InputError, match="boxes at frame 1 of 1"):
            SpikeDataset(self._write(folder, self.CLIP, ("images", "frame"), 1))

    def test_clips_outside_the_folder(self, folder: Path) -> None:
        (folder / "inner").mkdir()
        with pytest.raises(InputError, match="which is not in"):
            SpikeDataset(
                self._write(folder, self.CLIP, ("images", "file_name"), "../a.dat"), folder / "inner"
            )


class TestVoc:
    SIZE = "<size><width>4</width><height>4</height></size>"
    BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox>"

    @staticmethod
    def _write(root: Path, text: str | bytes, names: str = "1\n") -> None:
        base = root / "VOCdevkit/VOC2007"
        for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
            (base / folder).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(base / "JPEGImages/1.jpg")
        (base / "ImageSets/Main/test.txt").write_text(names)
        (base / "Annotations/1.xml").write_bytes(text if isinstance(text, bytes) else text.encode())

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (
                "<annotation>" + "<object>" * 5000 + "</object>" * 5000 + "</annotation>",
                "KeyError: 'size/width'",
            ),
            ("<?xml version='1.0' encoding='rot13'?><a/>", "its root is 'a'"),
            (
                f"<annotation>{SIZE}<object><name><b/></name>{BOX}</object></annotation>",
                "which VOC does not have",
            ),
            (f"<annotation>{SIZE.replace('4', '1e300')}</annotation>", "size/width is 1e300"),
            (f"<annotation>{SIZE.replace('4', 'nan')}</annotation>", "size/width is nan"),
            ("<!DOCTYPE a [<!ENTITY e 'ha'>]><annotation>&e;</annotation>", "XML entities"),
            ("<annotation>&e;</annotation>", "undefined entity"),
            ("<annotation>" + " " * 2**22, "it is not a VOC annotation"),
            (b"\xff\xfe\xff", "starts as UTF-16 and is not"),
            (b"<a>\0</a>", "zero bytes"),
        ],
    )
    def test_annotations(self, tmp_path: Path, text: str | bytes, message: str) -> None:
        self._write(tmp_path, text)
        with pytest.raises(InputError, match=message):
            VocDataset(tmp_path)

    def test_lists(self, tmp_path: Path) -> None:
        good = f"<annotation>{self.SIZE}<object><name>cat</name>{self.BOX}</object></annotation>"
        self._write(tmp_path / "data", good)
        assert len(VocDataset(tmp_path / "data")[0].boxes) == 1
        Image.new("RGB", (4, 4)).save(tmp_path / "1.jpg")
        (tmp_path / "1.xml").write_text(good)
        for name in ("../../../../1", str(tmp_path / "1")):
            self._write(tmp_path / "data", good, f"{name}\n")
            with pytest.raises(InputError, match="the VOC list under .* names the file .*, which is not in"):
                VocDataset(tmp_path / "data")


class TestPictures:
    @staticmethod
    def _of(kind: str, mode: str = "RGBA") -> bytearray:
        output = io.BytesIO()
        Image.new(mode, (4, 4)).save(output, kind)
        return bytearray(output.getvalue())

    @pytest.mark.parametrize("kind", ["DDS", "PPM", "TGA", "PCX", "SPIDER", "GIF"])
    def test_formats_that_are_not_read(self, tmp_path: Path, kind: str) -> None:
        (tmp_path / "a.png").write_bytes(
            self._of(kind, "F" if kind == "SPIDER" else "P" if kind == "GIF" else "RGB")
        )
        for read in (read_image, image_size):
            with pytest.raises(InputError, match="cannot read the image .*cannot identify"):
                read(tmp_path / "a.png")

    @pytest.mark.parametrize("kind", ["BMP", "JPEG", "PNG", "TIFF", "WEBP"])
    def test_formats_that_are_read(self, tmp_path: Path, kind: str) -> None:
        (tmp_path / "a.png").write_bytes(self._of(kind, "RGB"))
        assert read_image(tmp_path / "a.png").shape == (3, 4, 4) and image_size(tmp_path / "a.png") == (4, 4)

    @pytest.mark.parametrize("side", [5000, 30_000])
    def test_bombs(self, tmp_path: Path, side: int) -> None:
        (tmp_path / "a.png").write_bytes(_png(side, side))
        for read in (read_image, image_size):
            with pytest.raises(InputError, match="are no photograph|decompression bomb"):
                read(tmp_path / "a.png")
        with pytest.raises(InputError, match="is not a picture"):
            open_data(str(tmp_path / "a.png"))

    def test_whatever_a_plugin_raises(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "a.png").write_bytes(self._of("PNG"))
        for error in (NotImplementedError(), AttributeError("x"), MemoryError(), struct.error("y")):

            def load(self: Any, error: Exception = error) -> None:
                raise error

            monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
            with pytest.raises(InputError, match=f"cannot read the image .*{error or type(error).__name__}"):
                read_image(tmp_path / "a.png")

    def test_no_device_is_waited_for(self, tmp_path: Path) -> None:

        os.mkfifo(tmp_path / "a.png")
        for path in (tmp_path / "a.png", Path("/dev/zero"), tmp_path):
            with pytest.raises(InputError, match="is a folder or device"):
                read_image(path)


def _npy(header: str) -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text


def _npz(method: int = zipfile.ZIP_STORED) -> bytearray:
    planes, output = io.BytesIO(), io.BytesIO()
    np.save(planes, np.zeros((2, 3, 4), np.uint8))
    with zipfile.ZipFile(output, "w", method) as archive:
        archive.writestr("spk.npy", planes.getvalue())
    return bytearray(output.getvalue())


def _damaged_lzma() -> bytearray:
    data = _npz(zipfile.ZIP_LZMA)
    at = data.find(b"spk.npy") + 20
    data[at : at + 30] = b"\xff" * 30
    return data


def _name_no_utf8() -> bytearray:
    data = _npz()
    at = data.rfind(b"PK\1\2")
    data[at + 46], data[at + 9] = 0xFD, data[at + 9] | 8
    return data


@pytest.mark.parametrize(
    ("suffix", "make"),
    [
        (".npy", lambda: _npy("-" * 9000 + "1")),
        (".npy", lambda: _npy("{'descr': ((((('u1',),),),),), 'fortran_order': False, 'shape': (1,1,1)}")),
        (".npy", lambda: _npy("{'descr': 'u1', 'fortran_order': False, 'shape': (1, 1, '1')}")),
        (".npy", lambda: b"\x93NUMPY\2\0" + struct.pack("<I", 3 << 30) + b"{}"),
        (".npz", _damaged_lzma),
        (".npz", _name_no_utf8),
        (".npz", lambda: b"PK\5\6"),
    ],
)
def test_arrays(tmp_path: Path, suffix: str, make: Callable[[], bytes]) -> None:
    (tmp_path / f"a{suffix}").write_bytes(make())
    with pytest.raises(InputError, match=r"is no \.npy array|is damaged or no \.npz"):
        open_stream(tmp_path / f"a{suffix}")


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("[convolutional]\nfilters=4\nsize=9223372036854775807\npad=1", "at most 2147483647"),
        ("[convolutional]\nfilters=9223372036854775808", "at most 2147483647"),
        ("[convolutional]\nfilters=" + "9" * 5000, "at most 2147483647"),
        ("[convolutional]\nfilters=4\nsize=20001\npad=1", "far more weights"),
        ("[convolutional]\nfilters=4\nsize=70001\npad=1", "size must be at most 65536"),
        ("[convolutional]\nfilters=65537", "filters must be at most 65536"),
        ("[maxpool]\nsize=" + "9" * 30, "at most 2147483647"),
        ("[convolutional]\nfilters=7\n[yolo]\nanchors=1,1\nclasses=20000", "classes must be at most 10000"),
        ("[convolutional]\nfilters=7\n[yolo]\nanchors=1,1\nnum=20000", "num must be at most 1000"),
        ("[maxpool]\nsize=1\nstride=1\n" * 10_001, "at most 10000 are read"),
    ],
)
def test_darknet_cfgs(layer: str, message: str) -> None:
    end = "[convolutional]\nfilters=7\nactivation=linear\n[yolo]\nanchors=1,1\nclasses=2\nnum=1\n"
    with pytest.raises(InputError, match=message):
        models.darknet(f"[net]\nwidth=32\nheight=32\n{layer}\n{end}")


class TestCheckpoints:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
        return tmp_path

    @staticmethod
    def _v1(**changes: Any) -> dict[str, Any]:
        build = {"builder": "snn_tiny_yolov3", "kwargs": {"width": 0.1}}
        record = {"format": 1, "build": build, "history": [], "input_shape": [3, 32, 32]}
        return {**record, "class_names": None, "replaced": {}, "conversion_report": None, **changes}

    @pytest.mark.parametrize(
        "changes",
        [
            {
                "input_shape": [3, 10**6, 10**6],
                "history": [{"verb": "prepare", "levels": 4, "per_channel": False}],
            },
            {
                "input_shape": [3, 2**62, 4],
                "history": [{"verb": "prepare", "levels": 4, "per_channel": False}],
            },
            {"history": [PREPARE | {"levels": 2**62}]},
            {"history": [{"verb": "set_precision", "precision": "int8"}] * 10_000},
            {"build": {"builder": "snn_tiny_yolov3", "kwargs": {"num_classes": -1}}},
            {"build": {"builder": "snn_tiny_yolov3", "kwargs": {"width": 1e400}}},
            {"build": {"builder": "snn_tiny_yolov3", "kwargs": {"input_size": 1e400}}},
        ],
    )
    def test_version_1(self, folder: Path, changes: dict[str, Any]) -> None:
        (folder / "config.json").write_text(json.dumps(self._v1(**changes)))
        with pytest.raises(InputError, match="written by version 0.1 and cannot be read"):
            checkpoint.load(folder)

    @pytest.mark.parametrize("text", ['{"a":' * 100_000, "9" * 5000])
    def test_any_json(self, folder: Path, text: str) -> None:
        (folder / "config.json").write_text(text)
        with pytest.raises(InputError, match="is damaged"):
            checkpoint.load(folder)

    @pytest.mark.parametrize("version", [1, 2])
    @pytest.mark.parametrize(
        "kwargs",
        [{"cfg": "/etc/passwd"}, {"cfg": "[net]\n", "weights": "/etc/passwd"}, {"cfg": ["/dev/zero"]}],
    )
    def test_a_config_names_no_files(self, folder: Path, version: int, kwargs: dict[str, Any]) -> None:
        build = {"builder": "darknet", "kwargs": kwargs}
        record = self._v1(build=build) if version == 1 else {"format": 2, "build": build, "network": None}
        (folder / "config.json").write_text(json.dumps(record))
        with pytest.raises(InputError, match="a build_config names the file"):
            checkpoint.load(folder)

    @pytest.mark.parametrize("name", ["aten.from_file.default", "aten.save.default", "aten._print.default"])
    def test_a_graph_only_computes(self, name: str) -> None:
        row = {"name": "a", "op": "call_function", "target": name, "args": {"tuple": ["/etc/passwd"]}}
        with pytest.raises(InputError, match="does something else than compute|cannot be read"):
            from_rows([row])

    @pytest.mark.parametrize(
        "row",
        [
            {"type": "QuantReLU", "args": {"levels": 4, "channels": 10**10}},
            {"type": "BranchSum", "args": {"shapes": [[10**5, 10**5]], "spikes": [True]}},
            {"type": "LSTM", "args": {"input_size": 1, "hidden_size": 1, "num_layers": 10**9}},
            {"type": "Transformer", "args": {"num_encoder_layers": 10**9}},
        ],
    )
    def test_layers_take_no_more_than_they_need(self, row: dict[str, Any]) -> None:
        with pytest.raises(InputError, match="a layer cannot be made as its row says"):
            root_from_rows([{"name": "a", **row}])

    def test_packed_files(self, tmp_path: Path) -> None:
        path = tmp_path / "p.safetensors"
        save_file({"a": torch.zeros(1)}, path, metadata={"sj_lowlat": "9" * 5000})
        with pytest.raises(InputError, match="is damaged"):
            pretrained.unpack(path)
        tensors = {"w.int8": torch.zeros(20, 1, dtype=torch.int8), "w.scale": torch.zeros(1, 40)}
        save_file(tensors, path, metadata={"sj_lowlat": '{"config": {}}'})
        with pytest.raises(InputError, match=r"w is \[20, 1\], its scales \[1, 40\]"):
            pretrained.unpack(path)


@pytest.mark.parametrize(
    "word",
    [
        "tiny-yolov3:width=1e999",
        "snn-tiny-yolov3:width=1e4",
        "tiny-yolov3:in_channels=100000000000",
        "tiny-yolov3:num_classes=[[[",
        "tiny-yolov3:width=" + DEEP,
        "tiny-yolov3:width=" + "9" * 5000,
        "snn-tiny-yolov3:input_size=1e999",
        "tiny-yolov3:width=0.5,width=1",
    ],
)
def test_words_of_model(word: str) -> None:
    with pytest.raises(InputError):
        open_network(word)


@pytest.mark.parametrize("word", ["traffic:" + "9" * 5000, "traffic:" + "9" * 30, "traffic:3:x"])
def test_words_of_data(word: str) -> None:
    with pytest.raises(InputError, match="must hold whole numbers"):
        open_data(word)
    with pytest.raises(FileNotFoundError):
        open_data("coco:.:.")


@pytest.mark.parametrize("word", ["9" * 5000, "4+" + "9" * 30, "4b" + "9" * 30, "4c" + "9" * 30, "٣"])
def test_words_of_schedule(word: str) -> None:
    with pytest.raises(InputError, match="write time steps"):
        Schedule.parse(word)


@pytest.mark.parametrize("word", ["a=4,a=8", "a", "a=x", "a=" + "9" * 5000])
def test_words_of_finer(word: str) -> None:
    with pytest.raises(InputError, match="give factors such as .*, each name once"):
        finer_factors(word)
    assert finer_factors(None) == {} and finer_factors("a=4,b=2") == {"a": 4, "b": 2}
