"""Small networks and pictures on disk, and a way to run the command line in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import nn

from sj_lowlat import checkpoint
from sj_lowlat.cli import main
from sj_lowlat.conversion import convert, prepare
from sj_lowlat.data import TrafficDataset
from sj_lowlat.models import snn_tiny_yolov3


class Ran(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str


class Places(NamedTuple):
    """Folders that the tests read."""

    data: str
    pictures: Path
    ann: Path
    quant: Path
    snn: Path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run ``sj-lowlat`` with these words."""

    def command(*words: object) -> Ran:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Ran(code, *capsys.readouterr())

    return command


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    """Six drawn scenes in COCO format, and a narrow network as ANN, quantised, and spiking."""
    root = tmp_path_factory.mktemp("cli")
    scenes = TrafficDataset(6, size=64, seed=3)
    annotations = scenes.write_coco(root / "coco")
    torch.manual_seed(0)
    ann = snn_tiny_yolov3(4, width=0.125, class_names=scenes.class_names, input_size=64)
    with torch.no_grad():
        for module in ann.modules():  # objects everywhere, so that there is something to find
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                module.bias.fill_(0.5)
    images = torch.stack([scenes[i].image for i in range(6)]) / 255
    quant = prepare(ann.eval(), 4, images)
    checkpoint.save(ann, root / "ann")
    checkpoint.save(quant, root / "quant")
    checkpoint.save(convert(quant), root / "snn")
    pictures = root / "coco" / "images"
    return Places(f"coco:{annotations}:{pictures}", pictures, root / "ann", root / "quant", root / "snn")
