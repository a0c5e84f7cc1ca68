"""Batch-norm folding against the eval-mode network itself."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sj_lowlat.conversion.fold import fold_batch_norm, in_channels, out_channels
from sj_lowlat.errors import ConversionError

KINDS: dict[str, tuple[type[nn.Module], type[nn.Module], tuple[int, ...]]] = {
    "conv1d": (nn.Conv1d, nn.BatchNorm1d, (11,)),
    "conv2d": (nn.Conv2d, nn.BatchNorm2d, (9, 11)),
    "transposed": (nn.ConvTranspose2d, nn.BatchNorm2d, (4, 5)),
    "linear": (nn.Linear, nn.BatchNorm1d, ()),
}


@settings(max_examples=60)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    groups=st.integers(1, 3),
    into=st.integers(1, 3),
    out=st.integers(1, 4),
    kernel=st.integers(1, 3),
    dilation=st.integers(1, 2),
    stride=st.integers(1, 2),
    bias=st.booleans(),
    affine=st.booleans(),
    seed=st.integers(0, 99),
)
def test_folded_layer_equals_layer_and_norm(
    trained: Callable[..., Any],
    kind: str,
    groups: int,
    into: int,
    out: int,
    kernel: int,
    dilation: int,
    stride: int,
    bias: bool,
    affine: bool,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    make, norm, size = KINDS[kind]
    if kind == "linear":
        layer = make(into, out, bias=bias)
    else:
        layer = make(groups * into, groups * out, kernel, stride, dilation=dilation, groups=groups, bias=bias)
    net = trained(nn.Sequential(layer, norm(out_channels(layer), affine=affine)), seed).double()
    x = torch.randn(3, in_channels(layer), *size, dtype=torch.float64)
    want = net(x)
    fold_batch_norm(net[0], net[1])
    torch.testing.assert_close(net[0](x), want, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("transposed", [False, True])
def test_agrees_with_torch(trained: Callable[..., Any], transposed: bool) -> None:
    make = nn.ConvTranspose2d if transposed else nn.Conv2d
    net = trained(nn.Sequential(make(3, 7, 3), nn.BatchNorm2d(7))).double()
    fused = fuse_conv_bn_eval(copy.deepcopy(net[0]), copy.deepcopy(net[1]), transpose=transposed)
    fold_batch_norm(net[0], net[1])
    torch.testing.assert_close(net[0].weight, fused.weight)
    torch.testing.assert_close(net[0].bias, fused.bias)


def test_keeps_the_number_format_and_rounds_once(trained: Callable[..., Any]) -> None:
    net = trained(nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)))
    exact = copy.deepcopy(net).double()
    for layers in (net, exact):
        fold_batch_norm(layers[0], layers[1])
    assert net[0].weight.dtype == net[0].bias.dtype == torch.float32
    assert torch.equal(net[0].weight, exact[0].weight.float())
    assert torch.equal(net[0].bias, exact[0].bias.float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_layer_that_shares_the_weight_keeps_it(trained: Callable[..., Any], dtype: torch.dtype) -> None:
    net = trained(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(3, 4, 1)).to(dtype))
    net[2].weight = net[0].weight
    before = net[2].weight.clone()
    fold_batch_norm(net[0], net[1])
    assert torch.equal(net[2].weight, before)
    assert not torch.equal(net[0].weight, before)


def test_norm_without_statistics_is_refused() -> None:
    with pytest.raises(ConversionError, match="track_running_stats=True"):
        fold_batch_norm(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, track_running_stats=False))
