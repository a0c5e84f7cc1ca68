"""RateReadout against out(t) = W (sum of spikes so far / t) + b."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from sj_lowlat.errors import InputError
from sj_lowlat.layers import Pass, RateReadout

TIME_STEPS, BATCH = 7, 2


def make(kind: str) -> tuple[RateReadout, Tensor]:
    """A read-out with a bias that is far from 0, and spikes of -1, 0 and 1 for it."""
    layer: nn.Module = nn.Conv2d(3, 5, 1) if kind == "conv" else nn.Linear(3, 5)
    nn.init.constant_(layer.bias, 10.0)
    shape = (TIME_STEPS, BATCH, 3, 4, 4) if kind == "conv" else (TIME_STEPS, BATCH, 3)
    return RateReadout(layer), torch.randint(-1, 2, shape).float()


def direct(readout: RateReadout, spikes: Tensor, step: int, divisor: int | None = None) -> Tensor:
    """The formula, in float64 from the first spike on."""
    rate = spikes[:step].double().sum(0) / (step if divisor is None else divisor)
    return copy.deepcopy(readout.layer).double()(rate).float()


def merged(
    readout: RateReadout, spikes: Tensor, steps: tuple[int, ...], input_steps: int | None
) -> list[Tensor]:
    with readout.clock.during(Pass(*spikes.shape[:2], steps, input_steps)):
        out = readout(spikes.flatten(0, 1))
    assert out.shape[0] == max(len(steps), 1) * spikes.shape[1]
    return list(out.unflatten(0, (len(steps), spikes.shape[1]))) if steps else []


kinds = pytest.mark.parametrize("kind", ["conv", "linear"])


@kinds
def test_single_and_multi_step(kind: str) -> None:
    readout, spikes = make(kind)
    want = torch.stack([direct(readout, spikes, step) for step in range(1, TIME_STEPS + 1)])
    torch.testing.assert_close(torch.stack([readout(x) for x in spikes]), want)
    functional.reset_net(readout)
    assert readout.steps == 0
    readout.step_mode = "m"
    torch.testing.assert_close(readout(spikes), want)
    functional.reset_net(readout)
    torch.testing.assert_close(torch.cat([readout(part) for part in spikes.split(3)]), want)
    assert readout.steps == TIME_STEPS


@given(
    kind=st.sampled_from(["conv", "linear"]),
    wanted=st.sets(st.integers(1, TIME_STEPS)),
    chunk=st.integers(1, TIME_STEPS),
    input_steps=st.one_of(st.none(), st.integers(1, TIME_STEPS)),
)
def test_merged_steps(kind: str, wanted: set[int], chunk: int, input_steps: int | None) -> None:
    """Any read-outs, in chunks, and with a divisor that stops when the input has ended."""
    readout, spikes = make(kind)
    got, done = [], 0
    with torch.no_grad():
        for part in spikes.split(chunk):
            steps = tuple(step - done for step in sorted(wanted) if done < step <= done + len(part))
            got += merged(readout, part, steps, input_steps)
            done += len(part)
        assert len(got) == len(wanted) and readout.steps == TIME_STEPS
        for out, step in zip(got, sorted(wanted), strict=True):
            divisor = step if input_steps is None else min(step, input_steps)
            torch.testing.assert_close(out, direct(readout, spikes, step, divisor))


@kinds
def test_flush_divides_by_the_input_steps_in_every_mode(kind: str) -> None:
    readout, spikes = make(kind)
    readout.clock.now = Pass(input_steps=4)
    want = direct(readout, spikes, TIME_STEPS, 4)
    for _ in range(TIME_STEPS):
        out = readout(spikes[readout.steps])
    torch.testing.assert_close(out, want)
    functional.reset_net(readout)
    readout.step_mode = "m"
    torch.testing.assert_close(readout(spikes)[-1], want)


def test_bias_counts_once() -> None:
    readout, spikes = make("linear")
    readout.step_mode = "m"
    torch.testing.assert_close(readout(torch.zeros_like(spikes)), torch.full((TIME_STEPS, BATCH, 5), 10.0))


@kinds
def test_no_readout_in_a_chunk(kind: str) -> None:
    readout, spikes = make(kind)
    readout.clock.now = Pass(TIME_STEPS, BATCH)
    out = readout(spikes.flatten(0, 1))
    want = direct(readout, spikes, TIME_STEPS)
    assert out.shape == want.shape and not out.any()  # the network's forward may go on with it
    assert torch.equal(readout.total, spikes.sum(0)) and readout.steps == TIME_STEPS


def test_constant_spikes_of_one_batch() -> None:
    readout, spikes = make("conv")
    readout.clock.now = Pass(TIME_STEPS, BATCH, (2, 5))
    out = readout(spikes[0])  # [N, *]: the same at every step
    torch.testing.assert_close(out, readout.layer(spikes[0]).repeat(2, 1, 1, 1))
    with pytest.raises(InputError, match="RateReadout got a batch of 3"):
        readout(torch.zeros(3, 3, 4, 4))


def test_another_batch_starts_anew() -> None:
    readout, spikes = make("linear")
    readout.step_mode = "m"
    readout(spikes)
    other = torch.ones(2, 5, 3)
    torch.testing.assert_close(readout(other)[-1], direct(readout, other, 2))
    assert readout.steps == 2


def test_16_bit_spikes_are_counted_in_float32() -> None:
    readout = RateReadout(nn.Linear(1, 1, bias=False))
    readout.clock.now = Pass(601, 1, (601,))
    with torch.no_grad():
        for _ in range(2):
            readout(torch.ones(601, 1, dtype=torch.bfloat16))
    assert readout.total.item() == 1202  # bfloat16 knows 1200 and 1208


def test_gradients_reach_spikes_and_weights() -> None:
    readout, spikes = make("conv")
    readout.step_mode = "m"
    spikes.requires_grad_()
    readout(spikes)[-1].sum().backward()
    want = readout.layer.weight.sum(0).view(3, 1, 1).expand(3, 4, 4) / TIME_STEPS
    torch.testing.assert_close(spikes.grad, want.expand_as(spikes))
    assert readout.layer.weight.grad is not None


def test_copies_and_state_dict() -> None:
    readout, spikes = make("linear")
    readout.step_mode = "m"
    with torch.no_grad():
        readout(spikes[:3])
        twin = copy.deepcopy(readout)
        assert torch.equal(twin(spikes[3:]), readout(spikes[3:]))
    assert set(readout.state_dict()) == {"layer.weight", "layer.bias"}  # counts belong to a run
    readout.double()
    assert readout.total.dtype == torch.float64
