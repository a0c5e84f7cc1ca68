"""What the speed benchmarks run: networks of this package, of SpikingJelly's own neurons, and ANNs.

    python benchmarks/competitors.py NETWORK.pt --how simulate --steps 300

Run as a script it prints the most memory that one run held, in MiB, as a JSON line; ``speed.py`` starts it
for each case, since a process cannot forget its peak. NETWORK.pt is a whole network written by
``torch.save``; it is unpickled, so give your own only.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from inputs import stacked
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.neuron import IFNode
from torch import Tensor, nn

from sj_lowlat import pretrained
from sj_lowlat.conversion import PRECISIONS, convert, prepare, set_precision
from sj_lowlat.data import TrafficDataset
from sj_lowlat.kernels import FireRule
from sj_lowlat.layers import LowLatencyIFNode, RateReadout
from sj_lowlat.models import snn_tiny_yolov3
from sj_lowlat.network import schedule_for
from sj_lowlat.schedule import Schedule
from sj_lowlat.simulation import simulate

SHIPPED = "snn-tiny-yolov3-coco"
LEVELS = 16
MOST_STEPS = 16  # of SpikingJelly: each costs the same, and merged ones are all held in memory
VARIABLE = "SJ_LOWLAT_KERNEL"
STEP_BY_STEP, MERGED = "SpikingJelly, step by step", "SpikingJelly, multi-step"
NCHW = "SpikingJelly, step by step, NCHW"


@dataclass(frozen=True)
class Case:
    """One line of a table.

    :param name: of the competitor
    :param net: what runs
    :param how: a key of ``RUNNERS``
    :param schedule: None for an ANN
    :param kernel: of the package's neurons and max-pools
    """

    name: str
    net: nn.Module
    how: str
    schedule: Schedule | None = None
    kernel: str = "auto"

    @property
    def total(self) -> int | None:
        """Steps in all."""
        return None if self.schedule is None else self.schedule.total

    def run(self, images: Tensor) -> Any:
        """Run it on a batch once."""
        with torch.no_grad(), kernel(self.kernel):
            return RUNNERS[self.how](self.net, images, self.schedule)


def plain(steps: int) -> Schedule:
    """As many steps as charge: what SpikingJelly's loop does."""
    return Schedule(steps, charge=steps)


@contextmanager
def kernel(name: str) -> Iterator[None]:
    """Let ``"auto"`` stand for another kernel; by the environment, which max-pools look at as well."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


class MergedSteps(nn.Module):
    """A multi-step neuron between layers that know no time: ``[T * N, *]`` in and out.

    :param node: SpikingJelly's neuron
    :param steps: T
    """

    def __init__(self, node: IFNode, steps: int) -> None:
        super().__init__()
        self.node, self.steps = node, steps

    def forward(self, x: Tensor) -> Tensor:
        return self.node(x.unflatten(0, (self.steps, -1))).flatten(0, 1)


def spikingjelly_network(snn: nn.Module, steps: int | None = None) -> nn.Module:
    """The same network of ``neuron.IFNode``: same weights and memory format, same thresholds, same V(0).

    :param snn: of IF neurons with one threshold per layer
    :param steps: T of a multi-step network; None for one that is called once a step
    """
    net = copy.deepcopy(snn)
    for name, module in list(net.named_modules()):
        if isinstance(module, RateReadout):
            new: nn.Module = module.layer
        elif isinstance(module, LowLatencyIFNode):
            if module.rule != FireRule.plain() or module.threshold.dim():
                raise ValueError(f"SpikingJelly's IFNode cannot do what {name} does: {module}, {module.rule}")
            node = IFNode(module.v_threshold, None, step_mode="s" if steps is None else "m")
            node.set_reset_value("v", float(module.v_initial))
            new = node if steps is None else MergedSteps(node, steps)
        else:
            continue
        parent, _, child = name.rpartition(".")
        setattr(net.get_submodule(parent), child, new)
    functional.invalidate_reset_cache(net)
    return net


def step_by_step(net: nn.Module, images: Tensor, run: Schedule) -> tuple[Tensor, ...]:
    """SpikingJelly's loop over time; the outputs' mean over all steps."""
    functional.reset_net(net)
    totals = net(images)
    for _ in range(1, run.time_steps):
        totals = tuple(total + out for total, out in zip(totals, net(images), strict=True))
    return tuple(total / run.time_steps for total in totals)


def merged(net: nn.Module, images: Tensor, run: Schedule) -> tuple[Tensor, ...]:
    """All steps in one batch, neurons in SpikingJelly's multi-step mode; the outputs' mean over all steps."""
    functional.reset_net(net)
    steps = run.time_steps
    return tuple(out.unflatten(0, (steps, -1)).mean(0) for out in net(images.repeat(steps, 1, 1, 1)))


def forward(net: nn.Module, images: Tensor, _run: None) -> Any:
    """An ANN."""
    return net(images)


RUNNERS = {"step by step": step_by_step, "merged": merged, "simulate": simulate, "forward": forward}


def traffic_images(count: int, size: int, device: str) -> Tensor:
    """Drawn street scenes, ``[N, 3, S, S]``."""
    return stacked(TrafficDataset(count, size), count, size).to(device)


def strided_cases(size: int, width: float, steps: int, device: str, brief: bool = False) -> list[Case]:
    """SNN-Tiny-YOLOv3 of random weights, whose IF neurons SpikingJelly has as well.

    :param width: factor of the channels
    :param brief: leave out what the short table can do without
    """
    torch.manual_seed(0)
    ann = snn_tiny_yolov3(width=width, input_size=size).to(device).eval()
    quant = prepare(ann, LEVELS, traffic_images(4, size, device))
    snn = convert(quant, neuron="residual-fix")
    few = plain(min(steps, MOST_STEPS))
    cases = [Case(STEP_BY_STEP, spikingjelly_network(snn), "step by step", few)]
    if not brief:
        nchw = spikingjelly_network(snn).to(memory_format=torch.contiguous_format)
        cases += [
            Case(NCHW, nchw, "step by step", few),
            Case(MERGED, spikingjelly_network(snn, few.time_steps), "merged", few),
            Case("this package, fp32, reference kernel", snn, "simulate", plain(steps), "reference"),
        ]
    cases += ours(snn, plain(steps))
    cases += [] if brief else [Case("ANN", ann, "forward")]
    return [*cases, Case("Quant ANN", quant, "forward")]


def shipped_cases(steps: int, device: str, name: str = SHIPPED) -> list[Case]:
    """A shipped detector: signed neurons and exact max-pools, which SpikingJelly has not."""
    quant = pretrained.load(name, spiking=False).to(device)
    snn = pretrained.load(name).to(device)
    own = schedule_for(snn)
    cases = ours(snn, plain(steps))
    as_shipped = f"as shipped ({replace(own, charge=None)})"
    return [
        Case("this package, fp32, reference kernel", snn, "simulate", plain(steps), "reference"),
        *cases,
        *(replace(case, name=f"{case.name}, {as_shipped}", schedule=own) for case in cases),
        Case("Quant ANN", quant, "forward"),
    ]


def ours(snn: nn.Module, run: Schedule) -> list[Case]:
    """This package in every precision."""
    nets = {precision: set_precision(snn, precision) for precision in PRECISIONS}
    return [Case(f"this package, {precision}", net, "simulate", run) for precision, net in nets.items()]


def differing_spikes(snn: nn.Module, images: Tensor, steps: int) -> dict[str, int]:
    """Spikes of SpikingJelly's network that are not those of ours, over all neurons and steps.

    Ours runs one step at a time, for a float32 convolution may round otherwise in a larger batch.
    """
    net = spikingjelly_network(snn)
    with torch.no_grad():
        theirs = _spikes(net, IFNode, lambda: step_by_step(net, images, plain(steps)))
        own = _spikes(snn, LowLatencyIFNode, lambda: simulate(snn, images, plain(steps), chunk=1))
    pairs = [(a, b) for name in own for a, b in zip(own[name], theirs[name], strict=True)]
    return {
        "spikes": sum(int(a.sum()) for a, _ in pairs),
        "differing": sum(int((a != b).sum()) for a, b in pairs),
        "neuron_steps": sum(a.numel() for a, _ in pairs),
    }


def _spikes(net: nn.Module, kind: type[nn.Module], run: Any) -> dict[str, list[Tensor]]:
    """Layer -> spikes of each step, as booleans."""
    found: dict[str, list[Tensor]] = {}
    nodes = [(name, module) for name, module in net.named_modules() if isinstance(module, kind)]
    handles = [
        node.register_forward_hook(lambda _, __, out, name=name: found.setdefault(name, []).append(out != 0))
        for name, node in nodes
    ]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Run a network once, print the memory before and the peak."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network", type=Path)
    parser.add_argument("--how", choices=RUNNERS, default="simulate")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--size", type=int, default=416)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    net = torch.load(args.network, weights_only=False, map_location=args.device)
    images = traffic_images(args.batch, args.size, args.device)
    loaded = held(args.device)
    with torch.no_grad():
        RUNNERS[args.how](net, images, plain(args.steps))
    print(json.dumps({"loaded_mib": loaded, "peak_mib": held(args.device)}))


def held(device: str) -> float:
    """The most so far: of the GPU's memory by torch, or resident.

    On Linux not ``ru_maxrss``, which begins at the size of the process that started this one.
    """
    if device == "cuda":
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        kibibytes = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):  # not Linux
        kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(kibibytes / 2**10, 1)


if __name__ == "__main__":
    main()
