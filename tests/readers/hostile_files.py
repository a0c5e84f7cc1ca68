"""Small files that ask for much memory, one after the other, and the peak that they cause.

usage: python tests/readers/hostile_files.py FOLDER
"""

from __future__ import annotations

import json
import resource
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from sj_lowlat import checkpoint, models, pretrained
from sj_lowlat.data import VocDataset
from sj_lowlat.data.images import read_image
from sj_lowlat.errors import InputError
from sj_lowlat.spike_camera import open_stream
from sj_lowlat.zoo import open_network

_NET = "[net]\nwidth=32\nheight=32\nchannels=3\n"
_HEAD = "[convolutional]\nfilters={filters}\nactivation=linear\n[yolo]\nanchors=1,1\nclasses={classes}\n"


def _peak() -> int:
    """Of this process, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _png(path: Path, side: int) -> None:
    """A black picture of one bit a pixel."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packer = zlib.compressobj(9)
    row = bytes(1 + (side + 7) // 8)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b""))


def _npz(path: Path, frames: int, height: int, width: int) -> None:
    """Zeros, a thousandth of their size."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("spk.npy", "w", force_zip64=True) as member,
    ):
        header = {"descr": "|u1", "fortran_order": False, "shape": (frames, height, width)}
        np.lib.format.write_array_header_1_0(member, header)
        for _ in range(frames * height * width // 2**24):
            member.write(bytes(2**24))


def _config(folder: Path, **changes: object) -> None:
    folder.mkdir(exist_ok=True)
    save_file({"a": torch.zeros(1)}, folder / "model.safetensors")
    build = {"builder": "snn_tiny_yolov3", "kwargs": {"width": 0.1}}
    record = {"format": 1, "build": build, "history": [], "input_shape": [3, 32, 32], "class_names": None}
    record |= {"replaced": {}, "conversion_report": None, "network": None}
    (folder / "config.json").write_text(json.dumps({**record, **changes}))


def _voc(root: Path, text: str) -> None:
    base = root / "VOCdevkit/VOC2007"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(base / "JPEGImages/1.jpg")
    (base / "ImageSets/Main/test.txt").write_text("1\n")
    (base / "Annotations/1.xml").write_text(text)


def cases(folder: Path) -> dict[str, Callable[[], object]]:
    """What is read -> how; writes the files."""
    _png(folder / "large.png", 4096)
    _png(folder / "bomb.png", 13300)
    _npz(folder / "bomb.npz", 65, 4096, 4096)
    _npz(folder / "frame.npz", 1, 2**14, 2**14)
    _voc(folder / "deep", "<a>" * 1_000_000 + "</a>" * 1_000_000)
    entities = "".join(f"<!ENTITY e{i} '{f'&e{i - 1};' * 10}'>" for i in range(1, 12))
    _voc(folder / "laughs", f"<!DOCTYPE a [<!ENTITY e0 'ha'>{entities}]><annotation>&e11;</annotation>")
    wide = {"builder": "snn_tiny_yolov3", "kwargs": {"width": 4}}
    _config(folder / "wide", build=wide)
    _config(folder / "wide2", format=2, build=wide)
    verb = {"verb": "prepare", "levels": 4, "per_channel": False}
    _config(folder / "image", input_shape=[3, 20000, 20000], history=[verb])
    scale = {"w.int8": torch.zeros(20000, 1, dtype=torch.int8), "w.scale": torch.zeros(1, 40000)}
    save_file(scale, folder / "scale.safetensors", metadata={"sj_lowlat": '{"config": {}}'})
    (folder / "few.weights").write_bytes(bytes(1000))
    classes = _NET + _HEAD.format(filters=20_000_005, classes=20_000_000)
    return {
        "a picture as large as is always read": lambda: read_image(folder / "large.png"),
        "a PNG of 13300 x 13300": lambda: read_image(folder / "bomb.png"),
        "an .npz of a gigabyte of zeros": lambda: open_stream(folder / "bomb.npz"),
        "an .npz of one frame of 2^28 pixels": lambda: open_stream(folder / "frame.npz"),
        "XML, a million deep": lambda: VocDataset(folder / "deep"),
        "XML, billion laughs": lambda: VocDataset(folder / "laughs"),
        "a cfg of 4e8 filters": lambda: models.darknet(
            _NET + "[convolutional]\nfilters=400000000\n" + _HEAD.format(filters=7, classes=2)
        ),
        "a cfg of 2e7 classes": lambda: models.darknet(classes),
        "a cfg of 2^27 weights, a file of 250": lambda: models.darknet(
            _NET + f"[convolutional]\nfilters={2**22}\n" + _HEAD.format(filters=30, classes=25),
            folder / "few.weights",
        ),
        "a config.json of width 4, version 1": lambda: checkpoint.load(folder / "wide"),
        "a config.json of width 4": lambda: checkpoint.load(folder / "wide2"),
        "a config.json with an image of 20000 x 20000": lambda: checkpoint.load(folder / "image"),
        "a packed file whose scale broadcasts": lambda: pretrained.unpack(folder / "scale.safetensors"),
        "--model ...:width=1e4": lambda: open_network("snn-tiny-yolov3:width=1e4"),
    }


def main(folder: Path) -> None:
    """Print a row of JSON per case: what it was, what came of it, MiB that the peak has grown by so far."""
    todo = cases(folder)
    before = _peak()
    for name, read in todo.items():
        try:
            read()
            what = "read"
        except InputError:
            what = "refused"
        print(json.dumps([name, what, _peak() - before]), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
