"""Networks on disk: weights as safetensors, structure as JSON. Nothing is unpickled."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from sj_lowlat import models
from sj_lowlat.conversion import ConversionReport, convert, prepare, replace_layers, set_precision
from sj_lowlat.errors import InputError
from sj_lowlat.files import atomic_write
from sj_lowlat.record import versions

WEIGHTS, CONFIG = "model.safetensors", "config.json"
_FORMAT = 1
_KEYS = {"build", "history", "input_shape", "class_names", "replaced", "conversion_report"}


def save(model: nn.Module, folder: str | Path) -> Path:
    """Write a network's weights and structure.

    A network in this folder is replaced only when both new files are whole.

    :param model: a network of :mod:`sj_lowlat.models`, or any other one; with what ``replace_layers``,
        ``prepare`` and ``convert`` did to it
    :param folder: is made; gets ``model.safetensors`` and ``config.json``
    :return: the folder
    :raises OSError: if the folder cannot be written
    """
    folder = Path(folder)
    tensors = values(model)
    text = json.dumps(describe(model), indent=2) + "\n"
    with atomic_write(folder / CONFIG) as config_file, atomic_write(folder / WEIGHTS) as weights_file:
        save_file(tensors, weights_file)
        config_file.write_text(text, encoding="utf-8")
    return folder


def values(model: nn.Module) -> dict[str, torch.Tensor]:
    """A network's state as safetensors can hold it: on the CPU, contiguous, no memory shared.

    :param model: any network
    :return: name -> copy of the tensor
    """
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }


def describe(model: nn.Module) -> dict[str, Any]:
    """A network's structure, from which :func:`rebuild` makes it again.

    :param model: as for :func:`save`
    :return: what JSON can hold
    """
    report = getattr(model, "conversion_report", None)
    return {
        "format": _FORMAT,
        "build": getattr(model, "build_config", None) or None,
        "history": getattr(model, "history", []),
        "input_shape": list(getattr(model, "input_shape", ())) or None,
        "class_names": list(getattr(model, "class_names", ())) or None,
        "replaced": getattr(model, "replaced", {}),
        "conversion_report": report.to_json() if report is not None else None,
        "versions": versions(),
    }


def _replay_prepare(model: nn.Module, step: dict[str, Any], image: torch.Tensor) -> nn.Module:
    finer = step.get("finer")
    return prepare(model, step["levels"], image, scale="max", per_channel=step["per_channel"], finer=finer)


def _replay_convert(model: nn.Module, step: dict[str, Any], image: torch.Tensor) -> nn.Module:
    return convert(model, neuron=step["neuron"], ratio=step["ratio"], scale="max", calibration=image)


def _replay_replace(model: nn.Module, step: dict[str, Any], image: torch.Tensor) -> nn.Module:
    # what becomes of a pool depends on whether the sizes that it met were odd
    shape = step.get("input_shape", image.shape[1:])
    only_activations = step.get("only_activations", False)
    return replace_layers(model, example=torch.zeros(1, *shape), only_activations=only_activations)


# the structure that each verb makes; the values come from the file afterwards
_REPLAY: dict[str, Callable[[nn.Module, dict[str, Any], torch.Tensor], nn.Module]] = {
    "replace_layers": _replay_replace,
    "prepare": _replay_prepare,
    "convert": _replay_convert,
    "set_precision": lambda model, step, image: set_precision(model, step["precision"]),
}


def load(folder: str | Path, model: nn.Module | None = None) -> nn.Module:
    """Read a network that :func:`save` wrote.

    :param folder: holds ``model.safetensors`` and ``config.json``
    :param model: for a network that is not one of :mod:`sj_lowlat.models`: the same network as it was before
        the first verb, left untouched
    :return: the network, in eval mode
    :raises FileNotFoundError: if one of the two files is missing
    :raises InputError: if a file is damaged, or its weights are those of another network
    """
    folder = Path(folder)
    config, tensors = _read(folder)
    if model is None and isinstance(config, dict) and config.get("build", 0) is None:
        raise InputError(
            f"{folder} holds a network that is not from sj_lowlat.models: give load(..., model=MyNetwork())"
        )
    return rebuild(config, tensors, folder / CONFIG, model)


def _read(folder: Path) -> tuple[Any, dict[str, torch.Tensor]]:
    for name in (WEIGHTS, CONFIG):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} holds no {name}; give a folder that sj_lowlat.save wrote")
    try:
        return json.loads((folder / CONFIG).read_text(encoding="utf-8")), load_file(folder / WEIGHTS)
    except (json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise InputError(f"{folder} is damaged ({error}); write it again with sj_lowlat.save") from error


def rebuild(
    config: Any, tensors: Mapping[str, torch.Tensor], source: Path, model: nn.Module | None = None
) -> nn.Module:
    """Make the network that :func:`describe` described.

    :param config: what :func:`describe` returned
    :param tensors: its values, as from :func:`values`
    :param source: the file that the config came from, for errors
    :param model: as for :func:`load`
    :return: the network, in eval mode
    :raises InputError: if the config is of no known form, or the values are those of another network
    """
    if not _is_config(config):
        raise InputError(f"{source} holds no config of format {_FORMAT}; write it again")
    with torch.random.fork_rng(devices=()):  # fresh weights are drawn, and replaced
        try:
            model = models.build(config["build"]) if model is None else copy.deepcopy(model)
        except (TypeError, RuntimeError) as error:
            raise InputError(f"the network cannot be built as {source} says: {error}") from error
    if config["input_shape"]:
        model.input_shape = tuple(config["input_shape"])  # type: ignore[assignment]
        model = _replay(model, config, source)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(f"the weights do not fit the network that {source} describes: {error}") from error
    if config["class_names"]:
        model.class_names = tuple(config["class_names"])  # type: ignore[assignment]
    model.replaced = config["replaced"]
    if config["conversion_report"] is not None:
        try:
            report = ConversionReport.from_json(config["conversion_report"])
        except (KeyError, TypeError) as error:
            raise InputError(f"the conversion report in {source} is damaged ({error!r})") from error
        model.conversion_report = report  # type: ignore[assignment]
    return model.eval()


def _is_config(config: Any) -> bool:
    """Whether every entry has its type; what is inside them shows when they are used."""
    if not isinstance(config, dict) or config.get("format") != _FORMAT or not _KEYS.issubset(config):
        return False
    shape, names, report = (config[key] for key in ("input_shape", "class_names", "conversion_report"))
    return (
        isinstance(config["history"], list)
        and all(isinstance(step, dict) for step in config["history"])
        and (shape is None or (isinstance(shape, list) and all(type(n) is int and n > 0 for n in shape)))
        and (names is None or (isinstance(names, list) and all(isinstance(name, str) for name in names)))
        and isinstance(config["replaced"], dict)
        and (report is None or isinstance(report, dict))
    )


def _replay(model: nn.Module, config: dict[str, Any], source: Path) -> nn.Module:
    """Do to the structure what the verbs did."""
    image = torch.rand(1, *config["input_shape"], generator=torch.Generator().manual_seed(0))
    for step in config["history"]:
        verb = step.get("verb")
        if not isinstance(verb, str) or verb not in _REPLAY:
            raise InputError(f"{source} names the unknown step {verb!r}; known: {', '.join(_REPLAY)}")
        try:
            model = _REPLAY[verb](model, step, image)
        except KeyError as error:
            raise InputError(f"{source} lacks {error} of the step {verb!r}") from error
        except (InputError, TypeError, RuntimeError) as error:
            raise InputError(
                f"the network cannot be rebuilt as {source} says (step {verb!r}): {error}"
            ) from error
    return model
