"""Driving neurons and small networks in each step mode."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from sj_lowlat.layers import Pass, share_clock


def present(
    net: nn.Module, currents: Tensor, mode: str, chunk: int | None = None, reset: bool = True
) -> Tensor:
    """Present ``[T, N, *]`` in chunks of time; return the outputs ``[T, N, *]``."""
    if reset:
        functional.reset_net(net)
    outputs = []
    for part in currents.split(chunk or len(currents)):
        if mode == "s":
            functional.set_step_mode(net, "s")
            outputs += [net(x) for x in part]
            continue
        functional.set_step_mode(net, "m" if mode == "m" else "s")
        if mode == "m":
            outputs += list(net(part))
            continue
        with share_clock(net).during(Pass(*part.shape[:2])):
            outputs += list(net(part.flatten(0, 1)).unflatten(0, part.shape[:2]))
    return torch.stack(outputs)


@pytest.fixture(scope="session")
def run() -> Callable[..., Tensor]:
    return present
