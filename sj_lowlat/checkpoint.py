"""Networks on disk: weights as safetensors, structure as JSON. Nothing is unpickled."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from sj_lowlat import models
from sj_lowlat.convert import ConversionReport, LayerReport, convert, prepare, replace_layers
from sj_lowlat.errors import InputError
from sj_lowlat.files import atomic_write, write_json

WEIGHTS, CONFIG = "model.safetensors", "config.json"
_FORMAT = 1


def save(model: nn.Module, folder: str | Path) -> Path:
    """Write a network's weights and structure.

    :param model: a network of :mod:`sj_lowlat.models`, or any other one; with what ``replace_layers``, ``prepare`` and
        ``convert`` did to it
    :param folder: is made; gets ``model.safetensors`` and ``config.json``
    :return: the folder
    """
    folder = Path(folder)
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in model.state_dict().items()}
    report = getattr(model, "conversion_report", None)
    config = {
        "format": _FORMAT,
        "build": getattr(model, "build_config", None) or None,
        "history": getattr(model, "history", []),
        "input_shape": list(getattr(model, "input_shape", ())) or None,
        "class_names": list(getattr(model, "class_names", ())) or None,
        "replaced": getattr(model, "replaced", {}),
        "conversion_report": report.to_json() if report is not None else None,
        "versions": {name: version(name) for name in ("torch", "spikingjelly", "sj_lowlat")},
    }
    with atomic_write(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary)
    write_json(folder / CONFIG, config)
    return folder


def _replay_prepare(model: nn.Module, step: dict[str, Any], image: torch.Tensor) -> nn.Module:
    return prepare(model, step["levels"], image, scale="max", per_channel=step["per_channel"])


def _replay_convert(model: nn.Module, step: dict[str, Any], image: torch.Tensor) -> nn.Module:
    return convert(model, neuron=step["neuron"], ratio=step["ratio"], scale="max", calibration=image)


# the structure that each verb makes; the values come from the file afterwards
_REPLAY: dict[str, Callable[[nn.Module, dict[str, Any], torch.Tensor], nn.Module]] = {
    "replace_layers": lambda model, step, image: replace_layers(model, example=image),
    "prepare": _replay_prepare,
    "convert": _replay_convert,
}


def load(folder: str | Path, model: nn.Module | None = None) -> nn.Module:
    """Read a network that :func:`save` wrote.

    :param folder: holds ``model.safetensors`` and ``config.json``
    :param model: for a network that is not one of :mod:`sj_lowlat.models`: the same network as it was before the first verb
    :return: the network, in eval mode
    :raises FileNotFoundError: if one of the two files is missing
    :raises InputError: if a file is damaged, or its weights are those of another network
    """
    folder = Path(folder)
    for name in (WEIGHTS, CONFIG):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} holds no {name}; give a folder that sj_lowlat.save wrote")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
    except (json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise InputError(f"{folder} is damaged ({error}); write it again with sj_lowlat.save") from error
    if not isinstance(config, dict) or config.get("format") != _FORMAT:
        raise InputError(f"{folder / CONFIG} is not a config of format {_FORMAT}; write it again with this version")
    if model is None:
        if config["build"] is None:
            raise InputError(f"{folder} holds a network that is not from sj_lowlat.models: give load(..., model=MyNetwork())")
        model = models.build(config["build"])
    if config["class_names"]:
        model.class_names = tuple(config["class_names"])  # type: ignore[assignment]
    if config["input_shape"]:
        model.input_shape = tuple(config["input_shape"])  # type: ignore[assignment]
        image = torch.rand(1, *config["input_shape"], generator=torch.Generator().manual_seed(0))
        for step in config["history"]:
            if step.get("verb") not in _REPLAY:
                raise InputError(f"{folder / CONFIG} names the unknown step {step.get('verb')!r}; known: {', '.join(_REPLAY)}")
            model = _REPLAY[step["verb"]](model, step, image)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(f"the weights in {folder} do not fit the network that its config describes: {error}") from error
    model.replaced = config["replaced"]  # type: ignore[assignment]
    if config["conversion_report"] is not None:
        report = config["conversion_report"]
        rows = [
            LayerReport(**{**row, "scale": tuple(row["scale"]), "scale_in": tuple(row["scale_in"])})
            for row in report["layers"]
        ]
        model.conversion_report = ConversionReport(rows, report["replaced"], report["refused"])  # type: ignore[assignment]
    return model.eval()
