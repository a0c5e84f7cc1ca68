"""What the speed benchmarks run: networks of this package, of SpikingJelly's own neurons, and ANNs."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.neuron import IFNode
from torch import Tensor, nn

from sj_lowlat import pretrained
from sj_lowlat.conversion import convert, prepare, set_precision
from sj_lowlat.conversion.surgery import replace_module
from sj_lowlat.data import TrafficDataset, letterbox
from sj_lowlat.kernels import FireRule
from sj_lowlat.kernels.select import VARIABLE
from sj_lowlat.layers import LowLatencyIFNode, RateReadout
from sj_lowlat.models import snn_tiny_yolov3
from sj_lowlat.simulation import simulate

SHIPPED = "snn-tiny-yolov3-coco"
LEVELS = 16
MOST_STEPS = 16  # of SpikingJelly: each costs the same, and merged ones are all held in memory
PRECISIONS = ("fp32", "bf16", "int8")
STEP_BY_STEP, MERGED = "SpikingJelly, step by step", "SpikingJelly, multi-step"
NCHW = "SpikingJelly, step by step, NCHW"


@dataclass(frozen=True)
class Case:
    """One line of a table.

    :param name: of the competitor
    :param net: what runs
    :param how: a key of ``RUNNERS``
    :param steps: with input; None for an ANN, which has none
    :param kernel: of the package's neurons and max-pools
    :param options: of ``simulate``, beside the steps
    """

    name: str
    net: nn.Module
    how: str
    steps: int | None
    kernel: str = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def total(self) -> int | None:
        """Steps in all, flush included."""
        return None if self.steps is None else self.steps + self.options.get("flush", 0)

    def run(self, images: Tensor) -> Any:
        """Run it on a batch once."""
        with torch.no_grad(), kernel(self.kernel):
            return RUNNERS[self.how](self.net, images, self.steps, **self.options)


@contextmanager
def kernel(name: str) -> Iterator[None]:
    """Let ``"auto"`` stand for another kernel; by the environment, which max-pools look at as well."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = name
    try:
        yield
    finally:
        os.environ.pop(VARIABLE)
        if before is not None:
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
            replace_module(net, name, module.layer)
        elif isinstance(module, LowLatencyIFNode):
            if module.rule != FireRule.plain() or module.v_threshold.dim():
                raise ValueError(f"SpikingJelly's IFNode cannot do what {name} does: {module}, {module.rule}")
            node = IFNode(float(module.v_threshold), None, step_mode="s" if steps is None else "m")
            node.set_reset_value("v", float(module.v_initial))
            replace_module(net, name, node if steps is None else MergedSteps(node, steps))
    functional.invalidate_reset_cache(net)
    return net


def step_by_step(net: nn.Module, images: Tensor, steps: int) -> tuple[Tensor, ...]:
    """SpikingJelly's loop over time; the outputs' mean over all steps."""
    functional.reset_net(net)
    totals = net(images)
    for _ in range(1, steps):
        totals = tuple(total + out for total, out in zip(totals, net(images), strict=True))
    return tuple(total / steps for total in totals)


def merged(net: nn.Module, images: Tensor, steps: int) -> tuple[Tensor, ...]:
    """All steps in one batch, neurons in SpikingJelly's multi-step mode; the outputs' mean over all steps."""
    functional.reset_net(net)
    return tuple(out.unflatten(0, (steps, -1)).mean(0) for out in net(images.repeat(steps, 1, 1, 1)))


def forward(net: nn.Module, images: Tensor, _steps: None) -> Any:
    """An ANN."""
    return net(images)


RUNNERS = {"step by step": step_by_step, "merged": merged, "simulate": simulate, "forward": forward}


def traffic_images(count: int, size: int, device: str) -> Tensor:
    """Drawn street scenes, ``[N, 3, S, S]``."""
    scenes = TrafficDataset(count, size)
    return torch.stack([letterbox(scenes[index].image, size)[0] for index in range(count)]).to(device)


def strided_cases(size: int, width: float, steps: int, device: str, brief: bool = False) -> list[Case]:
    """SNN-Tiny-YOLOv3 of random weights, whose IF neurons SpikingJelly has as well.

    :param width: factor of the channels
    :param brief: leave out what the short table can do without
    """
    torch.manual_seed(0)
    ann = snn_tiny_yolov3(width=width, input_size=size).to(device).eval()
    quant = prepare(ann, LEVELS, traffic_images(4, size, device))
    snn = convert(quant, neuron="residual-fix")
    few = min(steps, MOST_STEPS)
    cases = [Case(STEP_BY_STEP, spikingjelly_network(snn), "step by step", few)]
    if not brief:
        cases += [
            Case(
                NCHW, spikingjelly_network(snn).to(memory_format=torch.contiguous_format), "step by step", few
            ),
            Case(MERGED, spikingjelly_network(snn, few), "merged", few),
            Case("this package, fp32, reference kernel", snn, "simulate", steps, "reference"),
        ]
    cases += ours(snn, steps)
    if not brief:
        cases.append(Case("ANN", ann, "forward", None))
    return [*cases, Case("Quant ANN", quant, "forward", None)]


def shipped_cases(steps: int, device: str) -> list[Case]:
    """The shipped detector: signed neurons and exact max-pools, which SpikingJelly has not."""
    quant = pretrained.load(SHIPPED, spiking=False).to(device)
    snn = pretrained.load(SHIPPED).to(device)
    schedule: Any = dict(snn.schedule)  # type: ignore[arg-type]
    given = schedule.pop("time_steps")
    label = f"{given}+{schedule.get('flush', 0)}b{schedule.get('burst', 1)}"
    plain = ours(snn, steps)
    return [
        Case("this package, fp32, reference kernel", snn, "simulate", steps, "reference"),
        *plain,
        *(
            Case(f"{case.name}, as shipped ({label})", case.net, "simulate", given, options=schedule)
            for case in plain
        ),
        Case("Quant ANN", quant, "forward", None),
    ]


def ours(snn: nn.Module, steps: int) -> list[Case]:
    """This package in every precision."""
    return [
        Case(f"this package, {precision}", set_precision(snn, precision), "simulate", steps)
        for precision in PRECISIONS
    ]


def differing_spikes(snn: nn.Module, images: Tensor, steps: int) -> dict[str, int]:
    """Spikes of SpikingJelly's network that are not those of ours, over all neurons and steps.

    Ours runs one step at a time, for a float32 convolution may round otherwise in a larger batch.
    """
    net = spikingjelly_network(snn)
    with torch.no_grad():
        theirs = _spikes(net, IFNode, lambda: step_by_step(net, images, steps))
        own = _spikes(snn, LowLatencyIFNode, lambda: simulate(snn, images, steps, chunk=1))
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
