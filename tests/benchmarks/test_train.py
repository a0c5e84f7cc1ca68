"""The recipe of the shipped network, a hundredth of it: from the darknet weights to the packed file."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
from torch import nn

from sj_lowlat import checkpoint, pretrained
from sj_lowlat.conversion import convert
from sj_lowlat.data import CocoDataset
from sj_lowlat.evaluation import evaluate
from sj_lowlat.layers import QuantReLU, RateNorm, SpikeMaxPool
from sj_lowlat.network import info_of
from sj_lowlat.schedule import Schedule
from sj_lowlat.training import FinetuneConfig
from sj_lowlat.zoo import open_network

FOLDER = Path(__file__).parents[2] / "benchmarks"
PLAN = FOLDER / "configs" / "snn_tiny_yolov3_coco.json"
SMALL = FOLDER / "configs" / "snn_yolo_fastest_xl_coco.json"
IMAGES = 24


@pytest.mark.parametrize(
    ("plan", "side", "size", "options", "share"),
    [(PLAN, 256, 12e6, [], 0.7), (SMALL, 320, 3e6, ["--pictures", "100"], 0.6)],
    ids=["tiny-yolov3", "yolo-fastest-xl"],
)
def test_a_short_run_of_the_shipped_recipes(
    plan: Path,
    side: int,
    size: float,
    options: list[str],
    share: float,
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    places = ["--data", str(data_dir), "--output", str(tmp_path), "--plan", str(plan)]
    arguments = ["distil", *places, "--shorten", "100", *options]
    importlib.import_module("train").main(arguments)
    found = json.loads(plan.read_text())
    quant = checkpoint.load(tmp_path / found["stages"][-1]["name"])
    assert quant.levels == found["stages"][-1]["levels"]

    path = pretrained.pack(quant, tmp_path / "packed.safetensors", {"schedule": {"time_steps": quant.levels}})
    assert path.stat().st_size < size
    packed = pretrained.unpack(path)
    pools = sum(isinstance(module, nn.MaxPool2d) for module in packed.modules())
    assert sum(isinstance(module, SpikeMaxPool) for module in convert(packed).modules()) == pools > 0

    folder = data_dir / "coco-subset"
    photos = CocoDataset(folder / "annotations" / "instances_val2017.json", folder / "val2017").subset(
        range(IMAGES)
    )
    word = found.get("network", "DATA/darknet/yolov3-tiny.weights").replace("DATA", str(data_dir))
    networks = open_network(word).eval(), packed
    wanted, got = (evaluate(net, photos, size=side).final.map50 for net in networks)
    assert got > share * wanted > 0  # of all iterations: above 0.9

    capsys.readouterr()
    importlib.import_module("train").main(arguments)  # everything is done
    assert capsys.readouterr().out.count("done before") == len(found["stages"])


def test_a_network_without_training_is_packed(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    train = importlib.import_module("train")
    few = ["--levels", "4", "--calibration", "1", "--size", "64"]
    train.main(["prepare", "--data", str(data_dir), "--output", str(tmp_path), *few])
    packed = tmp_path / "packed.safetensors"
    places = ["--network", str(tmp_path / "quant4"), "--output", str(packed)]
    train.main(["pack", "--plan", str(PLAN), *places, "--schedule", "2+2b2c4"])
    network = pretrained.unpack(packed)
    assert info_of(network).levels == 4 and info_of(network).schedule == Schedule(2, 2, 2, 4)
    assert info_of(network).card["distilled_from"].startswith("darknet yolov3-tiny.weights")
    assert "tensors rounded, relative error" in capsys.readouterr().out


@pytest.mark.parametrize("plan", sorted(FOLDER.glob("configs/*coco*.json")), ids=lambda path: path.stem)
def test_plans_can_be_run(plan: Path, data_dir: Path) -> None:
    """What they name is there, and their settings are settings."""
    found = json.loads(plan.read_text())
    for stage in found["stages"]:
        own = {**found["finetune"], **stage}
        options = {k: v for k, v in own.items() if k not in ("name", "levels", "from")}
        FinetuneConfig(**options)
    word = found.get("network", "DATA/darknet/yolov3-tiny.weights").replace("DATA", str(data_dir))
    assert info_of(open_network(word)).heads


def test_stages_start_where_they_say_and_take_the_form_of_a_method(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The networks of the table of methods, on small pictures."""
    monkeypatch.syspath_prepend(FOLDER)
    plan = json.loads((FOLDER / "configs" / "methods_networks.json").read_text())
    plan |= {"calibration_images": 2, "calibration_size": 64}
    plan["finetune"] |= {"batch_size": 2}
    for stage in plan["stages"]:
        stage |= {"size": 64}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    places = ["--data", str(data_dir), "--output", str(tmp_path), "--plan", str(tmp_path / "plan.json")]
    importlib.import_module("train").main(["distil", *places, "--shorten", "900"])
    made = {stage["name"]: checkpoint.load(tmp_path / stage["name"]) for stage in plan["stages"]}
    kinds = {name: {type(module) for module in network.modules()} for name, network in made.items()}
    assert QuantReLU in kinds["quant16"] and made["quant16"].levels == 16
    assert RateNorm in kinds["rate-norm"] and QuantReLU not in kinds["rate-norm"]
    assert nn.AvgPool2d in kinds["cao"] and not kinds["cao"] & {QuantReLU, RateNorm, nn.MaxPool2d}
    for name, method in (("quant16", "graded"), ("rate-norm", "rate-norm")):
        convert(made[name], method=method)
