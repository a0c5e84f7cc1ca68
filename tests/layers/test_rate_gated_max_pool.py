"""The gated max-pool against loops over windows in NumPy."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from sj_lowlat.layers import Pass, RateGatedMaxPool, SpikeMaxPool
from sj_lowlat.models import SameMaxPool


def gated(spikes: Tensor, size: int, stride: int, before: int, after: int) -> Tensor:
    """What passes ``[T, N, C, H', W']``; windows on a map with empty rows and columns around it."""
    given = spikes.double().numpy()
    steps, batch, channels, height, width = given.shape
    rows, columns = ((side + before + after - size) // stride + 1 for side in (height, width))
    out = np.zeros((steps, batch, channels, rows, columns))
    counts = given.cumsum(0)
    for t, n, c, y, x in np.ndindex(*out.shape):
        best, most = None, -np.inf
        for i in range(y * stride - before, y * stride - before + size):
            for j in range(x * stride - before, x * stride - before + size):
                if 0 <= i < height and 0 <= j < width and counts[t, n, c, i, j] > most:
                    best, most = given[t, n, c, i, j], counts[t, n, c, i, j]
        out[t, n, c, y, x] = best
    return torch.from_numpy(out)


POOLS = {
    "2": (nn.MaxPool2d(2), (2, 2, 0, 0)),
    "3/2": (nn.MaxPool2d(3, 2, 1), (3, 2, 1, 1)),
    "5/1": (nn.MaxPool2d(5, 1, 2), (5, 1, 2, 2)),
    "same": (SameMaxPool(2, 1, 1), (2, 1, 0, 1)),
}


@settings(max_examples=40)
@given(
    name=st.sampled_from(list(POOLS)),
    steps=st.integers(1, 6),
    chunk=st.integers(1, 6),
    size=st.integers(5, 6),
    channels=st.sampled_from([3, 16, 70]),
    burst=st.integers(1, 3),
    signed=st.booleans(),
    channels_last=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int8]),
    seed=st.integers(0, 2**31),
)
def test_against_loops(
    name: str,
    steps: int,
    chunk: int,
    size: int,
    channels: int,
    burst: int,
    signed: bool,
    channels_last: bool,
    dtype: torch.dtype,
    seed: int,
) -> None:
    pool, window = POOLS[name]
    generator = torch.Generator().manual_seed(seed)
    shape = (steps * 2, channels, size, size)
    spikes = torch.randint(-burst if signed else 0, burst + 1, shape, generator=generator).to(dtype)
    if channels_last:
        spikes = spikes.contiguous(memory_format=torch.channels_last)
    x_seq = spikes.unflatten(0, (steps, 2))
    want = gated(x_seq, *window)

    layer = RateGatedMaxPool(pool, step_mode="m")
    with torch.no_grad():
        out = torch.cat([layer(part) for part in x_seq.split(chunk)])  # the state goes on
    assert out.dtype == dtype and torch.equal(out.double(), want)
    assert torch.equal(layer.count, x_seq.sum(0).to(layer.count.dtype))

    functional.reset_net(layer)
    with layer.clock.during(Pass(steps, 2)), torch.inference_mode():
        assert torch.equal(layer(spikes), out.flatten(0, 1))
    single = RateGatedMaxPool(pool)
    assert torch.equal(torch.stack([single(x) for x in x_seq]), out)
    functional.reset_net(single)
    assert single.count == 0.0 and torch.equal(single(x_seq[0]), out[0])


def test_by_hand() -> None:
    """The second input leads from step 3 on; its first spike, and that of the first input, are history."""
    spikes = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]).view(4, 1, 1, 1, 2)
    layer = RateGatedMaxPool(nn.MaxPool2d((1, 2)), step_mode="m")
    assert layer(spikes).flatten().tolist() == [1.0, 0.0, 1.0, 1.0]  # 3 in all, where each input fired twice
    assert SpikeMaxPool(nn.MaxPool2d((1, 2)), step_mode="m")(spikes).sum() == 2


def test_a_steady_leader_passes_all_of_its_spikes() -> None:
    rates = torch.tensor([0.25, 1.0, 0.5, 0.125])
    steps = torch.arange(1, 17).view(-1, 1)
    spikes = ((rates * steps).floor() - (rates * (steps - 1)).floor()).view(16, 1, 1, 2, 2)
    assert RateGatedMaxPool(nn.MaxPool2d(2), step_mode="m")(spikes).flatten().tolist() == [1.0] * 16


@pytest.mark.parametrize("make", [nn.MaxPool1d, nn.MaxPool3d, lambda size: nn.AdaptiveMaxPool2d(2)])
def test_other_pools(make: type[nn.Module]) -> None:
    """Where no two counts are equal, a step passes the input where a pool of the counts finds its maximum."""
    pool = make(2)  # type: ignore[call-arg]
    shape = {nn.MaxPool1d: (8,), nn.MaxPool3d: (4, 4, 4)}.get(make, (4, 4))  # type: ignore[call-overload]
    layer = RateGatedMaxPool(pool)
    first = torch.randperm(2 * int(np.prod(shape))).float().view(1, 2, *shape)
    torch.testing.assert_close(layer(first), pool(first))
    second = torch.rand_like(first) / 2  # changes no maximum
    with_indices = copy.deepcopy(pool)
    with_indices.return_indices = True  # type: ignore[assignment]
    places = with_indices(first)[1]
    assert torch.equal(layer(second), second.flatten(2).gather(2, places.flatten(2)).view_as(places))


def test_another_shape_starts_anew() -> None:
    layer = RateGatedMaxPool(nn.MaxPool2d(2))
    layer(torch.ones(1, 1, 4, 4))
    assert torch.equal(layer(torch.ones(2, 1, 4, 4)), torch.ones(2, 1, 2, 2))
    assert torch.equal(layer.count, torch.ones(2, 1, 4, 4))


def test_gradients_go_to_the_inputs_that_pass() -> None:
    layer = RateGatedMaxPool(nn.MaxPool2d(2))
    layer(torch.tensor([[[[0.0, 0.0], [1.0, 0.0]]]]))
    x = torch.tensor([[[[0.0, 1.0], [1.0, 1.0]]]], requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None and x.grad.flatten().tolist() == [0, 0, 1, 0]
