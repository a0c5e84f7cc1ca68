"""Networks with additions, gates and functions, unmodified: the settled network is the quantised one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn

from sj_lowlat.conversion import convert, prepare
from sj_lowlat.layers import QuantReLU
from sj_lowlat.models import darknet
from sj_lowlat.simulation import simulate

CFG = """[net]
width=64
height=64
channels=3
[convolutional]
batch_normalize=1
filters=8
size=3
stride=1
pad=1
activation=leaky
[convolutional]
batch_normalize=1
filters=8
size=3
stride=1
pad=1
activation=leaky
[shortcut]
from=-2
activation=linear
[convolutional]
filters=21
size=1
stride=1
pad=1
activation=linear
[yolo]
mask=0,1,2
anchors=10,14,23,27,37,58
classes=2
num=3
"""

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: torchvision.models.resnet18(num_classes=10),
    "mobilenet_v2": lambda: torchvision.models.mobilenet_v2(num_classes=10, width_mult=0.25),
    "mobilenet_v3": lambda: torchvision.models.mobilenet_v3_small(num_classes=10, width_mult=0.25),
    "efficientnet_b0": lambda: torchvision.models.efficientnet_b0(num_classes=10),
    "squeezenet": lambda: torchvision.models.squeezenet1_1(num_classes=10),
    "darknet shortcut": lambda: darknet(CFG),
}


@pytest.mark.parametrize("name", list(NETWORKS))
def test_settles_to_its_quantised_network(name: str) -> None:
    net = NETWORKS[name]().double()
    images = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    net.train()(images)
    quant = prepare(net.eval(), 8, images).eval()
    out = simulate(convert(quant), images, 1, flush=100, burst=8, charge=8).final
    with torch.no_grad():
        torch.testing.assert_close(out, quant(images), rtol=0, atol=1e-9)


class Meets(nn.Module):
    """Two activations whose spikes add up."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(n, 4, 3, padding=1) for n in (3, 4))
        self.acts = nn.ModuleList(nn.ReLU() for _ in range(2))
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.acts[0](self.convs[0](x))
        return self.head(y + self.acts[1](self.convs[1](y)))  # type: ignore[no-any-return]


def test_tied_activations_share_the_largest_clip() -> None:
    """One parameter, so that training keeps them equal."""
    network, images = Meets().eval(), torch.rand(2, 3, 8, 8)
    apart, tied = (
        [act for act in prepare(network, 8, images, sums=sums).modules() if isinstance(act, QuantReLU)]
        for sums in ("rescale", "tie")
    )
    assert apart[0].clip_raw is not apart[1].clip_raw and tied[0].clip_raw is tied[1].clip_raw
    clips = [float(act.clip.detach()) for act in apart]
    assert clips[0] != clips[1] and float(tied[0].clip.detach()) == pytest.approx(max(clips))
