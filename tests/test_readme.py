"""The README's Python example runs as it stands, but with a short training and fewer pictures."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from sj_lowlat.data import TrafficDataset

README = Path(__file__).parents[1] / "README.md"
SHORTER = {"iterations=1200, size=416": "iterations=1, batch_size=2, size=64", "32, 416": "2, 416"}


def test_python_example(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    for long, short in SHORTER.items():
        assert long in code
        code = code.replace(long, short)
    TrafficDataset(3, 96).write_coco(tmp_path)
    shutil.copy(data_dir / "darknet" / "yolov3-tiny.weights", tmp_path)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(README), "exec"), {})  # noqa: S102
    printed = capsys.readouterr().out
    assert "SignedIFNode" in printed and "SNN, 6 steps: mAP50" in printed
