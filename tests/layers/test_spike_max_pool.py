"""Max-pooling of spikes against max-pooling of their sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import functional
from torch import nn

from sj_lowlat.layers import SpikeMaxPool
from sj_lowlat.models import SameMaxPool

pools = st.sampled_from(
    [
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, 2, 1),
        nn.MaxPool2d(5, 1, 2),
        SameMaxPool(2, 1, 1),
        nn.AdaptiveMaxPool2d(2),
    ]
)


@given(
    pool=pools,
    steps=st.integers(1, 9),
    chunk=st.integers(1, 9),
    size=st.integers(5, 8),
    burst=st.integers(1, 3),
    signed=st.booleans(),
    seed=st.integers(0, 2**31),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_outputs_sum_up_to_the_pool_of_the_sums(
    pool: nn.Module,
    steps: int,
    chunk: int,
    size: int,
    burst: int,
    signed: bool,
    seed: int,
    dtype: torch.dtype,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    low = -burst if signed else 0
    spikes = torch.randint(low, burst + 1, (steps, 2, 3, size, size), generator=generator).to(dtype)
    layer = SpikeMaxPool(pool, step_mode="m")
    out = torch.cat([layer(part) for part in spikes.split(chunk)])  # the state goes on
    want = torch.stack([pool(total) for total in spikes.double().cumsum(0)])
    assert out.dtype == dtype and torch.equal(out.double().cumsum(0), want)
    assert float(out.max()) <= burst and float(out.min()) >= low  # no larger spikes than came in

    single = SpikeMaxPool(pool)
    assert torch.equal(torch.stack([single(x) for x in spikes]), out)
    functional.reset_net(single)
    assert torch.equal(single(spikes[0]), out[0])


def test_a_pool_of_each_steps_spikes_is_something_else() -> None:
    spikes = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(2, 1, 1, 1, 2)  # two neurons that take turns
    layer = SpikeMaxPool(nn.MaxPool2d((1, 2)), step_mode="m")
    assert layer(spikes).flatten().tolist() == [1.0, 0.0]
    assert nn.MaxPool2d((1, 2))(spikes.flatten(0, 1)).flatten().tolist() == [1.0, 1.0]


def test_another_shape_starts_anew() -> None:
    layer = SpikeMaxPool(nn.MaxPool2d(2))
    layer(torch.ones(1, 1, 4, 4))
    assert torch.equal(layer(torch.ones(2, 1, 4, 4)), torch.ones(2, 1, 2, 2))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_flow(layout: torch.memory_format) -> None:
    x = torch.rand(1, 2, 4, 4).contiguous(memory_format=layout).requires_grad_()
    SpikeMaxPool(nn.MaxPool2d(2))(x).sum().backward()
    assert x.grad is not None and float(x.grad.sum()) == 8


@settings(max_examples=60)
@given(
    side=st.integers(1, 3),
    windows=st.tuples(st.integers(1, 5), st.integers(1, 4)),
    sizes=st.tuples(st.integers(1, 4), st.integers(1, 3), st.sampled_from([1, 3, 16, 70])),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    channels_last=st.booleans(),
    form=st.sampled_from([int, lambda side: (side, side), lambda side: [side, side]]),
    seed=st.integers(0, 2**31),
)
def test_every_kernel_pools_the_same(
    side: int,
    windows: tuple[int, int],
    sizes: tuple[int, int, int],
    dtype: torch.dtype,
    channels_last: bool,
    form: Callable[[int], Any],
    seed: int,
) -> None:
    steps, batch, channels = sizes
    generator = torch.Generator().manual_seed(seed)
    shape = (steps * batch, channels, *(side * length for length in windows))
    spikes = torch.randint(-3, 4, shape, generator=generator).to(dtype)
    if channels_last:
        spikes = spikes.contiguous(memory_format=torch.channels_last)
    results = []
    for kernel in ("auto", "reference"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SJ_LOWLAT_KERNEL", kernel)
            pool = SpikeMaxPool(nn.MaxPool2d(form(side)), step_mode="m")
            x_seq = spikes.unflatten(0, (steps, batch))
            results.append((pool(x_seq), pool(x_seq), pool.count, pool.sent))  # the state goes on
    for have, want in zip(*results, strict=True):
        assert have.dtype == want.dtype and torch.equal(have, want)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_flow_through_the_state(layout: torch.memory_format) -> None:
    """A later step without gradients of its own still depends on the counts of an earlier one."""
    pool = SpikeMaxPool(nn.MaxPool2d(2))
    first = torch.tensor([[[[3.0, 0.0], [0.0, 0.0]]]]).contiguous(memory_format=layout).requires_grad_()
    pool(first)
    pool(torch.tensor([[[[0.0, 5.0], [0.0, 0.0]]]]).contiguous(memory_format=layout))
    pool.sent.sum().backward()  # M(2) is another input's count than M(1)
    assert first.grad is not None and first.grad.flatten().tolist() == [0, 1, 0, 0]
