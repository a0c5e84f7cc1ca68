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


def body() -> nn.Sequential:
    """Two convolutions with an activation each, and a head."""
    net = nn.Sequential()
    net.conv1, net.act1 = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()
    net.conv2, net.act2 = nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()
    net.head = nn.Conv2d(4, 2, 3, padding=1)
    return net


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
    net = body()
    before = snapshot(net)
    with pytest.raises(InputError, match=message):
        convert(net, example=None if "calibration" in options else IMAGES, **options)
    assert snapshot(net) == before


def test_the_shape_of_the_input_must_be_known() -> None:
    with pytest.raises(InputError, match="shape of the input is unknown: give example="):
        convert(body())
    with pytest.raises(InputError, match="prepare needs calibration images"):
        prepare(body(), 8, example=IMAGES)
    with pytest.raises(InputError, match="uint8"):
        prepare(body(), 8, torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(InputError, match="levels is 0"):
        prepare(body(), 0, IMAGES)
    with pytest.raises(InputError, match="levels is 2.5"):
        prepare(body(), 2.5, IMAGES)  # type: ignore[arg-type]


def test_a_single_layer_is_no_network() -> None:
    with pytest.raises(InputError, match="no nn.ReLU|single layer"):
        prepare(nn.Conv2d(3, 4, 3), 8, IMAGES)


@pytest.mark.parametrize("error", [False, True])
def test_the_network_is_left_as_it_was(snapshot: Callable[..., Any], error: bool) -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Dropout(),
        nn.Conv2d(4, 2, 3),
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
