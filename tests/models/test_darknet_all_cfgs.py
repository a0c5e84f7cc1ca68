"""Every published cfg: detectors are built, everything else is refused by the name of what it needs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from sj_lowlat.errors import InputError
from sj_lowlat.models import darknet

CLASSIFIER = r"belongs to a classifier"
RECURRENT = r"\] .*it keeps a state"
REFUSED = {
    "Gaussian_yolov3_BDD": r"\[gaussian_yolo\].*uncertainties",
    "alexnet": rf"\[connected\].*{CLASSIFIER}",
    "cifar": rf"\[crop\].*{CLASSIFIER}",
    "crnn.train": rf"\[connected\].*{CLASSIFIER}",
    "extraction.conv": rf"\[connected\].*{CLASSIFIER}",
    "extraction22k": rf"\[connected\].*{CLASSIFIER}",
    "gru": rf"\[gru{RECURRENT}",
    "jnet-conv": r"no \[yolo\] or \[region\]",
    "lstm.train": rf"\[lstm{RECURRENT}",
    "rnn": rf"\[rnn{RECURRENT}",
    "rnn.train": rf"\[rnn{RECURRENT}",
    "strided": rf"\[crop\].*{CLASSIFIER}",
    "t1.test": rf"\[connected\].*{CLASSIFIER}",  # YOLOv1
    "vgg-16": rf"\[crop\].*{CLASSIFIER}",
    "vgg-conv": r"no \[yolo\] or \[region\]",
    "writing": rf"\[cost\].*{CLASSIFIER}",
    "yolo9000": r"\[region\].*tree=data/9k.tree.*form a tree",
    "yolov3-tiny_occlusion_track": rf"\[crnn{RECURRENT}",
    **dict.fromkeys(
        (
            "cifar.test", "csdarknet53-omega", "cspx-p7-mish-omega", "darknet", "darknet19", "darknet19_448",
            "darknet53", "darknet53_448_xnor", "densenet201", "efficientnet-lite3", "efficientnet_b0",
            "extraction", "go.test", "resnet101", "resnet152", "resnet50", "resnext152-32x4d", "tiny",
        ),
        rf"\[softmax\].*{CLASSIFIER}",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*is a comma missing")
def test_detectors_are_built_and_others_refused_by_name(data_dir: Path) -> None:
    paths = sorted((data_dir / "darknet").rglob("*.cfg"))
    if not paths:
        pytest.skip(f"no cfgs below {data_dir}")
    built, wrong = 0, []
    for path in paths:
        try:
            with torch.device("meta"):
                net = darknet(path)
        except InputError as error:
            said = str(error)
            if not re.search(REFUSED.get(path.stem, "nothing"), said) or not said.startswith(f"{path}:"):
                wrong.append(said)
        else:
            built += 1
            if path.stem in REFUSED or not net.head_specs:
                wrong.append(f"{path.stem} is built")
    assert not wrong, "\n".join(wrong)
    assert built >= len(paths) - len(REFUSED)


def test_anchors_with_a_missing_comma_are_read_as_darknet_reads_them(data_dir: Path) -> None:
    path = data_dir / "darknet" / "cfg-only" / "AlexeyAB-darknet" / "cspx-p7-mish_hp.cfg"
    if not path.is_file():
        pytest.skip(f"no cfg at {path}")
    with torch.device("meta"), pytest.warns(UserWarning, match="num=16 anchors are 32 numbers, there are 31"):
        net = darknet(path)
    assert net.head_specs[1].anchors == ((31, 25), (24, 51), (61, 4561))
    assert net.head_specs[-1].anchors[-1] == (800, 0.5)
