"""Convolutions and pools that leave out what has no spikes, against those of everything."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from sj_lowlat.conversion import convert, prepare
from sj_lowlat.kernels import choose
from sj_lowlat.kernels.active import NOTHING, active_box
from sj_lowlat.layers import Pass, as_synapse
from sj_lowlat.layers.window import convolve_active
from sj_lowlat.simulation import simulate

DTYPES = (torch.int8, torch.bfloat16, torch.float32, torch.float64)
cpp_only = pytest.mark.skipif(choose(torch.device("cpu")) != "cpp", reason="no C++ compiler")


def spikes_in_a_box(draw: Any, shape: tuple[int, int, int, int], dtype: torch.dtype) -> torch.Tensor:
    """Spikes of both signs, zero outside of a box and here and there within."""
    _, _, height, width = shape
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    bottom, right = draw(st.integers(top, height)), draw(st.integers(left, width))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    x = torch.randint(-1, 2, shape, generator=random)
    x[:, :, :top], x[:, :, bottom:], x[..., :left], x[..., right:] = 0, 0, 0, 0
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


@cpp_only
@given(
    shape=st.tuples(*[st.integers(1, 3)] * 2, *[st.integers(1, 20)] * 2),
    dtype=st.sampled_from(DTYPES),
    data=st.data(),
)
def test_the_box_holds_all_spikes_and_no_more(
    shape: tuple[int, int, int, int], dtype: torch.dtype, data: st.DataObject
) -> None:
    x = spikes_in_a_box(data.draw, shape, dtype)
    rows, columns = (np.flatnonzero((x != 0).any(dims[0]).any(dims[1]).any(dims[2]).numpy())
                     for dims in ((0, 0, 1), (0, 0, 0)))  # fmt: skip
    want = (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1) if len(rows) else NOTHING
    assert active_box(x) == want


def test_other_memory_is_taken_as_full(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.zeros(2, 3, 4, 5)
    assert active_box(x) == (0, 4, 0, 5)  # channels first
    assert active_box(x[:0]) == NOTHING
    last = x.contiguous(memory_format=torch.channels_last)
    monkeypatch.setenv("SJ_LOWLAT_KERNEL", "reference")
    assert active_box(last) == (0, 4, 0, 5)
    monkeypatch.setenv("SJ_LOWLAT_KERNEL", "cpp")  # no kernel of the CPU reads memory of another device
    assert active_box(last.to("meta")) == (0, 4, 0, 5)


@given(
    channels=st.tuples(*[st.integers(1, 3)] * 2),
    sides=st.tuples(*[st.integers(9, 34)] * 2),
    kernel=st.tuples(*[st.integers(1, 5)] * 2),
    stride=st.tuples(*[st.integers(1, 3)] * 2),
    padding=st.tuples(*[st.integers(0, 3)] * 2),
    dilation=st.tuples(*[st.integers(1, 2)] * 2),
    groups=st.integers(1, 2),
    bias=st.booleans(),
    data=st.data(),
)
def test_a_part_gives_what_the_whole_gives(
    channels: tuple[int, int],
    sides: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    bias: bool,
    data: st.DataObject,
) -> None:
    into, out = (groups * number for number in channels)
    conv = nn.Conv2d(into, out, kernel, stride, padding, dilation, groups).double()
    x = spikes_in_a_box(data.draw, (2, into, *sides), torch.float64)
    shift = conv.bias if bias else None
    geometry = (conv.stride, conv.padding, conv.dilation, groups)
    read: list[int] = []

    def dense(part: torch.Tensor, shift: torch.Tensor | None) -> torch.Tensor:
        read.append(part.shape[2] * part.shape[3])
        return F.conv2d(part, conv.weight, shift, *geometry)

    with torch.no_grad():
        have = convolve_active(conv, x, shift, dense)
        want = F.conv2d(x, conv.weight, shift, *geometry)
    assert have.shape == want.shape and torch.allclose(have, want, rtol=0, atol=1e-12)
    assert len(read) == (0 if active_box(x) == NOTHING else 1)
    assert have.is_contiguous(memory_format=torch.channels_last)


@cpp_only
def test_little_is_read_where_little_is_sent() -> None:
    conv = nn.Conv2d(3, 4, 3, padding=1)
    x = torch.zeros(1, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    x[0, 1, 20, 30] = 1
    read: list[torch.Size] = []
    with torch.no_grad():
        convolve_active(conv, x, None, lambda part, _: read.append(part.shape) or conv(part))
    assert read[0][2] <= 11 and read[0][3] <= 11  # a cell of 8, and a pixel around it


@cpp_only
def test_only_in_a_simulation_and_without_gradients() -> None:
    synapse: Any = as_synapse(nn.Conv2d(2, 3, 3, padding=1, bias=False))
    x, parts = torch.zeros(1, 2, 16, 16).contiguous(memory_format=torch.channels_last), []
    synapse.dense = lambda part, bias: parts.append(part.shape) or type(synapse).dense(synapse, part, bias)
    synapse(x)
    with synapse.clock.during(Pass(steps=1, batch=1)):
        synapse(x.requires_grad_())
        assert len(parts) == 2
        with torch.no_grad():
            assert not synapse(x).any() and len(parts) == 2


@settings(max_examples=15)
@given(seed=st.integers(0, 2**31), schedule=st.sampled_from(["1+3b8", "2+4b4", "6+4"]))
def test_a_run_sends_the_spikes_of_one_that_leaves_nothing_out(seed: int, schedule: str) -> None:
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1),
    )  # fmt: skip
    images = torch.zeros(2, 3, 32, 32)
    images[:, :, 10:15, 3:20] = torch.rand(2, 3, 5, 17)
    for layer in (net[0], net[3], net[5]):
        layer.bias.data.clamp_(max=0)  # type: ignore[union-attr, operator]
    snn = convert(prepare(net.eval(), 8, images)).double()
    counts = []
    with pytest.MonkeyPatch.context() as patch:
        for kernel in ("auto", "reference"):
            patch.setenv("SJ_LOWLAT_KERNEL", kernel)
            found = simulate(snn, images.double(), schedule)
            nodes = (module for module in snn.modules() if hasattr(module, "count"))
            counts.append([found.final, *(node.count.clone() for node in nodes)])
    for have, want in zip(*counts, strict=True):
        assert torch.allclose(have, want, rtol=0, atol=1e-12)
