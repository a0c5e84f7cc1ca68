"""Darknet's own layers against plain loops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sj_lowlat.models import Reorg, Route, SameMaxPool, Shortcut
from sj_lowlat.models.darknet_layers import ACTIVATIONS, BinaryConv2d, LocalAvgPool, Reorg3d


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(1, 2),
    stride=st.integers(1, 3),
    factor=st.integers(1, 3),
    rows=st.integers(1, 3),
    columns=st.integers(1, 3),
)
def test_reorg_equals_darknets_loop(n, stride, factor, rows, columns) -> None:
    """As darknet walks: flat memory of both, positions taken from the *input's* shape."""
    c, h, w = factor * stride**2, rows * stride, columns * stride
    x = torch.arange(n * c * h * w, dtype=torch.float32).view(n, c, h, w)
    flat, out = x.flatten().tolist(), [0.0] * x.numel()
    phases = c // stride**2
    for b in range(n):
        for k in range(c):
            for j in range(h):
                for i in range(w):
                    column = i * stride + k // phases % stride
                    row = j * stride + k // phases // stride
                    source = column + w * stride * (row + h * stride * (k % phases + phases * b))
                    out[i + w * (j + h * (k + c * b))] = flat[source]
    expected = torch.tensor(out).view(n, c * stride**2, h // stride, w // stride)
    assert torch.equal(Reorg(stride)(x), expected)
    assert torch.equal(Reorg(stride)(x.to(memory_format=torch.channels_last)), expected)


def test_reorg_is_not_space_to_depth() -> None:
    x = torch.arange(64.0).view(1, 4, 4, 4)
    assert not torch.equal(Reorg(2)(x), nn.functional.pixel_unshuffle(x, 2))


@settings(max_examples=20, deadline=None)
@given(
    size=st.integers(1, 5),
    stride=st.integers(1, 3),
    rows=st.integers(5, 8),
    columns=st.integers(5, 8),
    seed=st.integers(0, 2**31),
)
def test_max_pool_equals_darknets_loop(size, stride, rows, columns, seed) -> None:
    x = (
        torch.randn(1, 2, rows, columns, generator=torch.Generator().manual_seed(seed)) - 5
    )  # zero padding would win
    padding = size - 1
    offset = -(padding // 2)
    out_rows, out_columns = ((side + padding - size) // stride + 1 for side in (rows, columns))
    expected = torch.full((1, 2, out_rows, out_columns), -torch.inf)
    for channel in range(2):
        for i in range(out_rows):
            for j in range(out_columns):
                for y in range(offset + i * stride, offset + i * stride + size):
                    for z in range(offset + j * stride, offset + j * stride + size):
                        if 0 <= y < rows and 0 <= z < columns:
                            expected[0, channel, i, j] = max(expected[0, channel, i, j], x[0, channel, y, z])
    pool = SameMaxPool(size, stride, padding)
    assert isinstance(pool, nn.MaxPool2d)
    assert torch.equal(pool(x), expected)


def test_route_joins_slices() -> None:
    a, b = torch.randn(2, 4, 3, 3), torch.randn(2, 6, 3, 3)
    assert torch.equal(Route([0, 1])([a, b]), torch.cat((a, b), 1))
    assert torch.equal(Route([0, 1], 2, 1)([a, b]), torch.cat((a[:, 2:], b[:, 3:]), 1))
    assert Route([0])([a]) is a


@pytest.mark.parametrize("act", [None, nn.ReLU()])
def test_shortcut_adds(act) -> None:
    a, b = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    assert torch.equal(Shortcut(0, act)(a, b), a + b if act is None else (a + b).relu())


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 5),
    stride=st.integers(1, 4),
    fraction=st.floats(0, 1),
    cells=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    seed=st.integers(0, 2**31),
)
def test_local_avgpool_averages_the_cells_in_the_map(size, stride, fraction, cells, seed) -> None:
    """Only paddings that keep whole strides, as a plan demands: from ``size - stride`` to ``size - 1``."""
    least = max(size - stride, 0)
    padding = least + round(fraction * (size - 1 - least))
    rows, columns = (stride * number for number in cells)
    x = torch.randn(1, 2, rows, columns, generator=torch.Generator().manual_seed(seed)).double()
    pool = LocalAvgPool(size, stride, padding)
    out = pool(x)
    assert tuple(out.shape[2:]) == cells
    first = -(padding // 2)
    for channel in range(2):
        for i in range(cells[0]):
            for j in range(cells[1]):
                inside = [
                    float(x[0, channel, y, z])
                    for y in range(first + i * stride, first + i * stride + size)
                    for z in range(first + j * stride, first + j * stride + size)
                    if 0 <= y < rows and 0 <= z < columns
                ]
                assert out[0, channel, i, j].item() == pytest.approx(sum(inside) / len(inside), abs=1e-12)


def test_reorg3d_puts_each_phase_in_a_block_of_channels() -> None:
    x = torch.arange(2 * 3 * 4 * 6.0).view(2, 3, 4, 6)
    out = Reorg3d(2)(x)
    for phase in range(4):
        expected = x[:, :, phase // 2 :: 2, phase % 2 :: 2]
        assert torch.equal(out[:, 3 * phase : 3 * phase + 3], expected)


def test_binary_convolution_by_hand() -> None:
    conv = BinaryConv2d(1, 1, 3, 1, 1)
    weights = torch.tensor([[1.0, -2, 3], [0, 4, -5], [6, 7, -8]])
    with torch.no_grad():
        conv.weight.copy_(weights)
        conv.bias.fill_(0.5)
    x = torch.tensor([[0.1, -3.0], [0.0, 2.0]])
    signs = {(0, 0): 1, (0, 1): -1, (1, 0): -1, (1, 1): 1}
    mean = weights.abs().sum().item() / 9
    out = conv(x[None, None])[0, 0]
    for (row, column), _ in signs.items():
        total = 0.0
        for i in range(3):
            for j in range(3):
                sign = 1 if weights[i, j] > 0 else -1
                total += mean * sign * signs.get((row + i - 1, column + j - 1), 0)
        assert out[row, column].item() == pytest.approx(total + 0.5, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("leaky", lambda x: x if x > 0 else 0.1 * x),
        ("relie", lambda x: x if x > 0 else 0.01 * x),
        ("relu6", lambda x: min(max(x, 0), 6)),
        ("hardtan", lambda x: min(max(x, -1), 1)),
        ("elu", lambda x: x if x >= 0 else math.exp(x) - 1),
        ("selu", lambda x: 1.0507 * (x if x >= 0 else 1.6732 * (math.exp(x) - 1))),
        ("gelu", lambda x: 0.5 * x * (1 + math.tanh(0.797885 * x + 0.035677 * x**3))),
        ("logistic", lambda x: 1 / (1 + math.exp(-x))),
        ("swish", lambda x: x / (1 + math.exp(-x))),
        ("mish", lambda x: x * math.tanh(math.log1p(math.exp(x)))),
        ("tanh", math.tanh),
    ],
)
def test_activations_are_darknets(name, formula) -> None:
    points = [-8.0, -1.5, -0.25, 0.0, 0.5, 2.0, 7.0]
    found = ACTIVATIONS[name]()(torch.tensor(points, dtype=torch.float64))
    assert found.tolist() == pytest.approx([formula(x) for x in points], abs=1e-3)


def test_every_activation_has_a_formula() -> None:
    (mark,) = test_activations_are_darknets.pytestmark  # type: ignore[attr-defined]
    assert {row[0] for row in mark.args[1]} | {"relu"} == set(ACTIVATIONS)
