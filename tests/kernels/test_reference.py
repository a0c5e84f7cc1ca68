"""The reference kernel against scalar neurons and against the pure step functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sj_lowlat import functional, kernels
from sj_lowlat.errors import InputError
from sj_lowlat.kernels import FireRule

rules = st.one_of(
    st.builds(FireRule.plain, burst=st.integers(1, 3)),
    st.just(FireRule.hard()),
    st.builds(
        FireRule.signed,
        max_count=st.one_of(st.none(), st.integers(1, 6)),
        slope=st.sampled_from([0.0, 0.1, 0.25]),
        burst=st.integers(1, 3),
    ),
    st.builds(FireRule.imbalanced, slope=st.sampled_from([0.1, 0.3, 1.0])),
)
# [T, N, C] and [T, N, C, H, W]
shapes = st.one_of(
    st.tuples(st.integers(1, 12), st.integers(1, 3), st.integers(1, 4)),
    st.tuples(st.integers(1, 12), st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)),
)
layouts = st.sampled_from(["contiguous", "channels_last", "constant", "strided"])


def lay_out(currents: Tensor, layout: str) -> Tensor:
    """The same kind of currents in another memory layout."""
    if layout == "constant":  # stride 0 over time
        return currents[:1].expand_as(currents)
    if layout == "strided":
        return currents.repeat_interleave(2, dim=0)[::2]
    if layout == "channels_last" and currents.dim() == 5:
        merged = currents.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        return merged.unflatten(0, currents.shape[:2])
    return currents


def per_channel(values: Tensor, v: Tensor) -> Tensor:
    return values.view(-1, *[1] * (v.dim() - 2)) if values.dim() else values


@given(
    shape=shapes,
    rule=rules,
    layout=layouts,
    chunk=st.integers(1, 12),
    channels=st.booleans(),
    mean=st.sampled_from([-0.5, 0.0, 0.4]),
    seed=st.integers(0, 2**31),
)
def test_kernel_is_the_scalar_neuron(
    scalar_neuron: Callable[..., tuple[list[int], float, int]],
    shape: tuple[int, ...],
    rule: FireRule,
    layout: str,
    chunk: int,
    channels: bool,
    mean: float,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    currents = torch.randn(shape, generator=generator, dtype=torch.float64) + mean
    currents = lay_out(currents, layout)
    v = torch.rand(shape[1:], generator=generator, dtype=torch.float64) - 0.2
    size = (shape[2],) if channels else ()
    threshold = per_channel(torch.rand(size, generator=generator, dtype=torch.float64) + 0.3, v)
    start, count, given_currents = v.clone(), torch.zeros_like(v), currents.clone()

    spikes = torch.cat(
        [kernels.multi_step(part, v, threshold, rule, count) for part in currents.split(chunk)]
    )

    assert torch.equal(currents, given_currents)
    starts, thresholds = start.flatten().tolist(), threshold.expand_as(v).flatten().tolist()
    columns = currents.flatten(1).T.tolist(), spikes.flatten(1).T.tolist()
    for i, (current, spike) in enumerate(zip(*columns, strict=True)):
        want, potential, total = scalar_neuron(current, thresholds[i], starts[i], rule)
        assert spike == want
        assert v.flatten()[i].item() == potential  # the same float64 operations in the same order
        if rule.counts:
            assert count.flatten()[i].item() == total


@given(shape=shapes, rule=rules, layout=layouts, seed=st.integers(0, 2**31))
def test_kernel_is_the_step_function_in_float32(
    shape: tuple[int, ...], rule: FireRule, layout: str, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    currents = lay_out(torch.randn(shape, generator=generator), layout)
    threshold = per_channel(torch.rand(shape[2], generator=generator) + 0.3, currents[0])
    v = (0.5 * threshold).expand(shape[1:]).clone()
    count = torch.zeros_like(v)
    want_v, want_count, want = v.clone(), count.clone(), []
    for current in currents:
        if rule.counts:
            spike, want_v, want_count = functional.signed_step(
                want_v, want_count, current, threshold, rule.highest, rule.up, rule.slope
            )
        elif rule.hard_reset:
            want_v = want_v + current
            spike = (want_v >= threshold).to(want_v)
            want_v = torch.where(spike > 0, torch.zeros(()), want_v)
        elif not rule.slope:
            spike, want_v = functional.soft_reset_step(want_v, current, threshold, rule.up)
        else:
            spike, want_v = functional.imbalanced_step(want_v, current, threshold, rule.slope)
        want.append(spike)
    assert torch.equal(kernels.multi_step(currents, v, threshold, rule, count), torch.stack(want))
    assert torch.equal(v, want_v) and torch.equal(count, want_count)


@pytest.mark.parametrize(
    "rule", [FireRule.plain(), FireRule.signed(), FireRule.signed(slope=0.1), FireRule.imbalanced(slope=0.1)]
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_currents_on_a_float32_membrane(rule: FireRule, dtype: torch.dtype) -> None:
    currents = torch.randn(20, 2, 5).to(dtype)
    v, count = torch.full((2, 2, 5), 0.5), torch.zeros(2, 2, 5)
    threshold = torch.ones(())
    spikes = kernels.multi_step(currents, v[0], threshold, rule, count[0])
    want = kernels.multi_step(currents.float(), v[1], threshold, rule, count[1])
    assert spikes.dtype == dtype and torch.equal(spikes.float(), want)
    assert torch.equal(v[0], v[1]) and torch.equal(count[0], count[1])


@pytest.mark.parametrize("constant", [False, True])
def test_spikes_keep_channels_last_of_the_merged_batch(constant: bool) -> None:
    x = torch.randn(6, 2, 3, 4, 5).flatten(0, 1).contiguous(memory_format=torch.channels_last)
    currents = x[:2].unsqueeze(0).expand(6, -1, -1, -1, -1) if constant else x.unflatten(0, (6, 2))
    merged = kernels.multi_step(currents, torch.zeros_like(x[:2]), torch.ones(()), FireRule.plain()).flatten(
        0, 1
    )
    assert merged.is_contiguous(memory_format=torch.channels_last)


def test_bad_input() -> None:
    currents, v, threshold = torch.zeros(3, 2, 4), torch.zeros(2, 4), torch.ones(())
    with pytest.raises(InputError, match="no kernel 'fast'.*reference"):
        kernels.multi_step(currents, v, threshold, FireRule.plain(), kernel="fast")
    with pytest.raises(InputError, match=r"\(3, 2, 4\).*\(T, \*\(2, 5\)\)"):
        kernels.multi_step(currents, torch.zeros(2, 5), threshold, FireRule.plain())
    for count in (None, torch.zeros(2, 5)):
        with pytest.raises(InputError, match="needs count"):
            kernels.multi_step(currents, v, threshold, FireRule.signed(), count)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FireRule.signed(max_count=0), "max_count is 0"),
        (lambda: FireRule.plain(burst=0), "burst is 0"),
        (lambda: FireRule.signed(burst=0), "burst is 0"),
        (lambda: FireRule.signed(slope=-0.1), "slope is -0.1"),
        (lambda: FireRule.imbalanced(0.1, burst=2), "burst is 2, .*1 for an imbalanced"),
        (lambda: replace(FireRule.plain(2), hard_reset=True), "hard reset came with 0 to 2 spikes.*burst 1"),
        (lambda: replace(FireRule.imbalanced(0.1), hard_reset=True), "hard reset .* -1 to 1 .*'imbalanced'"),
        (lambda: replace(FireRule.signed(), hard_reset=True), "hard reset .*counts=True"),
        (lambda: FireRule.imbalanced(0.0), "slope is 0.0"),
        (lambda: FireRule.imbalanced(1.5), "slope is 1.5"),
        (lambda: FireRule.imbalanced(float("nan")), "slope is nan"),
    ],
)
def test_bad_rules(make: Callable[[], FireRule], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_a_registered_kernel_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(kernels.KERNELS, "silent", lambda currents, *rest: torch.zeros_like(currents))
    currents = torch.ones(2, 1, 3)
    spikes = kernels.multi_step(currents, torch.ones(1, 3), torch.ones(()), FireRule.plain(), kernel="silent")
    assert not spikes.any()
