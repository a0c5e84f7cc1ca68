"""How many steps go through the network at once."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import nn

from sj_lowlat.layers import LowLatencyIFNode, MergedTime

# Bytes of the largest tensor. On a CPU several steps feed the convolutions better than one; but beyond 32 MiB
# the C library asks the system for fresh memory at every call, which costs more than neurons. 28 keep clear.
_BUDGET = {"cpu": 28 << 20}
_ON_A_GPU = 256 << 20
_MOST = 32

# network -> image [C, H, W] -> bytes that a step of one image takes in its largest layer
_known: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], int]] = WeakKeyDictionary()


def chunk_for(snn: nn.Module, images: torch.Tensor) -> int:
    """Steps per pass: as many as fit the budget; 2 for a network that has not met images of this size."""
    size = _known.get(snn, {}).get(tuple(images.shape[1:]))
    if size is None:
        return 2  # the fewest that tell a constant input from another
    budget = _BUDGET.get(images.device.type, _ON_A_GPU)
    return max(1, min(_MOST, budget // (size * len(images))))


def remember_size(snn: nn.Module, images: torch.Tensor, layers: Sequence[MergedTime]) -> None:
    """Look up the largest currents and spikes after a pass."""
    sizes = [layer.bytes_per_step for layer in layers]
    for layer in layers:
        if isinstance(layer, LowLatencyIFNode) and isinstance(layer.v, torch.Tensor):
            sizes.append(layer.v.numel() * (layer.spike_dtype or layer.v.dtype).itemsize)
    _known.setdefault(snn, {})[tuple(images.shape[1:])] = max(1, max(sizes) // len(images))
