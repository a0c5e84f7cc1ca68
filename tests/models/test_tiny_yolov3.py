"""YOLOv3-Tiny as published, and any width of it."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from sj_lowlat.errors import InputError
from sj_lowlat.models import build, darknet, tiny_yolov3
from sj_lowlat.models.tiny_yolov3 import scaled_width


def test_is_the_published_network(data_dir) -> None:
    with torch.device("meta"):
        ours, published = tiny_yolov3(), darknet(data_dir / "darknet" / "yolov3-tiny-mask123.cfg")
    assert str(ours) == str(published)  # every layer, its shape and settings
    assert ours.head_specs == published.head_specs
    assert (ours.input_shape, ours.stride, ours.class_names) == ((3, 416, 416), 32, published.class_names)
    assert sum(p.numel() for p in ours.parameters()) == 8_852_366


def test_activations_are_modules() -> None:
    net = tiny_yolov3(width=0.1)
    assert sum(isinstance(m, nn.LeakyReLU) for m in net.modules()) == 11
    assert sum(isinstance(m, nn.MaxPool2d) for m in net.modules()) == 6


@pytest.mark.parametrize(("width", "size", "classes", "channels"), [(0.1, 96, 2, 1), (0.25, 64, 3, 3)])
def test_narrow(width, size, classes, channels) -> None:
    net = tiny_yolov3(
        classes, input_size=size, width=width, in_channels=channels, class_names=list("abc")[:classes]
    )
    maps = net.eval()(torch.rand(2, channels, size, size))
    outputs = 3 * (5 + classes)
    assert [tuple(m.shape) for m in maps] == [(2, outputs, size // s, size // s) for s in (32, 16)]
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.num_features % 8 == 0
    again = build(json.loads(json.dumps(net.build_config)))
    assert {k: v.shape for k, v in again.state_dict().items()} == {
        k: v.shape for k, v in net.state_dict().items()
    }
    assert (again.head_specs, again.class_names, again.input_shape) == (
        net.head_specs,
        net.class_names,
        net.input_shape,
    )


def test_width_rounds_to_eights() -> None:
    assert [scaled_width(c, 1.0) for c in (16, 128, 1024)] == [16, 128, 1024]
    assert [scaled_width(16, w) for w in (0.01, 0.7, 0.8, 2.0)] == [8, 8, 16, 32]
    assert scaled_width(64, 0.3) == 16 and scaled_width(64, 0.33) == 24


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "num_classes"),
        ({"in_channels": 0}, "in_channels"),
        ({"input_size": 100}, "multiple of 32"),
        ({"input_size": 0}, "multiple of 32"),
        ({"width": 0.0}, "width"),
        ({"width": float("nan")}, "width"),
        ({"class_names": ["a"]}, "80 names"),
    ],
)
def test_refuses(arguments, message) -> None:
    with pytest.raises(InputError, match=message):
        tiny_yolov3(**arguments)


def test_training_step_reaches_every_weight() -> None:
    net = tiny_yolov3(2, input_size=64, width=0.1)
    sum(m.square().mean() for m in net(torch.rand(2, 3, 64, 64))).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
