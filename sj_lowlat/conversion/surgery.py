"""Small steps that every verb needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from spikingjelly.activation_based.base import MemoryModule
from torch import nn

from sj_lowlat.conversion.statistics import image_batches
from sj_lowlat.errors import ConversionError, InputError
from sj_lowlat.record import evaluating

Images = torch.Tensor | Iterable[torch.Tensor]


def replace_module(model: nn.Module, name: str, new: nn.Module) -> None:
    """Put ``new`` in the place of the submodule ``name``, under every name that it has.

    :raises InputError: if it is the network itself
    """
    if not name:
        raise InputError("the network itself is a single layer; put it into an nn.Sequential")
    old = model.get_submodule(name)
    places = [
        (parent, child)
        for parent in model.modules()
        for child, module in parent._modules.items()
        if module is old
    ]
    for parent, child in places:
        setattr(parent, child, new)


def note(model: nn.Module, verb: str, **options: Any) -> None:
    """Add a step to the network's history, from which a checkpoint rebuilds its structure."""
    model.history = [*getattr(model, "history", []), {"verb": verb, **options}]  # type: ignore[assignment]


def refuse_spiking(model: nn.Module) -> None:
    """Refuse a network that has been converted.

    :raises ConversionError: if it holds a layer with a state
    """
    if any(isinstance(module, MemoryModule) for module in model.modules()):
        raise ConversionError(
            "this network is spiking already: give the network that prepare or finetune returned"
        )


@torch.no_grad()
def check_called(model: nn.Module, modules: Mapping[str, nn.Module], example: torch.Tensor) -> None:
    """Check that ``forward`` reaches what was put into the network.

    :param model: the network
    :param modules: name -> new module
    :param example: one input
    :raises ConversionError: if one of them was not called, because ``forward`` keeps the old ones elsewhere
    """
    called: set[nn.Module] = set()
    handles = [
        module.register_forward_hook(lambda module, args, out: called.add(module))
        for module in modules.values()
    ]
    try:
        with evaluating(model):
            model(example)
    finally:
        for handle in handles:
            handle.remove()
    missed = [name for name, module in modules.items() if module not in called]
    if missed:
        raise ConversionError(
            f"module '{missed[0]}' was replaced, but forward goes on calling the old one: "
            "call it by its attribute, and keep modules in nn.ModuleList or nn.ModuleDict, "
            "not in a plain list or dictionary"
        )


def like_parameters(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Images on the device and in the number format of the network."""
    parameter = next(model.parameters(), torch.empty(0))
    return images.to(device=parameter.device, dtype=parameter.dtype)


def find_example(model: nn.Module, calibration: Images | None, example: torch.Tensor | None) -> torch.Tensor:
    """One input for the network, from what is given or from ``model.input_shape``, which is set if it is
    missing.

    :return: ``[1, C, H, W]`` on the device and in the number format of the network
    :raises InputError: if nothing tells the shape, or the images cannot be used
    """
    if example is None and calibration is not None:
        if not isinstance(calibration, torch.Tensor) and iter(calibration) is calibration:
            raise InputError(
                "calibration is an iterator, which can be read only once; give a list of batches or a loader"
            )
        example = next(image_batches(calibration))
    if example is None:
        shape = getattr(model, "input_shape", None)
        if shape is None:
            raise InputError(
                "the shape of the input is unknown: "
                "give example=torch.zeros(1, C, H, W), or calibration images"
            )
        example = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    else:
        next(image_batches([example]))
        if getattr(model, "input_shape", None) is None:
            model.input_shape = tuple(example.shape[1:])  # type: ignore[assignment]
    return like_parameters(model, example[:1])


def first_images(images: Images, count: int) -> torch.Tensor:
    """At most ``count`` images of a calibration set as one tensor.

    :raises InputError: if there are none, or they cannot be used
    """
    batches, total = [], 0
    for batch in image_batches(images):
        batches.append(batch)
        total += len(batch)
        if total >= count:
            break
    return torch.cat(batches)[:count]
