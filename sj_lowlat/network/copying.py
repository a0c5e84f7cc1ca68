"""Copies of networks of the user's."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from sj_lowlat.errors import ConversionError


def copied(model: nn.Module) -> nn.Module:
    """A copy of a network. A tensor that a forward with gradients left in it (a feature map that it keeps)
    is detached in the copy.

    :raises ConversionError: if the network holds something that cannot be copied
    """
    kept = [tensor for module in model.modules() for tensor in _tensors(vars(module))]
    memo = {id(tensor): tensor.detach().clone() for tensor in kept if tensor.grad_fn is not None}
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:  # whatever the user's objects raise
        raise ConversionError(
            f"{type(model).__name__} cannot be copied ({error}): take files, locks, generators and the like "
            "out of it"
        ) from error


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in containers of Python."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple, set)):
        for item in value:
            yield from _tensors(item)
