"""Options that do not fit, images that cannot be used, and networks that stay as they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from sj_lowlat.conversion import convert, prepare, replace_layers
from sj_lowlat.errors import InputError

IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def conv(into: int = 3, out: int = 4, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(into, out, 3, stride, padding=1)


class Body(nn.Module):
    """Two convolutions with an activation each, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.act1 = conv(), nn.ReLU()
        self.conv2, self.act2 = conv(4), nn.ReLU()
        self.head = conv(4, 2)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.act2(self.conv2(self.act1(self.conv1(x)))))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neuron": "lif"}, "neuron is 'lif', it must be one of signed, residual-fix, if, imbalanced"),
        ({"scale": "99.9%"}, "scale='99.9%' needs calibration images"),
        ({"scale": "mean", "calibration": IMAGES}, "statistic is 'mean'"),
        (
            {"scale": "trained"},
            r"needs a QuantReLU everywhere, but act1, act2 \(2 in all\) .*call prepare first",
        ),
        ({"scale": "max", "calibration": IMAGES * torch.nan}, "NaN"),
        (
            {"scale": "max", "calibration": iter([IMAGES])},
            "an iterator, which can be read only once; give a list",
        ),
        ({"scale": "max", "calibration": []}, "holds no images"),
    ],
)
def test_options_that_do_not_fit(snapshot: Callable[..., Any], options: dict[str, Any], message: str) -> None:
    net = Body()
    before = snapshot(net)
    with pytest.raises(InputError, match=message):
        convert(net, example=None if "calibration" in options else IMAGES, **options)
    assert snapshot(net) == before


def test_the_shape_of_the_input_must_be_known() -> None:
    with pytest.raises(InputError, match="shape of the input is unknown: give example="):
        convert(Body())
    with pytest.raises(InputError, match="prepare needs calibration images"):
        prepare(Body(), 8, example=IMAGES)
    with pytest.raises(InputError, match="uint8"):
        prepare(Body(), 8, torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(InputError, match="levels is 0"):
        prepare(Body(), 0, IMAGES)
    with pytest.raises(InputError, match="levels is 2.5"):
        prepare(Body(), 2.5, IMAGES)  # type: ignore[arg-type]


def test_a_single_layer_is_no_network() -> None:
    with pytest.raises(InputError, match="no nn.ReLU|single layer"):
        prepare(conv(), 8, IMAGES)


@pytest.mark.parametrize("error", [False, True])
def test_the_network_is_left_as_it_was(snapshot: Callable[..., Any], error: bool) -> None:
    net = nn.Sequential(
        conv(), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Dropout(), conv(4, 2)
    )
    net.train()
    net[1].eval()
    net.note = ["kept"]  # type: ignore[assignment]
    replaced = replace_layers(net, IMAGES)
    prepared = prepare(replaced, 8, IMAGES)
    before = [snapshot(model) for model in (net, replaced, prepared)]
    random_state = torch.get_rng_state()
    if error:
        for verb in (
            lambda: replace_layers(net, IMAGES * torch.nan),
            lambda: prepare(replaced, -1, IMAGES),
            lambda: convert(prepared, scale="never", calibration=IMAGES),
        ):
            with pytest.raises(InputError):
                verb()
    else:
        convert(prepare(replace_layers(net, IMAGES), 8, IMAGES))
    assert [snapshot(model) for model in (net, replaced, prepared)] == before
    assert torch.equal(torch.get_rng_state(), random_state)
