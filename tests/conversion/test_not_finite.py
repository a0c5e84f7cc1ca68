"""A network whose weights are no numbers is refused, for its neurons would make numbers of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from sj_lowlat import checkpoint
from sj_lowlat.conversion import convert, prepare, replace_layers
from sj_lowlat.errors import InputError

IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", ["0.weight", "1.running_var", "1.bias", "3.bias"])
def test_weights_that_are_no_numbers(value: float, place: str, tmp_path: Path) -> None:
    broken, quant = net(), prepare(net(), 4, IMAGES)
    for network in (broken, quant):
        network.state_dict()[place].flatten()[0] = value
    checkpoint.save(quant, tmp_path)
    message = rf"{place} holds NaN or infinite values \(1 of "
    for job in (
        lambda: prepare(broken, 4, IMAGES),
        lambda: convert(broken, scale="max", calibration=IMAGES),
        lambda: convert(quant),
        lambda: replace_layers(broken, IMAGES),
        lambda: checkpoint.load(tmp_path),
    ):
        with pytest.raises(InputError, match=message):
            job()
