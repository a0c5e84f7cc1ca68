"""``sj-lowlat export``: files that other verbs take."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sj_lowlat.checkpoint import load, save
from sj_lowlat.cli import main
from sj_lowlat.conversion import convert, prepare
from sj_lowlat.export import run_onnx_steps
from sj_lowlat.models import tiny_yolov3


def test_onnx_and_integers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    quant = prepare(tiny_yolov3(num_classes=2, width=0.125, input_size=64), 4, torch.rand(2, 3, 64, 64))
    save(quant, tmp_path / "quant")
    onnx = str(tmp_path / "net.onnx")
    assert main(["export", "--model", str(tmp_path / "quant"), "--output", onnx]) == 0
    assert "onnxruntime" in capsys.readouterr().out
    assert main(["convert", "--model", onnx, "--output", str(tmp_path / "snn")]) == 0
    snn, wanted = load(tmp_path / "snn").state_dict(), convert(quant).state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in snn.items())
    step = [
        "--model",
        str(tmp_path / "snn"),
        "--format",
        "onnx-step",
        "--output",
        str(tmp_path / "step.onnx"),
    ]
    step += ["--output", str(tmp_path / "step.onnx"), "--schedule", "4+2"]
    assert main(["export", *step]) == 0
    assert len(list(run_onnx_steps(tmp_path / "step.onnx", torch.zeros(1, 3, 64, 64)))) == 6
    arguments = ["--model", str(tmp_path / "snn"), "--format", "integers", "--schedule", "4+2"]
    assert main(["export", *arguments, "--output", str(tmp_path / "net.npz")]) == 0
    assert (tmp_path / "net.json").is_file()


def test_what_does_not_fit_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quant = prepare(tiny_yolov3(num_classes=2, width=0.125, input_size=64), 4, torch.rand(2, 3, 64, 64))
    save(quant, tmp_path / "quant")
    arguments = ["export", "--model", str(tmp_path / "quant"), "--output", str(tmp_path / "net.npz")]
    assert main([*arguments, "--format", "integers"]) == 2
    assert "call sj_lowlat.convert first" in capsys.readouterr().err
