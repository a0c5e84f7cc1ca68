"""Networks that hold more than layers."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor, nn

from sj_lowlat.conversion import convert, prepare
from sj_lowlat.errors import ConversionError
from sj_lowlat.simulation import simulate


class Keeps(nn.Module):
    """Keeps its last feature map, in an attribute and in a list of a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.act, self.head = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)
        self.kept: dict[str, list[Tensor]] = {}

    def forward(self, x: Tensor) -> Tensor:
        self.feature = self.act(self.stem(x))
        self.kept["all"] = [self.feature * 2]
        return self.head(self.feature)


def test_kept_feature_maps_are_no_part_of_the_network() -> None:
    network, images = Keeps(), torch.rand(2, 3, 8, 8)
    network(images).sum().backward()
    quant = prepare(network, 4, images)
    with torch.no_grad():
        torch.testing.assert_close(simulate(convert(quant), images, 4, flush=8).final, quant(images))
    assert network.feature.grad_fn is not None  # left as it was


def test_what_cannot_be_copied_is_named() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))
    network.lock = threading.Lock()
    with pytest.raises(ConversionError, match="Sequential cannot be copied .*lock.*: take files, locks"):
        prepare(network, 4, torch.rand(2, 3, 8, 8))
