"""Converted networks in SpikingJelly's multi-step mode."""

from __future__ import annotations

import pytest
import torch
from spikingjelly.activation_based import functional
from torch import nn

from sj_lowlat.conversion import convert, prepare
from sj_lowlat.errors import InputError
from sj_lowlat.simulation import simulate


@torch.no_grad()
def test_a_sequence_is_as_many_single_steps() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3), nn.LeakyReLU(0.1), nn.MaxPool2d(2), nn.Conv2d(6, 4, 3), nn.ReLU()]
    ann = nn.Sequential(*layers, nn.Conv2d(4, 2, 1)).eval()
    images = torch.rand(6, 2, 3, 12, 12)  # other images in each step
    snn = convert(prepare(ann, 4, images.flatten(0, 1)))
    single = torch.stack([snn(x) for x in images])
    functional.reset_net(snn)
    functional.set_step_mode(snn, "m")
    torch.testing.assert_close(snn(images), single)
    functional.reset_net(snn)
    parts = torch.cat([snn(images[:2]), snn(images[2:])])  # the state is kept
    torch.testing.assert_close(parts, single)
    before = simulate(snn, images[0], 4, flush=8).final
    functional.set_step_mode(snn, "s")
    assert torch.equal(simulate(snn, images[0], 4, flush=8).final, before)


def test_a_sequence_needs_its_axis() -> None:
    images = torch.rand(2, 3, 8, 8)
    snn = convert(prepare(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)), 4, images))
    functional.set_step_mode(snn, "m")
    with pytest.raises(InputError, match=r"takes a sequence \[T, N, \*\] of images \[3, 8, 8\]; got"):
        snn(images)
