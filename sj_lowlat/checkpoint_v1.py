"""Reads what version 0.1 wrote: a network's structure was the history of verbs. For one version more."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sj_lowlat import models
from sj_lowlat.conversion import convert, prepare, replace_layers, set_precision
from sj_lowlat.errors import FOREIGN, InputError
from sj_lowlat.network import ConversionReport, GraphNetwork

Step = dict[str, Any]
SAFE_VALUES = 2**24  # of a network, whatever its file holds
_MOST_STEPS = 16
_MOST_PIXELS = 2**23  # of the image that is drawn, channels counted


def _replace(model: nn.Module, step: Step, image: torch.Tensor) -> nn.Module:
    # what becomes of a pool depends on whether the sizes that it met were odd
    example = torch.zeros(1, *step.get("input_shape", image.shape[1:]))
    return replace_layers(model, example=example, only_activations=step.get("only_activations", False))


def _prepare(model: nn.Module, step: Step, image: torch.Tensor) -> nn.Module:
    finer = step.get("finer")
    return prepare(model, step["levels"], image, scale="max", per_channel=step["per_channel"], finer=finer)


# the structure that each verb makes; the values come from the file afterwards
_REPLAY: dict[str, Callable[[nn.Module, Step, torch.Tensor], nn.Module]] = {
    "replace_layers": _replace,
    "prepare": _prepare,
    "convert": lambda model, step, image: convert(
        model, neuron=step["neuron"], ratio=step["ratio"], scale="max", calibration=image
    ),
    "set_precision": lambda model, step, image: set_precision(model, step["precision"]),
}


def rebuild(
    config: dict[str, Any], tensors: Mapping[str, torch.Tensor], source: Path, model: nn.Module | None = None
) -> nn.Module:
    """As :func:`~sj_lowlat.checkpoint.rebuild`, from a config of format 1; ``model`` is in its state before
    the first verb.
    """
    try:
        if model is None and config["build"] is None:
            raise InputError(f"{source} holds a network of one's own: give load(..., model=MyNetwork())")
        with torch.random.fork_rng(devices=()):  # fresh weights are drawn, and replaced
            # folded batch norms are no longer there: up to 5 values for one weight
            most = max(SAFE_VALUES, 6 * sum(tensor.numel() for tensor in tensors.values()))
            model = models.build(config["build"], most) if model is None else copy.deepcopy(model)
            if config["history"]:
                if len(config["history"]) > _MOST_STEPS or math.prod(config["input_shape"]) > _MOST_PIXELS:
                    raise InputError(f"{source} asks for too many steps, or too large an image")
                image = torch.rand(1, *config["input_shape"], generator=torch.Generator().manual_seed(0))
                for step in config["history"]:
                    model = _REPLAY[step["verb"]](model, step, image)
        model.load_state_dict(tensors)
        if isinstance(model, GraphNetwork):
            info = replace(model.info, replaced=config["replaced"])
            if config["conversion_report"] is not None:
                info = replace(info, report=ConversionReport.from_json(config["conversion_report"]))
            model.info = info
    except FOREIGN as error:
        raise InputError(f"{source} was written by version 0.1 and cannot be read: {error!r}") from error
    return model.eval()
