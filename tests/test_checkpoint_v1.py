"""Folders of version 0.1: the history of verbs is replayed once, then the folder is of the present format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sj_lowlat.checkpoint import CONFIG, WEIGHTS, load, values
from sj_lowlat.conversion import convert, prepare, replace_layers, set_precision
from sj_lowlat.errors import InputError
from sj_lowlat.layers import is_spiking
from sj_lowlat.models import tiny_yolov3
from sj_lowlat.network import info_of
from sj_lowlat.simulation import simulate

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
FINER = {"layers.0.act": 2}
STEPS: dict[str, Any] = {
    "replaced": {"verb": "replace_layers", "input_shape": [3, 64, 64], "only_activations": False},
    "prepared": {"verb": "prepare", "levels": 8, "per_channel": False, "finer": FINER},
    "converted": {"verb": "convert", "neuron": "signed", "ratio": 0.5},
    "rounded": {"verb": "set_precision", "precision": "int8"},
}


def networks() -> dict[str, nn.Module]:
    torch.manual_seed(1)
    raw = tiny_yolov3(num_classes=2, width=0.125, input_size=64, class_names=["cat", "dog"]).eval()
    prepared = prepare(raw, 8, IMAGES, finer=FINER)
    snn = convert(prepared)
    rounded = set_precision(snn, "int8")
    replaced = replace_layers(raw, IMAGES).eval()
    return {"raw": raw, "replaced": replaced, "prepared": prepared, "converted": snn, "rounded": rounded}


def write(name: str, net: nn.Module, folder: Path) -> None:
    """As version 0.1 wrote it."""
    last = list(STEPS).index(name) if name in STEPS else -1
    names = [] if name == "raw" else ["replaced"] if name == "replaced" else list(STEPS)[1 : last + 1]
    info = info_of(net)
    kwargs = {"num_classes": 2, "class_names": ["cat", "dog"], "input_size": 64, "width": 0.125}
    config = {
        "format": 1,
        "build": {"builder": "tiny_yolov3", "kwargs": {**kwargs, "in_channels": 3}},
        "history": [STEPS[step] for step in names],
        "input_shape": [3, 64, 64],
        "class_names": ["cat", "dog"],
        "replaced": dict(info.replaced),
        "conversion_report": None if info.report is None else info.report.to_json(),
    }
    folder.mkdir()
    (folder / CONFIG).write_text(json.dumps(config))
    save_file(values(net), folder / WEIGHTS)


def run(net: nn.Module) -> Any:
    with torch.no_grad():
        return simulate(net, IMAGES, 8, flush=4).final if is_spiking(net) else net(IMAGES)


@pytest.mark.parametrize("name", ["raw", *STEPS])
def test_is_read_and_rewritten(tmp_path: Path, name: str) -> None:
    net = networks()[name]
    write(name, net, tmp_path / "old")
    for _ in range(2):
        back = load(tmp_path / "old")
        torch.testing.assert_close(run(back), run(net), rtol=0, atol=0)
        assert info_of(back) == info_of(net)
        assert json.loads((tmp_path / "old" / CONFIG).read_text())["format"] == 2


@pytest.mark.parametrize(
    ("path", "value"),
    [("history", [{"verb": "prune"}]), ("history", [{}]), ("history", 5), ("build", {"builder": "resnet"}),
     ("input_shape", "big"), ("conversion_report", {}), ("history", [])],
)  # fmt: skip
def test_what_is_damaged_is_told(tmp_path: Path, path: str, value: Any) -> None:
    write("converted", networks()["converted"], tmp_path / "old")
    config = json.loads((tmp_path / "old" / CONFIG).read_text())
    before = json.dumps({**config, path: value})
    (tmp_path / "old" / CONFIG).write_text(before)
    with pytest.raises(InputError, match="version 0.1 and cannot be read|build_config must be"):
        load(tmp_path / "old")
    assert (tmp_path / "old" / CONFIG).read_text() == before
