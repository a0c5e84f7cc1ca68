"""Example inputs of a network, from the arguments of a verb."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from sj_lowlat.conversion.statistics import image_batches
from sj_lowlat.errors import InputError
from sj_lowlat.network import info_of

Images = torch.Tensor | Iterable[torch.Tensor]


def like_parameters(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Images on the device and in the number format of the network."""
    parameter = next(model.parameters(), torch.empty(0))
    return images.to(device=parameter.device, dtype=parameter.dtype)


def find_example(model: nn.Module, calibration: Images | None, example: torch.Tensor | None) -> torch.Tensor:
    """One input for the network, from the images given or from its ``input_shape``.

    :return: ``[1, C, H, W]`` on the device and in the number format of the network
    :raises InputError: if the shape is not known, or the images cannot be used
    """
    if example is None and calibration is not None:
        if not isinstance(calibration, torch.Tensor) and iter(calibration) is calibration:
            raise InputError(
                "calibration is an iterator, which can be read only once; give a list of batches or a loader"
            )
        example = next(image_batches(calibration))
    if example is None:
        shape = info_of(model).input_shape
        if shape is None:
            raise InputError(
                "the shape of the input is unknown: "
                "give example=torch.zeros(1, C, H, W), or calibration images"
            )
        example = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    else:
        next(image_batches([example]))
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
