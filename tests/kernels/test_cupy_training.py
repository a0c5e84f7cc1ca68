"""The CUDA kernels with gradients against the neurons step by step, through autograd."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import surrogate
from torch import Tensor

from sj_lowlat.errors import InputError
from sj_lowlat.kernels import FireRule, multi_step
from sj_lowlat.kernels.cupy_training import multi_step_training, trainable
from sj_lowlat.kernels.source import Variant
from sj_lowlat.layers import LowLatencyIFNode, SignedIFNode

TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def step_by_step(
    node: LowLatencyIFNode, currents: Tensor, v: Tensor, count: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    states: tuple[object, ...] = (v,) if count is None else (v, count)
    spikes = []
    for current in currents:
        (spike,), states = node.single_step_functional_forward((current,), states)
        spikes.append(spike)
    return torch.stack(spikes), *states, *([None] if count is None else [])  # type: ignore[return-value]


@settings(max_examples=60)
@given(
    shape=st.one_of(
        st.tuples(st.integers(1, 6), st.integers(1, 3), st.integers(1, 4)),
        st.tuples(*[st.integers(1, 6)], *[st.integers(1, 3)] * 4),
    ),
    signed=st.booleans(),
    max_count=st.one_of(st.none(), st.integers(1, 3)),
    surrogate_function=st.builds(
        lambda kind, alpha: kind(alpha=alpha),
        st.sampled_from([surrogate.Sigmoid, surrogate.ATan]),
        st.sampled_from([1.0, 2.0, 4.0]),
    ),
    detach_reset=st.booleans(),
    dtype=st.sampled_from(list(TOLERANCES)),
    per_channel=st.booleans(),
    channels_last=st.booleans(),
    loss=st.sampled_from(["both", "spikes", "v", "sum"]),
    seed=st.integers(0, 2**31),
)
def test_is_autograd_step_by_step(
    device: str,
    shape: tuple[int, ...],
    signed: bool,
    max_count: int | None,
    surrogate_function: torch.nn.Module,
    detach_reset: bool,
    dtype: torch.dtype,
    per_channel: bool,
    channels_last: bool,
    loss: str,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    threshold = torch.rand((shape[2],) if per_channel else ()) + 0.3
    node = SignedIFNode(threshold, max_count=max_count) if signed else LowLatencyIFNode(threshold)
    node.surrogate_function, node.detach_reset = surrogate_function, detach_reset
    node.to(device)
    given_currents = torch.randn(shape, device=device, dtype=torch.float64).to(dtype)
    if channels_last:
        given_currents = given_currents.movedim(2, -1).contiguous().movedim(-1, 2)
    given_v = torch.rand(shape[1:], device=device).to(Variant(dtype).membrane)
    weights = torch.randn(shape, device=device).to(dtype), torch.randn_like(given_v)

    results = []
    for in_one in (False, True):
        currents, v0 = given_currents.clone().requires_grad_(), given_v.clone().requires_grad_()
        v, count = v0, torch.zeros_like(v0) if signed else None
        spikes = []
        for part in currents.split(3):  # the gradient goes through V from part to part
            if in_one:
                shaped = node._per_channel(node.threshold, v).to(v.dtype)
                out, v, count = multi_step_training(
                    part, v, shaped, node.rule, count, surrogate_function, detach_reset
                )
            else:
                out, v, count = step_by_step(node, part, v, count)
            spikes.append(out)
        all_spikes = torch.cat(spikes)
        value = torch.zeros((), device=device)
        if loss in ("both", "spikes"):
            value = value + (all_spikes * weights[0]).sum()
        if loss in ("both", "v"):
            value = value + (v * weights[1]).sum()
        if loss == "sum":
            value = all_spikes.sum()  # its gradient is one number, expanded
        value.backward()
        results.append((all_spikes, v, count, currents.grad, v0.grad))

    for want, have in zip(*[result[:3] for result in results], strict=True):
        assert (want is None and have is None) or torch.equal(want, have)
    for want, have in zip(*[result[3:] for result in results], strict=True):
        assert have.dtype == want.dtype
        size = max(1.0, float(want.abs().max()))
        torch.testing.assert_close(have, want, rtol=0, atol=TOLERANCES[dtype] * size)


def test_a_constant_current_gets_the_sum_of_its_gradients(device: str) -> None:
    current = torch.rand(2, 3, 4, device=device, dtype=torch.float64)
    node = LowLatencyIFNode().to(device)
    grads = []
    for in_one in (False, True):
        x, v = current.clone().requires_grad_(), torch.full_like(current, 0.5)
        if in_one:
            spikes, *_ = multi_step_training(
                x.expand(5, 2, 3, 4), v, node.threshold.to(v), node.rule, None, node.surrogate_function
            )
        else:
            spikes, *_ = step_by_step(node, x.expand(5, 2, 3, 4), v, None)
        spikes.square().sum().backward()
        grads.append(x.grad)
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_gradients_are_rounded_to_the_nearest(device: str, dtype: torch.dtype) -> None:
    given_currents, weights = torch.randn(2, 6, 50, 7, device=device).to(dtype)
    grads = []
    for currents in (given_currents.clone(), given_currents.float()):
        spikes, *_ = multi_step_training(
            currents.requires_grad_(),
            torch.zeros(50, 7, device=device),
            torch.ones((), device=device),
            FireRule.plain(),
            None,
            surrogate.Sigmoid(),
        )
        (spikes * weights.to(spikes)).sum().backward()
        grads.append(currents.grad)
    assert torch.equal(grads[0], grads[1].to(dtype))


def test_the_states_given_are_left_alone(device: str) -> None:
    v, count = torch.full((2, 3), 0.5, device=device), torch.zeros(2, 3, device=device)
    currents = torch.ones(4, 2, 3, device=device, requires_grad=True)
    _, new_v, new_count = multi_step_training(
        currents, v, torch.ones((), device=device), FireRule.signed(), count, surrogate.Sigmoid()
    )
    assert bool((v == 0.5).all()) and not count.any()
    assert new_v.requires_grad and new_count is not None and not new_count.requires_grad
    assert bool((new_count == 4).all())


@pytest.mark.parametrize(
    ("rule", "surrogate_function", "dtype"),
    [
        (FireRule.imbalanced(slope=0.1), surrogate.Sigmoid(), torch.float32),
        (FireRule.signed(slope=0.1), surrogate.Sigmoid(), torch.float32),
        (FireRule.plain(burst=2), surrogate.Sigmoid(), torch.float32),
        (FireRule.hard(), surrogate.Sigmoid(), torch.float32),
        (FireRule(powers=True), surrogate.Sigmoid(), torch.float32),
        (FireRule.plain(), surrogate.PiecewiseQuadratic(), torch.float32),
        (FireRule.plain(), surrogate.Sigmoid(spiking=False), torch.float32),
        (FireRule.plain(), surrogate.Sigmoid(), torch.float64),
    ],
)
def test_what_has_no_kernel(rule: FireRule, surrogate_function: torch.nn.Module, dtype: torch.dtype) -> None:
    currents, v = torch.ones(2, 3, 4, dtype=dtype, requires_grad=True), torch.zeros(3, 4)
    assert not trainable(currents, v, torch.ones(()), rule, None, surrogate_function)
    with pytest.raises(
        InputError, match=f"gradients for .*{type(surrogate_function).__name__}.*step by step"
    ):
        multi_step_training(currents, v, torch.ones(()), rule, None, surrogate_function)


def test_waits_for_what_is_on_the_stream(device: str) -> None:
    if device != "cuda":
        pytest.skip("the CPU has no streams")
    threshold, rule = torch.tensor(0.01, device=device), FireRule.signed()
    for stream in (torch.cuda.current_stream(), torch.cuda.Stream()):
        with torch.cuda.stream(stream):
            product = torch.randn(4096, 4096, device=device)
            for _ in range(20):  # it takes a while, and a kernel on another stream would see other currents
                product = torch.nn.functional.normalize(product @ product)
            currents = product.view(4, 64, 256, 256).requires_grad_()
            v, count = torch.zeros(2, 64, 256, 256, device=device)
            results = []
            for _ in range(2):
                spikes, *_ = multi_step_training(currents, v, threshold, rule, count, surrogate.ATan())
                (grad,) = torch.autograd.grad(spikes.square().sum(), currents)
                results.append((spikes, grad))
                stream.synchronize()  # so that the second time everything is there
            want = multi_step(currents.detach(), v, threshold, rule, count)
        torch.cuda.synchronize()
        assert bool(want.any()) and torch.equal(results[0][0], want)
        assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


@pytest.mark.parametrize("kind", [LowLatencyIFNode, SignedIFNode])
def test_neurons_train_with_it_where_it_runs(device: str, kind: type[LowLatencyIFNode]) -> None:
    currents = torch.randn(5, 2, 3, 4, 4, device=device, generator=torch.Generator(device).manual_seed(0))
    results = []
    for kernel in ("reference", "cupy"):
        node = kind(step_mode="m").to(device)
        node.kernel = kernel
        x = currents.clone().requires_grad_()
        first = node(x)
        (first.sum() + node(x).square().sum()).backward()  # the state goes on
        results.append((first, node.v, x.grad))
        in_one = type(first.grad_fn).__name__ == "_MultiStepBackward"
        assert in_one == (kernel == "cupy")
    for want, have in zip(*results, strict=True):
        torch.testing.assert_close(have, want, rtol=1e-5, atol=1e-5)


def test_neurons_that_it_does_not_know_train_step_by_step(device: str) -> None:
    node = LowLatencyIFNode(step_mode="m", burst=2).to(device)
    node.kernel = "cupy"
    x = torch.rand(4, 2, 3, device=device, requires_grad=True)
    node(x).sum().backward()
    assert x.grad is not None and bool(x.grad.any())
