"""The examples of README and landing page run, shortened; errors that the docs show are those that come."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from textwrap import dedent

import pytest
from PIL import Image

from sj_lowlat.cli import main
from sj_lowlat.data import TrafficDataset

README = Path(__file__).parents[1] / "README.md"
DOCS = README.parent / "docs"
SHORTER = {"iterations=1200, size=416": "iterations=1, batch_size=2, size=64", "32, 416": "2, 416"}


def _examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_detects_in_a_photo(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(data_dir / "photos" / "coco_000000000661.jpg", tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    exec(compile(_examples()[0], str(README), "exec"), {})  # noqa: S102
    assert "car" in capsys.readouterr().out
    with Image.open("photo.jpg") as photo, Image.open("drawn.png") as drawn:
        assert photo.size == drawn.size


def test_python_example(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, code = _examples()
    for long, short in SHORTER.items():
        assert long in code
        code = code.replace(long, short)
    TrafficDataset(3, 96).write_coco(tmp_path)
    shutil.copy(data_dir / "darknet" / "yolov3-tiny.weights", tmp_path)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(README), "exec"), {})  # noqa: S102
    printed = capsys.readouterr().out
    assert "rate" in printed and "SNN, 3 steps: mAP50" in printed


def test_landing_page(capsys: pytest.CaptureFixture[str]) -> None:
    code = (DOCS / "index.rst").read_text(encoding="utf-8").split(".. code-block:: python\n")[1]
    exec(compile(dedent(code.split("\nEach verb")[0]), "index.rst", "exec"), {})  # noqa: S102
    assert "SNN, 2 steps: mAP50" in capsys.readouterr().out


def test_geometry_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files of the sizes that the page names; only the size is looked at."""
    page = (DOCS / "spike_cameras.rst").read_text(encoding="utf-8")
    blocks = re.findall(r"\n   (\$ sj-lowlat.*?)\n\n", page, re.DOTALL)
    examples = [example.split("\n", 1) for block in blocks for example in block.split("$ sj-lowlat ")[1:]]
    assert len(examples) == 2
    monkeypatch.chdir(tmp_path)
    for command, shown in examples:
        stream = Path(command.split()[1])
        stream.parent.mkdir(parents=True, exist_ok=True)
        stream.write_bytes(bytes(int(re.findall(r"has (\d+) bytes", shown)[0])))
        assert main(command.split()) == 1
        assert capsys.readouterr().err.split() == shown.split()
