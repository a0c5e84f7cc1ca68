"""Clocks of the speed benchmarks: rounds over competitors, quartiles, what the machine is and was doing."""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.neuron import IFNode
from torch import nn

from sj_lowlat.layers import SpikeMaxPool

Job = Callable[[], Any]

# kind of work -> modules that do it, none of which holds another; the package's neurons are IFNodes too
KINDS: dict[str, tuple[type[nn.Module], ...]] = {
    "convolutions": (nn.Conv2d, nn.ConvTranspose2d),
    "neurons": (IFNode,),
    "max-pools": (SpikeMaxPool,),
}
REST = "rest"


def wait_for(device: str) -> None:
    """Let a GPU finish what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(job: Job, device: str) -> float:
    """How long one call takes."""
    wait_for(device)
    start = time.perf_counter()
    job()
    wait_for(device)
    return time.perf_counter() - start


def rounds(
    jobs: Mapping[str, Job], repeats: int, device: str, before: Job | None = None
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Time all jobs in turn, again and again, so that other work on the machine hits all of them alike.

    The order is drawn anew for each round: nobody always runs after the same neighbour.

    :param before: called before each job, and not timed
    :return: seconds of the first call of each, which warms up; seconds of the calls after it
    """
    shuffle = random.Random(0)

    def timed(name: str) -> float:
        if before is not None:
            before()
        return seconds(jobs[name], device)

    first = {name: timed(name) for name in jobs}
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name in shuffle.sample(list(jobs), len(jobs)):
            times[name].append(timed(name))
    return first, times


def quartiles(values: Sequence[float], digits: int = 3) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = torch.tensor(values, dtype=torch.float64).quantile(_QUARTERS).tolist()
    return {"median": round(middle, digits), "q25": round(low, digits), "q75": round(high, digits)}


_QUARTERS = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)


def ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """Median of the quotients of the same rounds, which a slow phase of the machine does not move."""
    quotients = [a / b for a, b in zip(over, under, strict=True)]
    return round(float(torch.tensor(quotients, dtype=torch.float64).median()), 3)


def shares(net: nn.Module, job: Job, device: str) -> dict[str, float]:
    """Which part of a run each kind of layer takes; everything else is ``REST``. Measured by hooks, which
    cost a little: time whole runs without."""
    spent = dict.fromkeys(KINDS, 0.0)
    started: dict[nn.Module, float] = {}

    def start(module: nn.Module, _args: Any) -> None:
        wait_for(device)
        started[module] = time.perf_counter()

    def stop(module: nn.Module, _args: Any, _out: Any, kind: str) -> None:
        wait_for(device)
        spent[kind] += time.perf_counter() - started[module]

    with ExitStack() as hooks:
        for module, (kind, types) in itertools.product(net.modules(), KINDS.items()):
            if isinstance(module, types):
                hooks.callback(module.register_forward_pre_hook(start, prepend=True).remove)  # with casts
                hooks.callback(module.register_forward_hook(partial(stop, kind=kind)).remove)
        total = seconds(job, device)
    parts = {kind: own / total for kind, own in spent.items()}
    return {kind: round(part, 3) for kind, part in (parts | {REST: 1 - sum(parts.values())}).items()}


def device_options(parser: argparse.ArgumentParser) -> None:
    """Options of all scripts that time things."""
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")


def prepare(args: argparse.Namespace) -> dict[str, Any] | None:
    """Set the threads; what runs the benchmark, and how busy it is with other things; None, and a sentence,
    where there is no such device."""
    if args.device == "cuda" and not torch.cuda.is_available():
        print("There is no GPU here that torch can use, so nothing was measured.")
        return None
    if args.threads:
        torch.set_num_threads(args.threads)
    implementation = functional.neuron_implementation("if", torch.device(args.device))["implementation"]
    machine = {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if args.device == "cuda" else None,
        "load_average_1_min": round(os.getloadavg()[0], 2),
    }
    return {"machine": machine, "spikingjelly_if": implementation}


@contextmanager
def others_cores() -> Iterator[list[float]]:
    """Measure how many cores other processes kept busy meanwhile; the list has one number afterwards.

    Even one of them makes two threads wait for each other: tables made beside other work are not to be used.
    """
    found: list[float] = []
    start, busy = time.perf_counter(), _others_seconds()
    yield found
    found.append(round(max(0.0, (_others_seconds() - busy) / (time.perf_counter() - start)), 2))
    print(f"\nOther work on the machine: {found[0]:.2f} cores on average")


def _others_seconds() -> float:
    """CPU time of all processes but this one and its children so far; 0 where Linux does not tell."""
    try:
        line = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0]
    except OSError:
        return 0.0
    user, nice, system, _idle, _wait, irq, soft_irq, stolen = map(int, line.split()[1:9])
    every = (user + nice + system + irq + soft_irq + stolen) / os.sysconf("SC_CLK_TCK")
    return every - sum(os.times()[:4])


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
