"""The int8 convolution against a float64 one with the rounded weights."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from sj_lowlat.errors import InputError
from sj_lowlat.layers import Int8Conv2d, int8_conv


@given(
    sizes=st.tuples(*[st.integers(1, 4)] * 2, st.integers(5, 9), st.integers(5, 9)),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    groups=st.integers(1, 2),
    bias=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    fast=st.booleans(),
    largest=st.sampled_from([1, 127, 250, 40_000]),
    seed=st.integers(0, 2**31),
)
def test_is_a_convolution_with_rounded_weights(
    sizes: tuple[int, int, int, int],
    kernel: int,
    stride: int,
    dilation: int,
    groups: int,
    bias: bool,
    dtype: torch.dtype,
    fast: bool,
    largest: int,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    into, out, height, width = sizes
    geometry = (stride, kernel // 2, dilation, groups)
    conv = nn.Conv2d(groups * into, groups * out, kernel, *geometry, bias=bias)
    ours = Int8Conv2d(conv)
    # independent of the layer: whole numbers of a 127th of each channel's largest weight
    scale = conv.weight.detach().double().abs().amax((1, 2, 3), keepdim=True) / 127
    numbers = ours.weight.double() / scale
    assert float((numbers - numbers.round()).abs().max()) < 1e-4
    assert float((ours.weight - conv.weight).detach().abs().max()) <= float(scale.max()) / 2 * (1 + 1e-4)
    x = torch.randint(-largest, largest + 1, (2, groups * into, height, width)).to(dtype)  # rounded in bf16
    with pytest.MonkeyPatch.context() as patch:
        if not fast:
            patch.setattr(int8_conv, "_fast", lambda: False)
        with torch.no_grad():
            have = ours(x)
    want = F.conv2d(
        x.double(), ours.weight.double(), None if ours.bias is None else ours.bias.double(), *geometry
    )
    assert have.dtype == torch.float32
    torch.testing.assert_close(have.double(), want, rtol=1e-5, atol=1e-5 * largest)


def test_copies_and_loaded_weights_are_its_own() -> None:
    first, second = (Int8Conv2d(nn.Conv2d(3, 5, 3)) for _ in range(2))
    x = torch.randint(-3, 4, (1, 3, 6, 6)).float()
    with torch.no_grad():
        want = second(x)
        first(x)  # packs its weights
        other = copy.deepcopy(first)
        first.load_state_dict(second.state_dict())
        assert torch.equal(first(x), want) and not torch.equal(other(x), want)


def test_a_channel_of_zeros() -> None:
    conv = nn.Conv2d(2, 2, 1, bias=False)
    nn.init.zeros_(conv.weight)
    assert not Int8Conv2d(conv)(torch.ones(1, 2, 3, 3)).any()


@pytest.mark.parametrize("value", [0.25, 128.5, float("inf"), float("nan")])
def test_spikes_that_do_not_fit(value: float) -> None:
    if not int8_conv._fast():
        pytest.skip("needs a CPU with int8 instructions")
    with pytest.raises(InputError, match=rf"values from {value:g} to {value:g}.*takes whole numbers"):
        Int8Conv2d(nn.Conv2d(1, 1, 1))(torch.full((1, 1, 2, 2), value))


@pytest.mark.parametrize("options", [{"padding": "same"}, {"padding": 1, "padding_mode": "circular"}])
def test_padding_that_it_does_not_know(options: dict) -> None:
    with pytest.raises(InputError, match="needs zero padding given in numbers"):
        Int8Conv2d(nn.Conv2d(1, 1, 3, **options))
