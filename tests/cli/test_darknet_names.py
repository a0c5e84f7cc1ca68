"""The word NET.cfg,NET.weights,NET.names on every verb."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sj_lowlat import checkpoint
from sj_lowlat.errors import InputError
from sj_lowlat.models import darknet, save_darknet_weights
from sj_lowlat.network import info_of
from sj_lowlat.zoo import open_network

Run = Callable[..., Any]
CFG = (
    "[net]\nwidth=64\nheight=64\nchannels=3\n"
    "[convolutional]\nbatch_normalize=1\nfilters=8\nsize=3\nstride=2\npad=1\nactivation=leaky\n"
    "[maxpool]\nsize=4\nstride=4\n"
    "[convolutional]\nfilters=9\nsize=1\nactivation=linear\n[yolo]\nanchors=20,20\nclasses=4\n"
)
NAMES = ("person", "bicycle", "Käfer", "bus")


@pytest.fixture
def word(tmp_path: Path) -> str:
    """A network that finds much of everything, and its names in an 8-bit code page with lone CRs."""
    net = darknet(CFG)
    with torch.no_grad():
        net.layers[2].conv.bias.fill_(0.5)
    paths = [tmp_path / f"net.{suffix}" for suffix in ("cfg", "weights", "names")]
    paths[0].write_text(CFG, encoding="utf-8")
    save_darknet_weights(net, paths[1])
    paths[2].write_bytes("\r".join(NAMES).encode("cp1252") + b"\r\r")
    return ",".join(map(str, paths))


def test_every_verb_takes_the_names(places: Any, run: Run, tmp_path: Path, word: str) -> None:
    data = ("--data", places.data)
    done = run("detect", places.pictures, "--model", word, "--output", tmp_path / "found")
    assert done.code == 0, done.err
    record = json.loads((tmp_path / "found" / "detections.json").read_text(encoding="utf-8"))
    found = {name for image in record["images"] for name in image["names"]}
    assert found and found <= set(NAMES)

    done = run("evaluate", "--model", word, *data, "--output", tmp_path / "evaluation.json")
    assert done.code == 0, done.err

    train = ("--iterations", 1, "--batch-size", 2, "--size", 64, "--precision", "fp32")
    done = run("finetune", "--model", word, "--teacher", word, *data, *train, "--levels", 4,
               "--output", tmp_path / "quant")  # fmt: skip
    assert done.code == 0, done.err
    done = run("convert", "--model", word, "--levels", 4, "--calibration", places.pictures,
               "--output", tmp_path / "snn")  # fmt: skip
    assert done.code == 0, done.err
    for folder in ("quant", "snn"):
        assert info_of(checkpoint.load(tmp_path / folder)).class_names == NAMES

    done = run("monitor", "--model", word, *data)
    assert done.code == 2 and "no spiking neurons to watch" in done.err
    done = run("monitor", "--model", tmp_path / "snn", *data, "--limit", 2, "--output", tmp_path / "watched")
    assert done.code == 0, done.err


@pytest.mark.parametrize("verb", ["detect", "evaluate", "finetune", "convert", "monitor"])
def test_another_number_of_names_is_a_sentence(
    places: Any, run: Run, tmp_path: Path, word: str, verb: str
) -> None:
    Path(word.split(",")[2]).write_text("\ufeffbee\r\n\r\nant", encoding="utf-8")
    rest = {"detect": (places.pictures,), "convert": ("--output", tmp_path / "snn")}
    rest["finetune"] = ("--data", places.data, "--levels", 4, "--output", tmp_path / "quant")
    done = run(verb, *rest.get(verb, ("--data", places.data)), "--model", word)
    assert done.code == 2 and "a list of 4 names, one per class of the network; got 2: bee, ant" in done.err


def test_names_that_are_no_text(word: str) -> None:
    cfg, weights, names = word.split(",")
    Path(names).write_bytes(Path(weights).read_bytes())
    with pytest.raises(InputError, match=r"net\.names is not text.*one class a line"):
        open_network(word)
    Path(names).unlink()
    with pytest.raises(FileNotFoundError):
        open_network(word)
    assert open_network(f"{cfg},{weights}").info.class_names[0] == "class 0"  # type: ignore[union-attr]
