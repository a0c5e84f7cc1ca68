"""Rare sections of darknet cfgs: what they compute, their weights in the file, and as spiking networks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sj_lowlat.checkpoint import load, save
from sj_lowlat.conversion import convert, prepare
from sj_lowlat.errors import ConversionError
from sj_lowlat.models import DarknetNet, darknet, load_darknet_weights, save_darknet_weights
from sj_lowlat.simulation import simulate

NET = "[net]\nwidth=32\nheight=32\nchannels=3\n"
CONV = "[convolutional]\nbatch_normalize=1\nfilters=8\nsize=3\nstride=1\npad=1\nactivation=leaky\n"
HEAD = "[convolutional]\nfilters=7\nsize=1\nactivation=linear\n[yolo]\nanchors=4,6\nclasses=2\n"
SHARED = f"{NET}{CONV}{CONV}[route]\nlayers=0\n{CONV}share_index=1\ndilation=3\n[shortcut]\nfrom=-3\n{HEAD}"
POOLED = (
    f"{NET}{CONV}[reorg3d]\nstride=2\n[conv]\nfilters=8\nactivation=relu\n[local_avgpool]\nsize=2\nstride=1\n"
    f"[local_avg]\nsize=3\nstride=2\npadding=1\n{CONV}[local_avgpool]\nsize=4\nstride=4\n{HEAD}"
)


def _net(cfg: str) -> DarknetNet:
    net = darknet(cfg).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return net


@torch.no_grad()
def test_shared_weights_stand_in_the_file_once(tmp_path: Path) -> None:
    net = _net(SHARED)
    x = net.layers[0](torch.rand(1, 3, 32, 32))
    wide = F.conv2d(x, net.layers[1].conv.weight, padding=3, dilation=3)
    torch.testing.assert_close(net.layers[3](x), F.leaky_relu(net.layers[1].bn(wide), 0.1))
    assert not torch.equal(net.layers[3](x), net.layers[1](x))
    save_darknet_weights(net, tmp_path / "a.weights")
    floats = 8 * 3 * 9 + 4 * 8 + 8 * 8 * 9 + 4 * 8 + 7 * 8 + 7
    assert (tmp_path / "a.weights").stat().st_size == 20 + 4 * floats
    again = darknet(SHARED).eval()
    load_darknet_weights(again, tmp_path / "a.weights")
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(again(image), net(image))
    assert again.layers[3].conv.weight is again.layers[1].conv.weight
    save(net, tmp_path / "folder")
    torch.testing.assert_close(load(tmp_path / "folder").eval()(image), net(image))


@pytest.mark.parametrize("cfg", [SHARED, POOLED])
def test_they_settle(cfg: str) -> None:
    net, images = _net(cfg).double(), torch.rand(4, 3, 32, 32, dtype=torch.float64)
    quant = prepare(net, 8, images).eval()
    out = simulate(convert(quant), images, 2, flush=20, burst=8, charge=8).final
    with torch.no_grad():
        for have, want in zip(out, quant(images), strict=True):
            torch.testing.assert_close(have, want, rtol=0, atol=1e-10)


@torch.no_grad()
def test_a_contrastive_loss_changes_nothing() -> None:
    more = f"[route]\nlayers=-2\n{CONV}[contrastive]\nclasses=1\nyolo_layer=-2\n"
    cfg = f"{NET}{CONV}{HEAD}"
    plain, net, image = _net(cfg), _net(cfg + more), torch.rand(1, 3, 32, 32)
    net.load_state_dict({**net.state_dict(), **plain.state_dict()})
    torch.testing.assert_close(net(image), plain(image))


def test_binary_convolutions_are_refused_by_name() -> None:
    net = _net(f"{NET}{CONV}{CONV}xnor=1\nbin_output=1\n{HEAD}")
    with pytest.raises(ConversionError, match=r"layers\.1\.conv' \(BinaryConv2d\)"):
        prepare(net, 8, torch.rand(2, 3, 32, 32))
