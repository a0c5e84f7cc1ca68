"""Files of strangers on the command line: one bad picture stops nothing, no name commands the terminal."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from sj_lowlat import checkpoint
from sj_lowlat.errors import printable
from sj_lowlat.record import table

Run = Callable[..., tuple[int, str, str]]

ESCAPE = "\x1b]0;owned\x07"


def _encoded(kind: str) -> bytes:
    output = io.BytesIO()
    Image.new("RGBA", (16, 16)).save(output, kind)
    return output.getvalue()


def _bomb() -> bytes:
    output = io.BytesIO()
    Image.new("1", (5000, 5000)).save(output, "PNG")
    return output.getvalue()


@pytest.mark.parametrize("bad", [_encoded("DDS"), _encoded("PNG")[:-30], b"", _bomb()], ids=len)
def test_one_bad_picture_does_not_stop_detect(places: Any, run: Run, tmp_path: Path, bad: bytes) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "c.png"):
        Image.new("RGB", (64, 64)).save(folder / name)
    (folder / "b.png").write_bytes(bad)
    code, _, err = run("detect", "--model", places.ann, folder, "--output", tmp_path / "o")
    record = json.loads((tmp_path / "o" / "detections.json").read_text())
    assert code == 1 and "1 of 3 files could not be used" in err and "cannot read the image" in err
    assert [Path(entry["path"]).name for entry in record["images"]] == ["a.png", "c.png"]
    assert [Path(entry["path"]).name for entry in record["failed"]] == ["b.png"]


def test_names_are_escaped_where_they_are_printed(places: Any, run: Run, tmp_path: Path) -> None:
    network = checkpoint.load(places.ann)
    network.build_config["kwargs"]["class_names"] = [f"{ESCAPE}{n}" for n in range(4)]
    checkpoint.save(network, tmp_path / "ann")
    (tmp_path / "in").mkdir()
    Image.fromarray(torch.randint(256, (64, 64, 3), dtype=torch.uint8).numpy()).save(
        tmp_path / "in" / "a\x1b.png"
    )
    (tmp_path / "in" / "b\x1b.png").write_bytes(b"")
    words = "detect", "--model", tmp_path / "ann", tmp_path / "in", "--min-score", 0.001
    code, out, err = run(*words, "--output", tmp_path / "o")
    assert code == 1 and "\\x1b]0;owned\\x07" in out and "b\\x1b.png" in err
    (tmp_path / "a.json").write_text(
        json.dumps({"images": [{"id": 1, "file_name": ESCAPE}], "annotations": [], "categories": []})
    )
    words = "evaluate", "--model", places.ann, "--data", f"coco:{tmp_path / 'a.json'}:{tmp_path}"
    code, more, errors = run(*words)
    assert code == 2 and "\\x1b]0;owned\\x07" in errors
    assert not {"\x1b", "\x07"} & {*out, *err, *more, *errors}


def test_what_is_printable() -> None:
    assert printable("Straße, 猫 3.5") == "Straße, 猫 3.5"
    assert printable("a\x1b[2J\r\n\t\x9b\u202e\ud800") == r"a\x1b[2J\r\n\t\x9b\u202e\ud800"
    assert table(["x"], [["a\nb"]]) == "x\n----\na\\nb"


@pytest.mark.parametrize("digits", [400, 5000])
def test_numbers_that_no_option_holds(run: Run, digits: int) -> None:
    code, _, err = run("detect", "a.png", "--min-score", "9" * digits)
    assert code == 2 and err.startswith("sj-lowlat: error: ") and "Traceback" not in err
