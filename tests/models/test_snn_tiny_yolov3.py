"""SNN-Tiny-YOLOv3 against its table."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from sj_lowlat.errors import InputError
from sj_lowlat.models import build, snn_tiny_yolov3, tiny_yolov3

# number: in, out, kernel, stride, side of the output at 416 px
TABLE = {
    0: (3, 16, 3, 1, 416),
    1: (16, 16, 3, 2, 208),
    2: (16, 32, 3, 1, 208),
    3: (32, 32, 3, 2, 104),
    4: (32, 64, 3, 1, 104),
    5: (64, 64, 3, 2, 52),
    6: (64, 128, 3, 1, 52),
    7: (128, 128, 3, 2, 26),
    8: (128, 256, 3, 1, 26),
    9: (256, 256, 3, 2, 13),
    10: (256, 512, 3, 1, 13),
    11: (512, 1024, 3, 1, 13),
    12: (1024, 256, 1, 1, 13),
    13: (256, 512, 3, 1, 13),
    14: (512, 255, 1, 1, 13),
    17: (256, 128, 1, 1, 13),
    18: (128, 128, 3, 2, 26),
    20: (384, 256, 3, 1, 26),
    21: (256, 255, 1, 1, 26),
}


@torch.no_grad()
def test_table() -> None:
    net = snn_tiny_yolov3().eval()
    assert sum(p.numel() for p in net.parameters()) == 9_786_734
    assert sum(isinstance(m, nn.ReLU) for m in net.modules()) == 17
    seen, macs = {}, 0

    def note(name):
        def hook(module, inputs, output):
            nonlocal macs
            seen[name] = (
                inputs[0].shape[1],
                output.shape[1],
                module.kernel_size[0],
                module.stride[0],
                output.shape[2],
            )
            products = inputs[0] if isinstance(module, nn.ConvTranspose2d) else output
            macs += module.weight.numel() * products.shape[2] * products.shape[3]

        return hook

    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(note(int(name.split(".")[1])))
    maps = net(torch.rand(1, 3, 416, 416))
    assert seen == TABLE
    assert round(macs / 1e9, 3) == 3.306
    assert [tuple(m.shape) for m in maps] == [(1, 255, 13, 13), (1, 255, 26, 26)]
    up = net.layers["18"].conv
    assert isinstance(up, nn.ConvTranspose2d) and (up.padding, up.output_padding) == ((1, 1), (1, 1))


def test_activations_run_once_and_heads_are_linear() -> None:
    net = snn_tiny_yolov3(2, width=0.1, input_size=64).eval()
    calls: list[str] = []
    for name, module in net.named_modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
    net(torch.rand(1, 3, 64, 64))
    assert len(calls) == len(set(calls)) == 17
    assert [key for key in net.state_dict() if key.startswith(("layers.14.", "layers.21."))] == [
        f"layers.{n}.conv.{part}" for n in (14, 21) for part in ("weight", "bias")
    ]


def test_same_heads_as_the_original() -> None:
    with torch.device("meta"):
        ours, original = snn_tiny_yolov3(), tiny_yolov3()
    assert ours.head_specs == original.head_specs
    assert (ours.class_names, ours.input_shape, ours.stride) == (
        original.class_names,
        original.input_shape,
        original.stride,
    )


def test_config_builds_the_same() -> None:
    net = snn_tiny_yolov3(4, width=0.25, class_names=list("abcd"), input_size=96, in_channels=1)
    again = build(json.loads(json.dumps(net.build_config)))
    assert {k: v.shape for k, v in again.state_dict().items()} == {
        k: v.shape for k, v in net.state_dict().items()
    }
    assert (again.head_specs, again.class_names, again.input_shape) == (
        net.head_specs,
        net.class_names,
        net.input_shape,
    )
    again.load_state_dict(net.state_dict())
    image = torch.rand(1, 1, 96, 96)
    torch.testing.assert_close(again.eval()(image), net.eval()(image))


def test_untrained_activity_neither_dies_nor_explodes() -> None:
    """He initialisation, also of the transposed convolution: outputs keep about their inputs' scale."""
    net = snn_tiny_yolov3(2, width=0.5, input_size=64).eval()  # batch norm passes through
    scales = []
    for module in net.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(
                lambda _, __, output: scales.append(output.square().mean().sqrt().item())
            )
    net(torch.rand(2, 3, 64, 64))
    assert min(scales) > 0.05 and max(scales) < 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "num_classes"),
        ({"in_channels": -1}, "in_channels"),
        ({"width": -1.0}, "width"),
        ({"input_size": 40}, "multiple of 32"),
    ],
)
def test_refuses(arguments, message) -> None:
    with pytest.raises(InputError, match=message):
        snn_tiny_yolov3(**arguments)
    with pytest.raises(InputError, match=r"\[2, 3, 33, 64\].*letterbox"):
        snn_tiny_yolov3(1, width=0.1)(torch.rand(2, 3, 33, 64))
