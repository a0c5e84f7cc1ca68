"""A network takes one run at a time, and a run leaves nothing on it."""

from __future__ import annotations

import copy
import io
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional
from torch import nn

from sj_lowlat.conversion import convert, prepare
from sj_lowlat.errors import InputError
from sj_lowlat.kernels import cpp_kernel
from sj_lowlat.layers import clock_of
from sj_lowlat.monitors import FiringRateMonitor
from sj_lowlat.schedule import Schedule
from sj_lowlat.simulation import simulate, simulate_steps

LEVELS = 8
IMAGES = torch.rand(3, 2, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
SCHEDULE = Schedule(4, flush=8, burst=2, charge=LEVELS)  # twice the charge in a step: a gain of 2
BUSY = "in the middle of another simulation: finish or close that one first, or simulate a copy"


def network(*front: nn.Module, seed: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    net = nn.Sequential(
        *front, nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, 2, 1), nn.ReLU(),
        nn.ConvTranspose2d(6, 4, 2, 2), nn.ReLU(), nn.Conv2d(4, 2, 1),
    )  # fmt: skip
    return prepare(net.eval().double(), LEVELS, IMAGES, scale="97%")


@pytest.fixture
def quant() -> nn.Module:
    return network()


@pytest.fixture
def snn(quant: nn.Module) -> nn.Module:
    return convert(quant)


def final(snn: nn.Module) -> torch.Tensor:
    return simulate(snn, IMAGES, SCHEDULE).final


def exact(have: torch.Tensor, quant: nn.Module, images: torch.Tensor = IMAGES) -> None:
    with torch.no_grad():
        torch.testing.assert_close(have, quant(images), rtol=0, atol=1e-12)


def test_a_second_run_is_refused_until_the_first_is_closed(snn: nn.Module) -> None:
    want = final(snn)
    first, second = (simulate_steps(snn, IMAGES, SCHEDULE, readout=range(1, 13)) for _ in range(2))
    next(first)
    with pytest.raises(InputError, match=BUSY):
        next(second)
    with pytest.raises(InputError, match=BUSY):
        simulate(nn.Sequential(snn), IMAGES, SCHEDULE)
    assert torch.equal([*first][-1].outputs, want)  # the first run has not noticed
    third = simulate_steps(snn, IMAGES, SCHEDULE, readout=range(1, 13))
    next(third)
    third.close()
    assert torch.equal(final(snn), want)


def test_a_run_inside_the_loop_over_another(snn: nn.Module) -> None:
    want, outputs = final(snn), []
    for read in simulate_steps(snn, IMAGES, SCHEDULE, readout=(2, 12)):
        outputs.append(read.outputs)
        with pytest.raises(InputError, match=BUSY):
            simulate(snn, IMAGES, SCHEDULE)
        assert torch.equal(final(copy.deepcopy(snn)), want)
    assert len(outputs) == 2 and torch.equal(outputs[-1], want)


@pytest.mark.parametrize("end", ["dropped", "network raises", "never started"])
def test_however_a_run_ends_the_network_is_free(snn: nn.Module, end: str) -> None:
    want = final(snn)
    run = simulate_steps(snn, IMAGES, SCHEDULE, readout=range(1, 13))
    if end == "dropped":
        next(run)
        del run
    elif end == "network raises":
        with pytest.raises(ValueError, match="no"), pytest.MonkeyPatch.context() as patch:
            patch.setattr(snn[2], "_conv_forward", lambda *_: (_ for _ in ()).throw(ValueError("no")))
            next(run)
    assert torch.equal(final(snn), want)


@pytest.mark.parametrize("steps", [2, 9])  # with input, and in the flush
def test_nothing_of_a_run_is_on_the_network(snn: nn.Module, steps: int) -> None:
    before = {name: value.clone() for name, value in snn.state_dict().items()}
    want, given = final(snn), vars(snn[0]).copy()
    run = simulate_steps(snn, IMAGES, SCHEDULE, readout=(steps, 12))
    next(run)
    assert list(snn.state_dict()) == list(before) and vars(snn[0]) == given
    assert all(torch.equal(before[name], value) for name, value in snn.state_dict().items())
    file = io.BytesIO()
    torch.save(snn, file)
    file.seek(0)
    for twin in (copy.deepcopy(snn), torch.load(file, weights_only=False)):
        assert clock_of(twin) is not clock_of(snn)
        assert torch.equal(final(twin), want)
    assert torch.equal(next(run).outputs, want)


@pytest.mark.parametrize("meddle", [lambda snn: snn(IMAGES), functional.reset_net])
def test_a_network_that_is_used_in_between(snn: nn.Module, meddle: Callable[[nn.Module], Any]) -> None:
    run = simulate_steps(snn, IMAGES, SCHEDULE, readout=(3, 12))
    next(run)
    with torch.no_grad():
        meddle(snn)
    with pytest.raises(InputError, match="called or reset between two read-outs"):
        next(run)
    final(snn)


def in_threads(*jobs: Callable[[], Any]) -> list[list[Any]]:
    """What ten runs of each job give, all jobs at once."""
    barrier = threading.Barrier(len(jobs))
    results: list[list[Any]] = [[] for _ in jobs]

    def work(job: Callable[[], Any], found: list[Any]) -> None:
        barrier.wait()
        for _ in range(10):
            try:
                found.append(job())
            except InputError as error:
                found.append(error)

    pairs = zip(jobs, results, strict=True)
    threads = [threading.Thread(target=work, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def watched(snn: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, list[Any]]:
    """Outputs and firing rates."""
    with FiringRateMonitor(snn) as rates:
        outputs = simulate(snn, images, SCHEDULE, readout=(3, 12)).outputs
    return torch.stack(outputs), rates.layers()


@pytest.mark.parametrize("kernel", ["cpp", "reference"])
def test_two_networks_in_two_threads(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kernel == "cpp" and not cpp_kernel.available():
        pytest.skip("no C++ compiler")
    monkeypatch.setenv("SJ_LOWLAT_KERNEL", kernel)
    images = torch.rand(2, 3, 2, 40, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    snns = [convert(network(seed=seed)) for seed in (3, 4)]
    jobs = [partial(watched, snn, each) for snn, each in zip(snns, images, strict=True)]
    want = [job() for job in jobs]
    assert not torch.equal(want[0][0], want[1][0])
    for found, (outputs, rates) in zip(in_threads(*jobs), want, strict=True):
        assert len(found) == 10
        assert all(torch.equal(ours, outputs) and layers == rates for ours, layers in found)


@pytest.mark.parametrize("kernel", ["cpp", "reference"])
def test_one_network_in_two_threads(kernel: str, snn: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    if kernel == "cpp" and not cpp_kernel.available():
        pytest.skip("no C++ compiler")
    monkeypatch.setenv("SJ_LOWLAT_KERNEL", kernel)
    want, before = final(snn), copy.deepcopy(snn.state_dict())
    first, tried = threading.Event(), threading.Event()

    def wait(_read: Any) -> None:
        first.set()
        assert tried.wait(60)

    found: list[torch.Tensor] = []
    run = partial(simulate, snn, IMAGES, SCHEDULE, readout=range(1, 13), callback=wait)
    thread = threading.Thread(target=lambda: found.append(run().final))
    thread.start()
    assert first.wait(60)
    with pytest.raises(InputError, match=BUSY):
        final(snn)
    tried.set()
    thread.join()
    assert torch.equal(found[0], want)  # neither the run nor the network has noticed
    assert all(torch.equal(before[name], value) for name, value in snn.state_dict().items())
    for result in sum(in_threads(lambda: final(snn), lambda: final(snn)), []):
        assert BUSY in str(result) if isinstance(result, InputError) else torch.equal(result, want)
    assert torch.equal(final(snn), want)


class Normalised(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net((x - 0.5) / 0.2)


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "container": nn.Sequential,
    "preprocessing": Normalised,
    "parallel": nn.DataParallel,
    "compiled": torch.compile,  # type: ignore[dict-item]
    "two": lambda net: nn.DataParallel(nn.Sequential(net)),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_wrapped_network_settles_to_its_quantised_one(quant: nn.Module, name: str) -> None:
    snn = WRAPPERS[name](convert(quant))
    images = (IMAGES - 0.5) / 0.2 if name == "preprocessing" else IMAGES
    exact(simulate(snn, IMAGES.float(), SCHEDULE).final, quant, images.float().double())


def test_two_networks_in_one_container(quant: nn.Module) -> None:
    both = nn.Sequential(convert(quant), nn.Conv2d(2, 2, 1), convert(quant))
    with pytest.raises(InputError, match=r"layers of this Sequential have 2 clocks.*one network from"):
        simulate_steps(both, IMAGES, SCHEDULE)


@pytest.mark.parametrize("steps", [1, 4, 8, 16])  # gains of 8 to a half
def test_preprocessing_keeps_its_bias(steps: int) -> None:
    norm = nn.GroupNorm(1, 2)
    nn.init.constant_(norm.bias, 0.7)
    nn.init.constant_(norm.weight, 1.3)
    quant = network(norm)
    exact(simulate(convert(quant), IMAGES, steps, flush=40).final, quant)
