"""How many steps go through the network at once."""

from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakKeyDictionary

import torch
from torch import nn

from sj_lowlat.layers import LowLatencyIFNode, MergedTime

# Bytes of the largest layer's spikes. On a CPU several steps feed the convolutions better than one, and
# beyond 32 MiB the C library asks the system for fresh memory at every call, which costs more than neurons.
_BUDGET = {"cpu": 24 << 20}
_ON_A_GPU = 256 << 20
_MOST = 32

# network -> image [C, H, W] -> bytes that a step of one image takes in its largest layer
_known: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], int]] = WeakKeyDictionary()


def chunk_for(snn: nn.Module, images: torch.Tensor) -> int:
    """Steps per pass: as many as fit the budget; 1 for a network that has not met images of this size."""
    size = _known.get(snn, {}).get(tuple(images.shape[1:]))
    if size is None:
        return 1
    budget = _BUDGET.get(images.device.type, _ON_A_GPU)
    return max(1, min(_MOST, budget // (size * len(images))))


def remember_size(snn: nn.Module, images: torch.Tensor, layers: Iterable[MergedTime]) -> None:
    """Look up the largest layer after a step."""
    nodes = [layer for layer in layers if isinstance(layer, LowLatencyIFNode)]
    sizes = [
        node.v.numel() * (node.spike_dtype or node.v.dtype).itemsize
        for node in nodes
        if isinstance(node.v, torch.Tensor)
    ]
    if sizes:
        _known.setdefault(snn, {})[tuple(images.shape[1:])] = max(1, max(sizes) // len(images))
