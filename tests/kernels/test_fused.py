"""The C++ kernels, CUDA's and the CPU's, give the spikes and states of the reference, bit by bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sj_lowlat.kernels import FireRule, multi_step
from sj_lowlat.kernels.memory import SpikeSums
from sj_lowlat.kernels.source import Variant

limits, bursts = st.one_of(st.none(), st.integers(1, 5)), st.integers(2, 5)
RULES = {
    "if": st.just(FireRule.plain()),
    "hard reset": st.just(FireRule.hard()),
    "bursts": st.builds(FireRule.plain, burst=bursts),
    "signed": st.builds(FireRule.signed, limits),
    "signed bursts": st.builds(FireRule.signed, limits, burst=bursts),
    "leaky": st.builds(FireRule.signed, limits, st.sampled_from([0.1, 0.25]), st.integers(1, 3)),
    "identity": st.builds(FireRule.signed, limits, st.just(1.0), st.integers(1, 3)),
    "imbalanced": st.builds(FireRule.imbalanced, slope=st.sampled_from([0.1, 0.7, 1.0])),
}
any_rule = st.one_of(*RULES.values())
RULES["powers of two"] = st.builds(lambda rule: replace(rule, powers=True), any_rule)
# [T, N, C] and [T, N, C, H, W]
shapes = st.one_of(
    st.tuples(st.integers(1, 7), st.integers(1, 3), st.integers(1, 4)),
    st.tuples(st.integers(1, 7), st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)),
    st.just((3, 2, 5, 41, 23)),  # several blocks of memory and several threads
)
layouts = st.sampled_from(["contiguous", "channels_last", "constant", "time_inside", "gaps", "time_strided"])
dtypes = st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16])
spike_dtypes = st.one_of(st.none(), dtypes, st.just(torch.int8))


def lay_out(currents: Tensor, layout: str) -> Tensor:
    """The same kind of currents in another memory layout."""
    if layout == "constant":
        return currents[:1].expand_as(currents)
    if layout == "channels_last":
        return currents.movedim(2, -1).contiguous().movedim(-1, 2)
    if layout == "time_inside":
        return currents.movedim(0, -1).contiguous().movedim(-1, 0)
    if layout == "gaps":
        return currents.repeat_interleave(2, dim=-1)[..., ::2]
    if layout == "time_strided":
        return currents.repeat_interleave(2, dim=0)[::2]
    return currents


def threshold_for(v: Tensor, thresholds: str) -> Tensor:
    """One per layer, channel or neuron."""
    shapes = {"layer": (), "channel": (v.shape[1], *[1] * (v.dim() - 2)), "neuron": v.shape}
    values = torch.rand(shapes[thresholds], dtype=torch.float64) + 0.3
    return values.to(v)


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=40)
@given(
    data=st.data(),
    shape=shapes,
    layout=layouts,
    dtype=dtypes,
    thresholds=st.sampled_from(["layer", "channel", "neuron"]),
    ties=st.booleans(),
    mean=st.sampled_from([-0.8, 0.2, 1.5]),
    same_order=st.booleans(),
    spike_dtype=spike_dtypes,
    grid=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    seed=st.integers(0, 2**31),
)
def test_is_the_reference(
    place: tuple[str, str],
    cuda_as_cpp: Any,
    name: str,
    data: st.DataObject,
    shape: tuple[int, ...],
    layout: str,
    dtype: torch.dtype,
    thresholds: str,
    ties: bool,
    mean: float,
    same_order: bool,
    spike_dtype: torch.dtype | None,
    grid: tuple[int, int],
    seed: int,
) -> None:
    device, fused = place
    rule = data.draw(RULES[name])
    torch.manual_seed(seed)
    cuda_as_cpp.grid = grid  # a GPU has its own
    given_currents = torch.randn(shape, device=device) + mean
    v = torch.rand(shape[1:], device=device, dtype=Variant(dtype).membrane) - 0.2
    threshold = threshold_for(v, thresholds)
    if ties:  # V often is a threshold, or 0
        given_currents, v = (given_currents * 2).round() / 2, (v * 2).round() / 2
        threshold = (threshold * 2).ceil() / 2
    currents = lay_out(given_currents.to(dtype), layout)
    if same_order:
        v = torch.empty_like(currents[0], dtype=v.dtype).copy_(v)
    states = []
    for kernel in ("reference", fused):
        state = v.clone(), torch.zeros(shape[1:], device=device, dtype=v.dtype)
        for _ in range(2):  # the state goes on
            spikes = multi_step(currents, state[0], threshold, rule, state[1], kernel, spike_dtype)
            states.append((spikes, *(tensor.clone() for tensor in state)))
    for reference, ours in zip(states[:2], states[2:], strict=True):
        assert ours[0].dtype == (spike_dtype or dtype)
        for want, have in zip(reference, ours, strict=True):
            assert torch.equal(want, have)


@settings(max_examples=40)
@given(shape=shapes, rule=st.one_of(*RULES.values()), layout=layouts, seed=st.integers(0, 2**31))
def test_sums_are_those_of_the_spikes(
    place: tuple[str, str], shape: tuple[int, ...], rule: FireRule, layout: str, seed: int
) -> None:
    device, kernel = place
    torch.manual_seed(seed)
    currents = lay_out(torch.randn(shape, device=device), layout)
    v, count = torch.zeros(2, *shape[1:], device=device)
    have, want = SpikeSums.of(v), SpikeSums.of(v)
    for _ in range(2):
        want.add_(multi_step(currents, v, torch.ones_like(v[0, 0]), rule, count, kernel, sums=have))
    assert all(torch.equal(getattr(want, name), getattr(have, name)) for name in vars(want))


@pytest.mark.parametrize(
    "rule",
    [
        FireRule.plain(),
        FireRule.hard(),
        FireRule.plain(burst=2),
        replace(FireRule.signed(burst=5), powers=True),
        FireRule.signed(),
        FireRule.signed(slope=0.25),
        FireRule.imbalanced(slope=0.1),
    ],
)
def test_numbers_at_the_ends_of_the_range(place: tuple[str, str], rule: FireRule) -> None:
    device, fused = place
    tiny, big = 1e-42, 3e38  # the first is subnormal
    values = [tiny, -tiny, 0.0, -0.0, big, -big, float("inf"), -float("inf"), float("nan"), 1.0]
    currents = torch.tensor(values, device=device).expand(3, 1, -1)
    results = []
    for kernel in ("reference", fused):
        v, count = torch.zeros(1, 10, device=device), torch.ones(1, 10, device=device)
        v[:] = -tiny
        spikes = multi_step(currents, v, torch.ones((), device=device), rule, count, kernel)
        results.append((spikes, v, count))
    for want, have in zip(*results, strict=True):
        assert torch.allclose(want, have, rtol=0, atol=0, equal_nan=True)


def test_nothing_to_do(place: tuple[str, str]) -> None:
    device, kernel = place
    for shape in ((0, 2, 3), (4, 0, 3), (4, 2, 0)):
        v = torch.ones(shape[1:], device=device)
        spikes = multi_step(
            torch.ones(shape, device=device), v, torch.ones_like(v[:1, :1]), FireRule.plain(), None, kernel
        )
        assert spikes.shape == shape and bool((v == 1).all())


def test_what_has_no_kernel_goes_to_the_reference(place: tuple[str, str]) -> None:
    device, kernel = place
    currents, v = torch.randn(5, 2, 3, device=device), torch.zeros(2, 3, device=device, dtype=torch.float64)
    have, want = SpikeSums.of(v), SpikeSums.of(v)
    want.add_(multi_step(currents, v, torch.ones_like(v), FireRule.plain(), None, kernel, sums=have))
    assert torch.equal(have.net, want.net) and bool(want.net.any())


@pytest.mark.parametrize("layout", ["channels_last", "constant"])
def test_spikes_keep_channels_last_of_the_merged_batch(place: tuple[str, str], layout: str) -> None:
    device, kernel = place
    x = torch.randn(6, 3, 4, 5, device=device).contiguous(memory_format=torch.channels_last)
    currents = x.unflatten(0, (3, 2)) if layout == "channels_last" else x[:2].expand(3, -1, -1, -1, -1)
    spikes = multi_step(currents, torch.zeros_like(x[:2]), x.new_ones(()), FireRule.plain(), None, kernel)
    assert spikes.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
