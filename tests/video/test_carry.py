"""Carried-over runs: after enough steps they are the fresh run on the last picture, in float64 exactly."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sj_lowlat.conversion import convert, prepare
from sj_lowlat.errors import InputError
from sj_lowlat.layers import LowLatencyIFNode
from sj_lowlat.schedule import Schedule
from sj_lowlat.simulation import simulate
from sj_lowlat.video import CarriedRun

sys.path.insert(0, str(Path(__file__).parents[1] / "conversion"))
from test_random_networks import Random, at_a_border


def counts_of(snn: nn.Module) -> list[torch.Tensor]:
    return [module.count.clone() for module in snn.modules() if isinstance(module, LowLatencyIFNode)]


def potentials_of(snn: nn.Module) -> list[torch.Tensor]:
    return [module.v.clone() for module in snn.modules() if isinstance(module, LowLatencyIFNode)]


def a_network(seed: int, levels: int, dtype: torch.dtype = torch.float64) -> tuple[Any, Any]:
    """A random network with additions, products and pools, quantised and spiking."""
    torch.manual_seed(seed)
    net, images = Random(seed).to(dtype), torch.rand(2, 2, 12, 12, dtype=dtype)
    net.train()(torch.rand(8, 2, 12, 12, dtype=dtype))
    quant = prepare(net.eval(), levels, images, scale="97%").eval()
    return quant, convert(quant)


def a_video(seed: int, frames: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Pictures [F, 2, 12, 12] that change in a part, wholly, or not at all."""
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    pictures = [torch.rand(2, 12, 12, generator=generator, dtype=dtype)]
    for _ in range(frames - 1):
        new, kind = pictures[-1].clone(), draw.choice(["part", "all", "none"])
        rows = {"part": draw.randint(1, 6), "all": 12, "none": 0}[kind]
        new[:, :rows] = torch.rand(2, rows, 12, generator=generator, dtype=dtype)
        pictures.append(new)
    return torch.stack(pictures)


@settings(max_examples=12)
@given(
    seed=st.integers(0, 2**31),
    levels=st.sampled_from([1, 2, 4, 7]),
    burst=st.sampled_from([1, 3, 8]),
    steps=st.integers(1, 4),
    rederived=st.booleans(),
)
def test_settles_to_a_fresh_run_on_the_last_picture(
    seed: int, levels: int, burst: int, steps: int, rederived: bool
) -> None:
    quant, snn = a_network(seed, levels)
    video = a_video(seed, 6)
    plan = Schedule(1, burst=burst, charge=levels)
    with CarriedRun(snn, plan, count=False) as run:
        for picture in video:
            run.show(picture[None], steps)
            if rederived:
                run.rederive()
        found = run.settle(80)
        counts = counts_of(snn)
    fresh = simulate(snn, video[-1:], plan, flush=80, mode="steps").final
    if at_a_border(quant, video[-1:]):
        return
    for ours, other in zip(counts, counts_of(snn), strict=True):
        assert torch.equal(ours, other)
    for ours, other in zip(found, fresh, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-10, atol=1e-10)


@settings(max_examples=8)
@given(seed=st.integers(0, 2**31))
def test_rederived_potentials_are_those_of_the_run(seed: int) -> None:
    _, snn = a_network(seed, 4)
    with CarriedRun(snn, Schedule(1, burst=2, charge=4), count=False) as run:
        for picture in a_video(seed, 4):
            outputs = run.show(picture[None], 2)
        counts, potentials = counts_of(snn), potentials_of(snn)
        again = run.rederive()
        for before, after in zip(counts, counts_of(snn), strict=True):
            assert torch.equal(before, after)
        for before, after in zip(potentials, potentials_of(snn), strict=True):
            torch.testing.assert_close(before, after, rtol=0, atol=1e-9)
        for before, after in zip(outputs, again, strict=True):
            torch.testing.assert_close(before, after, rtol=1e-9, atol=1e-9)
        assert all("forward" not in vars(module) for module in snn.modules())


class Normalising(nn.Module):
    """A forward that turns black into a current."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(2, 4, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers((x - 0.4) / 0.25)


def test_a_forward_may_normalise_its_pictures() -> None:
    images = torch.rand(2, 2, 12, 12, dtype=torch.float64)
    quant = prepare(Normalising().double().eval(), 8, images).eval()
    snn = convert(quant)
    with CarriedRun(snn, Schedule(1, burst=8, charge=8)) as run, torch.no_grad():
        for picture in a_video(0, 4):
            run.show(picture[None], 2)
        torch.testing.assert_close(run.settle(20), quant(picture[None]))


def drift(rederive_every: int | None, frames: int) -> tuple[float, bool, float]:
    """Largest error of a float32 potential in thresholds, whether all counts are whole and within limits, and
    the largest error without a carried-over run."""
    torch.manual_seed(0)
    net = Normalising()
    snn = convert(prepare(net.eval(), 8, torch.rand(4, 2, 12, 12)).eval())
    plan, generator = Schedule(1, burst=8, charge=8), torch.Generator().manual_seed(1)
    with CarriedRun(snn, plan, count=False) as run:
        for number in range(1, frames + 1):
            run.show(torch.rand(1, 2, 12, 12, generator=generator), 1)
            if rederive_every and number % rederive_every == 0:
                run.rederive()
        counts, found = counts_of(snn), potentials_of(snn)
        run.rederive()
        fresh = potentials_of(snn)
        snn.double()
        run._shown = run._shown.double()  # type: ignore[union-attr]
        run.rederive()
        exact = potentials_of(snn)
    whole = all(bool((c == c.round()).all()) and bool(((c >= 0) & (c <= 8)).all()) for c in counts)

    def error(values: Sequence[torch.Tensor]) -> float:
        return max(float((a.double() - b.double()).abs().max()) for a, b in zip(values, exact, strict=True))

    return error(found), whole, error(fresh)


def test_rounding_is_bounded_and_counts_are_whole() -> None:
    bounded, whole, once = drift(50, 2025)
    free, _, _ = drift(None, 2025)
    assert whole
    # a random walk of 25 frames against one of 2025: nine times as far
    assert bounded < free / 3
    assert bounded < 20 * once


def test_what_is_counted() -> None:
    torch.manual_seed(0)
    snn = convert(prepare(Normalising().eval(), 4, torch.rand(2, 2, 12, 12)).eval())
    picture = torch.rand(1, 2, 12, 12)
    with CarriedRun(snn, Schedule(1, burst=4, charge=4)) as run:
        run.show(picture, 2)
        first = run.take_usage()
        assert first.steps == 2 and 0 < first.events <= first.spikes
        # 3x3 to 4 channels, 12 x 12 outputs, without the products with the padding: 34 of 36 taps an axis
        assert first.macs == 2 * 4 * 34 * 34
        # what max-pools let pass, 1x1 to 3 channels
        assert 0 < first.acs <= 3 * first.spikes
        assert first.neurons == 4 * 12 * 12 and first.ann_macs == 2 * 4 * 9 * 144 + 4 * 3 * 36
        run.settle(60)
        run.take_usage()
        run.show(picture, 2)  # the same picture: nothing is sent
        still = run.take_usage()
        assert (still.steps, still.spikes, still.events, still.macs, still.acs) == (2, 0, 0, 0, 0)
        picture = picture.clone()
        picture[0, 0, 5, 5] += 0.5
        run.show(picture, 1)
        assert run.take_usage().macs == 9 * 4
        run.rederive()  # sends nothing
        rederived = run.take_usage()
        assert (rederived.steps, rederived.spikes, rederived.macs, rederived.acs) == (0, 0, 0, 0)


def test_refusals() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 3, 1))
    quant = prepare(net.eval(), 4, torch.rand(2, 2, 12, 12))
    plan = Schedule(1, charge=4)
    with pytest.raises(InputError, match="signed neurons"):
        CarriedRun(quant, plan)
    with pytest.raises(InputError, match="signed neurons"):
        CarriedRun(convert(quant, neuron="if"), plan)
    snn = convert(quant)
    with pytest.raises(InputError, match="no charge"):
        CarriedRun(snn, Schedule(4))
    with CarriedRun(snn, plan) as run:
        for call in (lambda: run.settle(1), run.rederive):
            with pytest.raises(InputError, match="show a picture first"):
                call()
        with pytest.raises(InputError, match="whole number"):
            run.show(torch.rand(1, 2, 12, 12), 0)
        with pytest.raises(InputError, match="another simulation"), CarriedRun(snn, plan):
            pass
    simulate(snn, torch.rand(1, 2, 12, 12), 4)  # free again
