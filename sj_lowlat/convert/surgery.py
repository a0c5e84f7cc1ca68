"""Small steps that every pass needs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from sj_lowlat.errors import InputError


def replace_module(model: nn.Module, name: str, new: nn.Module) -> None:
    """Put ``new`` in the place of the submodule ``name``."""
    if not name:
        raise InputError("the network itself is a single layer; put it into an nn.Sequential")
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, new)


def note(model: nn.Module, verb: str, **options: Any) -> None:
    """Add a step to the network's history, from which a checkpoint rebuilds its structure."""
    model.history = [*getattr(model, "history", []), {"verb": verb, **options}]  # type: ignore[assignment]


def find_example(
    model: nn.Module, calibration: torch.Tensor | Iterable[torch.Tensor] | None, example: torch.Tensor | None
) -> torch.Tensor:
    """One input for the network, from what is given or from ``model.input_shape``; remembered there.

    :return: ``[1, C, H, W]`` on the device of the network
    :raises InputError: if nothing tells the shape
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    if example is None and calibration is not None:
        if not isinstance(calibration, torch.Tensor) and iter(calibration) is calibration:
            raise InputError("calibration is an iterator, which can be read only once; give a list of batches or a loader")
        first = next(iter(calibration), None) if not isinstance(calibration, torch.Tensor) else calibration[:1]
        first = first[0] if isinstance(first, (tuple, list)) else first
        if first is None or not len(first):
            raise InputError("calibration holds no images; give a tensor [N, C, H, W] or a loader with at least one batch")
        example = first[:1]
    if example is not None:
        model.input_shape = tuple(example.shape[1:])  # type: ignore[assignment]
        return example[:1].to(device)
    shape = getattr(model, "input_shape", None)
    if shape is None:
        raise InputError("the shape of the input is unknown: give example=torch.zeros(1, C, H, W), or calibration images")
    return torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)).to(device)


def first_images(images: torch.Tensor | Iterable[torch.Tensor], count: int) -> torch.Tensor:
    """At most ``count`` images of a calibration set as one tensor."""
    if isinstance(images, torch.Tensor):
        return images[:count]
    batches, total = [], 0
    for batch in itertools.islice(images, count):
        batch = batch[0] if isinstance(batch, (tuple, list)) else batch
        batches.append(batch)
        total += len(batch)
        if total >= count:
            break
    if not total:
        raise InputError("calibration holds no images; give a tensor [N, C, H, W] or a loader with at least one batch")
    return torch.cat(batches)[:count]
