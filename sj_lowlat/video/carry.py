"""A run whose state is carried over from picture to picture: only changes are sent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.base import MemoryModule
from torch import Tensor, nn

from sj_lowlat.errors import InputError
from sj_lowlat.functional import leaky_charge
from sj_lowlat.kernels.active import is_silent
from sj_lowlat.layers import LowLatencyIFNode, Pass, RateReadout, SignedIFNode, clock_of, reader_of
from sj_lowlat.monitors import SynOpMonitor
from sj_lowlat.monitors.fan_out import fan_out
from sj_lowlat.network import unwrapped
from sj_lowlat.record import evaluating
from sj_lowlat.schedule import Schedule, whole
from sj_lowlat.simulation.plan import chunk_for
from sj_lowlat.simulation.result import one_readout

__all__ = ["CarriedRun", "Usage"]


@dataclass
class Usage:
    """What was sent since the last :meth:`CarriedRun.take_usage`.

    :param steps: time steps
    :param spikes: all spikes of all neurons, a burst of n counts n
    :param events: the same, a burst counts one
    :param neurons: how many neurons there are
    :param macs: multiply-accumulates of analog input that changed, and of graded spikes
    :param acs: accumulates of spikes
    :param ann_macs: multiply-accumulates of the ANN with the same layers
    """

    steps: int = 0
    spikes: int = 0
    events: int = 0
    neurons: int = 0
    macs: int = 0
    acs: int = 0
    ann_macs: int = 0


class CarriedRun:
    r"""Context manager: a run of a network of signed neurons along a sequence of pictures, never reset.

    A layer that reads the picture is given what changed, and biases come once, with the first picture. So
    after picture n each neuron has received

    .. math:: V(0) + L (W x_1 + b) + \sum_{k = 2}^{n} L W (x_k - x_{k-1}) = V(0) + L (W x_n + b)

    as in a run that begins with it; spikes of both signs carry the change through the network, which settles
    in about as many steps as it has layers. The difference is taken where a layer reads, so that a forward
    may normalise its pictures.

    Counts are whole numbers and stay exact. Potentials are sums of rounded currents, which drift by a unit in
    the last place a frame; :meth:`rederive` computes them anew from the counts, which bounds the drift.

    :param snn: a network from :func:`~sj_lowlat.conversion.convert`, or a container of one
    :param schedule: of which charge L and burst count
    :param count: whether to count operations too (about a tenth more time); spikes are always counted
    :raises InputError: for neurons that cannot take spikes back, or (on entry) a network that runs already
    """

    def __init__(self, snn: nn.Module, schedule: Schedule, count: bool = True) -> None:
        self.snn = unwrapped(snn)
        self._nodes = [module for module in self.snn.modules() if isinstance(module, LowLatencyIFNode)]
        if not self._nodes or not all(isinstance(node, SignedIFNode) for node in self._nodes):
            raise InputError(
                "a run is carried over by signed neurons, which can take spikes back: convert(network) makes "
                f"them, and this {type(self.snn).__name__} has others or none"
            )
        if schedule.pre or schedule.charge is None:
            raise InputError(f"schedule {schedule} has pre-steps or no charge: give one such as 4+2b4c16")
        self._clock = clock_of(self.snn)
        self._charge, self._count = schedule.charge, count
        self._pass = Pass(input_steps=1, charge=self._charge, burst=schedule.burst)
        self._shown: Tensor | None = None
        self._read: dict[nn.Module, Tensor] = {}
        self._readers: set[str] = set()  # names of the layers that read the picture
        self._watching = False
        self.usage = Usage()

    def __enter__(self) -> CarriedRun:
        with ExitStack() as stack:
            stack.enter_context(self._clock.run())
            stack.enter_context(evaluating(self.snn))
            for name, module in self.snn.named_modules():
                if getattr(module, "reads_input", False):
                    self._readers.add(name)
                    hook = module.register_forward_pre_hook(self._less_what_was_read, prepend=True)
                    stack.callback(hook.remove)
            for node in self._nodes:
                stack.callback(node.register_forward_hook(self._count_spikes).remove)
            self._monitor = SynOpMonitor(self.snn) if self._count else None
            if self._monitor is not None:
                stack.callback(self._monitor.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def started(self) -> bool:
        """Whether a picture was shown."""
        return self._shown is not None

    def show(self, images: Tensor, steps: int, fresh: bool = False) -> Any:
        """Show the next picture for some steps.

        :param images: ``[N, C, H, W]`` in [0, 1]
        :param steps: the change comes in the first of them
        :param fresh: start anew with it; pictures of another shape always do
        :return: the network's outputs after these steps
        """
        whole("steps", steps, 1, "for instance 2")
        parameter = next(reader_of(self.snn).parameters())
        images = images.to(device=parameter.device, dtype=parameter.dtype)
        fresh = fresh or self._shown is None or self._shown.shape != images.shape
        if fresh:
            functional.reset_net(self.snn)
            self._read.clear()
        self._shown = images.contiguous(memory_format=torch.channels_last) if images.dim() == 4 else images
        gain = float(self._charge)
        outputs = self._step(1, steps == 1, input_gain=gain, bias_gain=gain if fresh else 0.0)
        return outputs if steps == 1 else self.settle(steps - 1)

    def settle(self, steps: int) -> Any:
        """Go on without a new picture; outputs as of :meth:`show`.

        :raises InputError: before the first picture
        """
        whole("steps", steps, 1, "for instance 2")
        if self._shown is None:
            raise InputError("there is no state to go on from: show a picture first")
        done, outputs = 0, None
        while done < steps:
            size = min(steps - done, chunk_for(self._clock, self._shown))
            done += size
            outputs = self._step(size, done == steps, input_gain=0.0, bias_gain=0.0, kept={})
        return outputs

    def rederive(self) -> Any:
        r"""Compute all potentials anew from the present counts N, in one pass in which nothing is sent:

        .. math:: V_l = V_l(0) + L b_l + W_l N_{l-1} - charge(N_l)

        :return: the network's outputs for the present counts
        :raises InputError: before the first picture
        """
        if self._shown is None:
            raise InputError("there is nothing to compute potentials from: show a picture first")
        self._read.clear()
        for module in self.snn.modules():
            if isinstance(module, MemoryModule) and not isinstance(module, LowLatencyIFNode):
                module.reset()  # sums of what came in: the pass adds all of it at once
        gain = float(self._charge)
        with self._counts_sent():
            return self._step(1, True, watched=False, input_gain=gain, bias_gain=gain)

    @contextmanager
    def _counts_sent(self) -> Iterator[None]:
        try:
            for node in self._nodes:
                node.forward = partial(_from_all_input, node)  # type: ignore[method-assign]
            yield
        finally:
            for node in self._nodes:
                node.__dict__.pop("forward", None)

    def _step(self, steps: int, read: bool, *, watched: bool = True, **changes: Any) -> Any:
        shown = self._shown
        assert shown is not None
        now = replace(
            self._pass, steps=steps, batch=len(shown), readout=(steps,) if read else (), sizes=[], **changes
        )
        self._watching = watched
        if self._monitor is not None:
            (self._monitor.enable if watched else self._monitor.disable)()
        with self._clock.during(now), torch.no_grad():
            outputs = self.snn(shown)
        if steps > 1:
            self._clock.sizes[tuple(shown.shape[1:])] = max(1, max(now.sizes, default=0) // len(shown))
        self.usage.steps += steps if watched else 0
        return one_readout(outputs, 0, 1, len(shown)) if read else None

    def _less_what_was_read(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        if not self._clock.now.input_gain:
            return args
        before, now = self._read.get(module), args[0]
        self._read[module] = now
        change = now if before is None else now - before
        if self._count and self._watching:
            self.usage.macs += _products(module, change)
        return (change, *args[1:])

    def _count_spikes(self, _node: nn.Module, _args: Any, spikes: Tensor) -> None:
        if self._watching and not is_silent(spikes):
            self.usage.spikes += int(spikes.abs().sum(dtype=torch.float64))
            self.usage.events += int(spikes.count_nonzero())

    def take_usage(self) -> Usage:
        """What was sent since the last call."""
        usage, self.usage = self.usage, Usage()
        usage.neurons = sum(node.v.numel() for node in self._nodes if isinstance(node.v, Tensor))
        if self._monitor is not None:
            rows = self._monitor.layers()
            usage.ann_macs = sum(row.ann_macs for row in rows)
            # the monitor takes every new picture for a dense convolution; changes were counted above
            inner = [row for row in rows if row.name not in self._readers]
            usage.macs += sum(row.macs for row in inner)
            usage.acs += sum(row.synops for row in inner)
            self._monitor.clear_recorded_data()
        return usage


def _from_all_input(node: LowLatencyIFNode, x: Tensor) -> Tensor:
    """Set V from all the input that came so far; return all that was sent.

    :param x: ``[N, C, *]``
    """
    threshold = node._per_channel(node.threshold, x).to(node.v.dtype)
    node.v.copy_(x.to(node.v.dtype) + node._per_channel(node.v_initial, x))
    rule = node.rule
    if rule.resets:
        node.v.sub_(leaky_charge(node.count, threshold, rule.slope) if rule.slope else node.count * threshold)
    return node.count.to(x.dtype, copy=True)


def _products(module: nn.Module, change: Tensor) -> int:
    """Products of the entries that are not 0 with the weights of a layer."""
    layer: Any = module.layer if isinstance(module, RateReadout) else module
    changed = change != 0
    if isinstance(layer, nn.Linear):
        return int(changed.sum()) * layer.out_features
    dims = len(layer.kernel_size)
    reach = fan_out(layer, tuple(change.shape[-dims:])).to(change.device)
    return int((changed.sum(-dims - 1) * reach).sum())
