"""A narrow detector that finds objects everywhere, with names that try to leave their place in a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from sj_lowlat.conversion import convert, prepare
from sj_lowlat.data import TrafficDataset
from sj_lowlat.detect import save_image
from sj_lowlat.models import snn_tiny_yolov3
from sj_lowlat.report import write_report

HOSTILE = "</script><script>window.hacked = 1</script>"
NAMES = ("car", HOSTILE, 'bus" onload="window.hacked = 1', "{{ 7 * 7 }}")
SCORES = [(1, 0.02), (2, 0.105), (4, 0.31), (6, 0.412)]


class Page(NamedTuple):
    """A report of two pictures on the disk."""

    path: Path
    pictures: list[Path]
    snn: Any


@pytest.fixture(scope="session")
def snn() -> Any:
    """A spiking detector of four classes for images of 64 x 64."""
    scenes = TrafficDataset(4, size=64, seed=3)
    torch.manual_seed(0)
    ann = snn_tiny_yolov3(4, width=0.125, class_names=NAMES, input_size=64)
    with torch.no_grad():
        for module in ann.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                module.bias.fill_(0.5)
    return convert(prepare(ann.eval(), 4, torch.stack([scenes[i].image for i in range(4)]) / 255))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two generated scenes, the first with a name that a page must escape."""
    folder, scenes = tmp_path_factory.mktemp("scenes"), TrafficDataset(2, size=96, seed=5)
    paths = [folder / "<img src=x onerror=hacked()>&'.png", folder / "b.png"]
    for path, sample in zip(paths, scenes, strict=True):
        save_image(path, sample.image)
    return paths


@pytest.fixture(scope="session")
def page(snn: Any, pictures: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Six steps, four of which have a score."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(path, snn, pictures, "4+2b2", title=HOSTILE, scores=SCORES, min_score=0.1)
    return Page(path, pictures, snn)


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    """What ``sj-lowlat evaluate`` writes, as far as a report reads it."""
    path = tmp_path / "evaluation.json"
    path.write_text(
        json.dumps(
            {
                "model": "runs/snn",
                "data": "traffic:9",
                "points": [{"steps": s, "map50": m} for s, m in reversed(SCORES)],
                "settings": {"schedule": "4+2", "images": 9},
            }
        )
    )
    return path
