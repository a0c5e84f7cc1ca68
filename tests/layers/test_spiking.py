"""The neurons: step modes, state, chunks, merged time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from spikingjelly.activation_based import functional, neuron
from spikingjelly.activation_based.neuron import IFNode
from torch import Tensor, nn

from sj_lowlat.errors import InputError
from sj_lowlat.layers import (
    HardResetIFNode,
    ImbalancedIFNode,
    LowLatencyIFNode,
    MergedTime,
    Pass,
    ResidualFixIFNode,
    SignedIFNode,
)

CLASSES = [ResidualFixIFNode, SignedIFNode, ImbalancedIFNode, HardResetIFNode]
every_class = pytest.mark.parametrize("cls", CLASSES)
classes = st.sampled_from(CLASSES)
seeds = st.integers(0, 2**31)
shapes = st.one_of(
    st.tuples(st.integers(1, 10), st.integers(1, 3), st.integers(1, 4)),
    st.tuples(st.integers(1, 10), st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)),
)
Scalar = Callable[..., tuple[list[int], float, int]]


def build(cls: type[LowLatencyIFNode], channels: int | None = None, **kwargs: object) -> LowLatencyIFNode:
    """A node in multi-step mode, with thresholds and ratios per channel where channels are given."""
    if channels is not None:
        generator = torch.Generator().manual_seed(channels)
        kwargs.setdefault("v_threshold", torch.rand(channels, generator=generator) + 0.4)
        kwargs.setdefault("ratio", torch.rand(channels, generator=generator) * 0.9)
    if cls is SignedIFNode:
        kwargs.setdefault("max_count", 6)
    return cls(**{"step_mode": "m", **kwargs})  # type: ignore[arg-type]


def noise(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) + 0.3


def merged(node: MergedTime, currents: Tensor) -> Tensor:
    """Spikes of a merged batch ``[T * N, *]``, as ``[T, N, *]``."""
    with node.clock.during(Pass(*currents.shape[:2])):
        return node(currents.flatten(0, 1)).unflatten(0, currents.shape[:2])  # type: ignore[operator]


@given(shape=shapes, cls=classes, channels=st.booleans(), seed=seeds)
def test_against_scalar_neurons(
    scalar_neuron: Scalar, shape: tuple[int, ...], cls: type, channels: bool, seed: int
) -> None:
    node = build(cls, shape[2] if channels else None).double()
    node.reset()  # V(0) from the thresholds in float64
    currents = noise(shape, seed).double()
    spikes = node(currents)
    broadcast = [
        value.view(-1, *[1] * (len(shape) - 3)).expand(shape[1:]) if value.dim() else value.expand(shape[1:])
        for value in (node.threshold, node.v_initial)
    ]
    threshold, start = (value.flatten().tolist() for value in broadcast)
    for i in range(len(start)):
        want, v, _ = scalar_neuron(
            currents.flatten(1)[:, i].tolist(),
            threshold[i],
            start[i],
            node.rule,
        )
        assert spikes.flatten(1)[:, i].tolist() == want
        assert node.v.flatten()[i].item() == v


@given(
    shape=shapes,
    cls=classes,
    channels=st.booleans(),
    grad=st.booleans(),
    chunk=st.integers(1, 10),
    seed=seeds,
)
def test_every_way_of_running_is_the_same(
    shape: tuple[int, ...], cls: type, channels: bool, grad: bool, chunk: int, seed: int
) -> None:
    """One call, chunks, single steps, merged steps, with store_v_seq and as a function: bit by bit."""
    node, currents = build(cls, shape[2] if channels else None), noise(shape, seed).requires_grad_(grad)

    def state() -> list[Tensor]:
        return [memory.detach().clone() for memory in node.memories()]

    def single() -> Tensor:
        node.step_mode = "s"
        return torch.stack([node(x) for x in currents])

    def stored() -> Tensor:
        node.step_mode, node.store_v_seq = "m", True
        return node(currents)

    def as_function() -> Tensor:
        node.store_v_seq = False
        before = tuple(node.memories())
        (spikes,), states = node.functional_forward((currents,), before)
        assert all(old is new for old, new in zip(before, node.memories(), strict=True))
        node._memories.update(zip(node._memories, states, strict=True))
        return spikes

    want = node(currents)
    want_state, steps = state(), node.steps
    assert steps == shape[0] and want.requires_grad == grad
    ways = {
        "chunks": lambda: torch.cat([node(part) for part in currents.split(chunk)]),
        "merged": lambda: merged(node, currents),
        "merged chunks": lambda: torch.cat([merged(node, part) for part in currents.split(chunk)]),
        "no_grad": lambda: torch.no_grad()(node)(currents),
        "single": single,
        "stored": stored,
        "function": as_function,
    }
    for name, way in ways.items():
        functional.reset_net(node)
        assert torch.equal(way(), want), name
        assert all(map(torch.equal, state(), want_state)), name
        assert node.steps == (0 if name == "function" else steps), name


@every_class
@pytest.mark.parametrize("grad", [False, True])
def test_constant_current_without_copies(cls: type, grad: bool) -> None:
    """A merged batch of N and an expanded current both mean the same input at every step."""
    x = noise((2, 3, 4, 4)).contiguous(memory_format=torch.channels_last).requires_grad_(grad)
    node = build(cls, 3)
    want = node(torch.stack([x] * 5))
    node.reset()
    assert torch.equal(node(x.unsqueeze(0).expand(5, *x.shape)), want)
    node.reset()
    node.clock.now = Pass(steps=5, batch=2)
    spikes = node(x)
    assert torch.equal(spikes, want.flatten(0, 1)) and node.steps == 5
    assert grad or spikes.is_contiguous(memory_format=torch.channels_last)
    with pytest.raises(InputError, match="batch of 3, it expects 5 steps x 2 images"):
        node(torch.zeros(3, 3, 4, 4))


@given(shape=shapes, threshold=st.floats(0.2, 5), seed=seeds)
def test_is_half_threshold_if_node(shape: tuple[int, ...], threshold: float, seed: int) -> None:
    theirs = neuron.HalfThresholdIFNode(v_threshold=threshold, step_mode="m").double()
    ours = ResidualFixIFNode(v_threshold=torch.tensor(threshold), step_mode="m").double()
    ours.threshold.fill_(threshold)  # a buffer begins in float32
    ours.reset()
    currents = noise(shape, seed).double() * threshold
    assert torch.equal(ours(currents), theirs(currents))
    assert torch.equal(ours.v, theirs.v)


@given(shape=shapes, seed=seeds)
def test_ratio_0_is_the_plain_if_node(shape: tuple[int, ...], seed: int) -> None:
    currents = noise(shape, seed)
    theirs, ours = IFNode(v_reset=None, step_mode="m"), ResidualFixIFNode(ratio=0.0, step_mode="m")
    assert torch.equal(ours(currents), theirs(currents))


@given(shape=shapes, threshold=st.floats(0.2, 5), seed=seeds)
def test_hard_reset_is_the_if_node_of_spikingjelly(
    shape: tuple[int, ...], threshold: float, seed: int
) -> None:
    theirs = IFNode(v_threshold=threshold, v_reset=0.0, step_mode="m").double()
    ours = HardResetIFNode(step_mode="m").double()
    ours.threshold.fill_(threshold)  # a buffer begins in float32
    currents = noise(shape, seed).double() * threshold
    assert torch.equal(ours(currents), theirs(currents))
    assert torch.equal(ours.v, theirs.v)


def test_hard_reset_of_a_constant_input() -> None:
    """It loses what is above the threshold: one spike in ceil(1 / z) steps."""
    z = torch.arange(1, 65) / 64
    node = HardResetIFNode(step_mode="m")
    counts = node(z.expand(200, 1, -1)).sum(0)[0]
    assert torch.equal(counts, (200 / (1 / z).ceil()).floor())
    assert (
        float(counts[43]) == 100
        and float(ResidualFixIFNode(step_mode="m")(z.expand(200, 1, -1))[..., 43].sum()) == 138
    )


@every_class
@pytest.mark.parametrize("channels", [None, 3])
@pytest.mark.parametrize("mode", ["s", "m"])
def test_another_shape_starts_at_v0(cls: type, channels: int | None, mode: str) -> None:
    node = build(cls, channels, step_mode=mode)
    currents = noise((4, 2, 3, 4, 4))
    node(currents[0] if mode == "s" else currents)
    for other in (noise((1, 5, 3, 4, 4), 1), noise((1, 5, 3, 2, 2), 2), noise((1, 5, 3), 3)):
        fresh = build(cls, channels, step_mode=mode)
        x = other[0] if mode == "s" else other
        assert torch.equal(node(x), fresh(x))
        assert all(map(torch.equal, node.memories(), fresh.memories()))
        assert node.steps == 1


@every_class
@pytest.mark.parametrize("channels", [None, 3])
def test_reset_net(cls: type, channels: int | None) -> None:
    net = nn.Sequential(nn.Linear(4, 3), build(cls, channels))
    currents = 3 * noise((6, 2, 4))
    with torch.no_grad():
        first, second = net(currents), net(currents)
        assert not torch.equal(first, second)  # the state goes on
        functional.reset_net(net)
        assert net[1].steps == 0
        torch.testing.assert_close(torch.as_tensor(net[1].v), net[1].v_initial)
        assert torch.equal(net(currents), first)


@every_class
def test_store_v_seq(cls: type) -> None:
    node, plain = build(cls, 3, store_v_seq=True), build(cls, 3)
    currents = noise((5, 2, 3))
    node(currents)
    for step, v in enumerate(node.v_seq, 1):
        plain.reset()
        plain(currents[:step])
        assert torch.equal(v, plain.v)
    node.reset()
    assert node.v_seq is None
    node.step_mode = "s"
    for x in currents:
        node(x)
    assert node.v_seq.shape == (5, 2, 3) and torch.equal(node.v_seq[-1], plain.v)


@every_class
def test_is_an_if_node_with_a_readable_repr(cls: type) -> None:
    assert isinstance(cls(), IFNode)
    ratio = 0 if cls is HardResetIFNode else 0.5
    assert "v_threshold=[3]" in repr(build(cls, 3)) and f"v_threshold=1, ratio={ratio}" in repr(cls())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResidualFixIFNode(v_reset=0.0), "v_reset is 0.0"),  # type: ignore[arg-type]
        (lambda: ResidualFixIFNode(0.0), "v_threshold must be positive"),
        (lambda: ResidualFixIFNode(torch.tensor([1.0, -1.0])), "v_threshold must be positive"),
        (lambda: ResidualFixIFNode(float("nan")), "v_threshold must be a finite number"),
        (lambda: ResidualFixIFNode(torch.ones(2, 2)), r"v_threshold must be .* \[C\]"),
        (lambda: ResidualFixIFNode(ratio=float("inf")), "ratio must be a finite number"),
        (lambda: ResidualFixIFNode(torch.ones(3), torch.ones(2)), "2 ratios came for 3 thresholds"),
        (lambda: SignedIFNode(max_count=0), "max_count is 0"),
        (lambda: ImbalancedIFNode(slope=0.0), "slope is 0.0"),
        (lambda: HardResetIFNode(burst=2), "hard reset .*burst 1, slope 0"),
        (lambda: HardResetIFNode(slope=0.1), "hard reset .*'imbalanced'"),
        (lambda: HardResetIFNode(counts=True), "hard reset .*counts=True"),
    ],
)
def test_bad_arguments(make: Callable[[], LowLatencyIFNode], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


@every_class
@pytest.mark.parametrize("shape", [(2, 4), (3,), (2, 4, 3, 3)])
def test_wrong_number_of_channels(cls: type, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"3 channels, its input of one step is .* must be \[N, 3, \*\]"):
        build(cls, 3, step_mode="s")(torch.zeros(shape))
