"""Input that arrives unevenly: running maximum, oracle 4, the signed neuron, flush and cap."""

from __future__ import annotations

import math

import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from sj_lowlat.layers import LowLatencyIFNode, ResidualFixIFNode, SignedIFNode

UNIT = 64  # currents are multiples of 1/64, so that float32 adds them without rounding

cases = st.tuples(
    st.integers(0, 2**31),  # seed
    st.integers(1, 24),  # T
    st.integers(0, UNIT - 1).map(lambda k: k / UNIT),  # v0
    st.sampled_from([0.5, 1.0, 2.5]),  # threshold
    st.sampled_from([-0.25, 0.0, 0.25, 0.75]),  # mean input
)
Case = tuple[int, int, float, float, float]


def currents_of(case: Case, largest: float = 1.0, neurons: int = 60) -> torch.Tensor:
    """Currents ``[T, neurons, 1]`` in thresholds, at most ``largest`` in size."""
    seed, time_steps, _, _, mean = case
    noise = torch.randn(time_steps, neurons, 1, generator=torch.Generator().manual_seed(seed))
    return (((mean + 0.7 * noise) * UNIT).round() / UNIT).clamp(-largest, largest)


def run(node: LowLatencyIFNode, currents: torch.Tensor, threshold: float) -> torch.Tensor:
    """Net count after every step, ``[T, neurons, 1]``."""
    node.step_mode = "m"
    return node(currents * threshold).cumsum(0)


def floor_of(x: torch.Tensor) -> torch.Tensor:
    """Floor in plain Python."""
    return torch.tensor([float(math.floor(value)) for value in x.flatten().tolist()]).view(x.shape)


@given(cases)
def test_soft_reset_counts_the_running_maximum(case: Case) -> None:
    _, _, v0, threshold, _ = case
    currents = currents_of(case)  # of one threshold at most: the limit of one spike a step never binds
    counts = run(ResidualFixIFNode(threshold, v0), currents, threshold)
    want = floor_of(v0 + currents.cumsum(0).cummax(0).values).clamp_min(0)
    assert torch.equal(counts, want)


@given(cases)
def test_oracle_4_surplus_is_minus_floor_of_the_residual(case: Case) -> None:
    _, time_steps, v0, threshold, _ = case
    currents = currents_of(case, largest=3.0)
    wanted = floor_of(v0 + currents.sum(0))
    unclipped = (wanted >= 0) & (wanted <= time_steps)
    assume(bool(unclipped.any()))
    for node in (ResidualFixIFNode(threshold, v0), SignedIFNode(threshold, v0)):
        surplus = run(node, currents, threshold)[-1] - wanted
        assert torch.equal(surplus[unclipped], -floor_of(node.v / threshold)[unclipped])


def test_oracle_4_names_early_and_late_spikes() -> None:
    node = ResidualFixIFNode(step_mode="m")
    # fired too early, exact, too late (two thresholds in one step)
    node(torch.tensor([[[1.0, 0.25, 0.0]], [[-1.0, 0.25, 2.0]]]).transpose(1, 2))
    assert (node.v < 0).flatten().tolist() == [True, False, False]
    assert (node.v >= 1).flatten().tolist() == [False, False, True]


@given(cases)
def test_signed_neuron_follows_the_sum_at_every_step(case: Case) -> None:
    _, _, v0, threshold, _ = case
    currents = currents_of(case, largest=1.5)
    want = floor_of(v0 + currents.cumsum(0)).clamp_min(0)
    jumps = torch.diff(want, dim=0, prepend=torch.zeros_like(want[:1])).abs().amax(0)
    unbound = jumps <= 1  # neurons at which the limit of one spike a step does not bind
    assume(bool(unbound.any()))
    node = SignedIFNode(threshold, v0)
    counts = run(node, currents, threshold)
    assert torch.equal(counts[:, unbound], want[:, unbound])
    assert torch.equal(node.count, counts[-1])
    settled = unbound & (counts[-1] > 0)
    assert bool(((node.v >= 0) & (node.v < threshold))[settled].all())


@given(cases)
def test_signed_neuron_is_exact_for_inputs_of_one_threshold_at_most(case: Case) -> None:
    """The limit of one spike a step never binds, so no neuron may be off."""
    _, _, v0, threshold, _ = case
    currents = currents_of(case)
    counts = run(SignedIFNode(threshold, v0), currents, threshold)
    assert torch.equal(counts, floor_of(v0 + currents.cumsum(0)).clamp_min(0))


@given(cases)
def test_flush_settles_at_the_quantised_relu(case: Case) -> None:
    _, time_steps, v0, threshold, _ = case
    currents = currents_of(case, largest=3.0)
    total = floor_of(v0 + currents.sum(0))
    node = SignedIFNode(threshold, v0, max_count=time_steps)
    counts = run(node, currents, threshold)
    flush = int(max(counts[-1].max(), (total - counts[-1]).clamp(0, time_steps).max(), 1))
    flushed = run(node, torch.zeros(flush, *total.shape), threshold)
    assert torch.equal(counts[-1] + flushed[-1], total.clamp(0, time_steps))
    assert not node(torch.zeros(3, *total.shape)).any()  # and stays there


@given(cases, st.integers(0, 8))
def test_cap(case: Case, flush: int) -> None:
    _, time_steps, v0, threshold, _ = case
    currents = currents_of(case, largest=3.0) + 0.5
    node = SignedIFNode(threshold, v0, max_count=time_steps)
    currents = torch.cat([currents, torch.zeros(flush, *currents.shape[1:])])
    counts = run(node, currents, threshold)
    assert int(counts.max()) <= time_steps and int(counts.min()) >= 0


def test_cap_binds_in_the_flush() -> None:
    currents = torch.full((8, 1, 1), 1.5)
    currents[4:] = 0.0
    capped, free = SignedIFNode(max_count=4), SignedIFNode()
    assert run(capped, currents, 1.0)[-1].item() == 4
    assert run(free, currents, 1.0)[-1].item() == 6  # floor(1/2 + 4 * 1.5)


@given(cases, st.sampled_from([0.125, 0.25, 0.375]), st.integers(1, 3))
def test_signed_neuron_with_a_slope_follows_the_leaky_sum(case: Case, slope: float, burst: int) -> None:
    _, _, v0, threshold, _ = case
    currents = currents_of(case, largest=1.5)
    total = v0 + currents.cumsum(0)
    want = torch.where(total < 0, floor_of(slope * total + 0.5), floor_of(total))
    jumps = torch.diff(want, dim=0, prepend=torch.zeros_like(want[:1])).abs().amax(0)
    unbound = jumps <= burst
    assume(bool(unbound.any()))
    counts = run(SignedIFNode(threshold, v0, slope=slope, burst=burst), currents, threshold)
    assert torch.equal(counts[:, unbound], want[:, unbound])


@given(cases, st.integers(1, 3), st.one_of(st.none(), st.integers(1, 4)))
def test_signed_neuron_with_a_slope_is_the_same_with_gradients(
    case: Case, burst: int, max_count: int | None
) -> None:
    _, _, v0, threshold, _ = case
    currents = currents_of(case, largest=3.0)
    nodes = [SignedIFNode(threshold, v0, slope=0.25, burst=burst, max_count=max_count) for _ in range(2)]
    plain = run(nodes[0], currents, threshold)
    tracked = run(nodes[1], currents.clone().requires_grad_(), threshold)
    assert torch.equal(plain, tracked) and torch.equal(nodes[0].v, nodes[1].v)
    tracked.sum().backward()
