"""The clock of a spiking network: state of the present run, which all its layers read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import torch
from torch import nn

from sj_lowlat.errors import InputError


@dataclass(frozen=True)
class Pass:
    """The present pass through a network, immutable; the defaults mean that no simulation is running.

    :param steps: T, time steps in the merged batch; ``None`` outside of a simulation
    :param batch: N, images
    :param readout: steps of this pass, 1 to T and ascending, at which heads are read
    :param input_steps: steps with input in the whole run; heads divide by them, in the flush as well
    :param charge: L, the steps whose charge these carry; also the limit of counts
    :param burst: factor on the most spikes that a neuron may fire in a step
    :param input_gain: factor on the input of layers that read the images; 0 switches it off
    :param bias_gain: factor on all biases except those of heads; 0 in the flush
    :param pre: whether these steps are pre-steps, after which neurons correct their V(0)
    :param kept: cache of the results of layers that read the images, if these are constant; else ``None``
    :param sizes: bytes of one step, for each tensor of currents or spikes in this pass
    """

    steps: int | None = None
    batch: int = 0
    readout: tuple[int, ...] = ()
    input_steps: int | None = None
    charge: int | None = None
    burst: int = 1
    input_gain: float = 1.0
    bias_gain: float = 1.0
    pre: bool = False
    kept: dict[nn.Module, torch.Tensor] | None = None
    sizes: list[int] = field(default_factory=list)

    @property
    def gain(self) -> float:
        """Input gain L / T: the charge of one step with input, in steps."""
        return 1.0 if self.charge is None or self.input_steps is None else self.charge / self.input_steps


class Clock:
    """The present pass, which all layers of a network read, and the lock of the network: one run at a time.

    A copy, also one by pickle, is a new clock, so a copy of a network is not locked.

    :ivar now: the pass; it lasts only while the network's forward runs
    :ivar sizes: image ``[C, H, W]`` -> bytes that a step of one image takes in its largest layer
    """

    def __init__(self) -> None:
        self.now = Pass()
        self.sizes: dict[tuple[int, ...], int] = {}
        self._taken = Lock()

    def __reduce__(self) -> tuple[type[Clock], tuple[()]]:
        return Clock, ()

    @contextmanager
    def run(self) -> Iterator[None]:
        """Context manager: lock the network for a whole run.

        :raises InputError: if another run holds the lock
        """
        if not self._taken.acquire(blocking=False):
            raise InputError(
                "this network is in the middle of another simulation: finish or close that one first, or "
                "simulate a copy (copy.deepcopy)"
            )
        try:
            yield
        finally:
            self._taken.release()

    @contextmanager
    def during(self, now: Pass) -> Iterator[None]:
        """Context manager: set the present pass while the network's forward runs."""
        self.now = now
        try:
            yield
        finally:
            self.now = Pass()


class Clocked:
    """Mixin of layers that read a clock: their own, until they share that of a network.

    ``reads_input`` tells layers that read the images (also preprocessed ones) from those that read spikes.
    """

    clock: Clock
    reads_input: bool = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.clock = Clock()

    def driven(self, x: torch.Tensor) -> torch.Tensor:
        """The layer's input in the present pass: images are multiplied by the input gain, or switched off.

        It is done here, because a forward that normalises its images turns a black one into a current.

        :param x: input of the layer
        """
        gain = self.clock.now.input_gain
        if not self.reads_input or gain == 1:
            return x
        return x * gain if gain else torch.zeros_like(x)


def clocked(network: nn.Module) -> list[Clocked]:
    """The layers that read a clock."""
    return [module for module in network.modules() if isinstance(module, Clocked)]


def share_clock(network: nn.Module) -> Clock:
    """Give all layers of a network one clock.

    :param network: a spiking network
    :return: the clock
    """
    clock = Clock()
    for layer in clocked(network):
        layer.clock = clock
    return clock


def clock_of(network: nn.Module) -> Clock:
    """The clock of a network.

    :param network: a spiking network, or a container of one
    :raises InputError: if its layers share none
    """
    clocks = {layer.clock for layer in clocked(network)}
    if len(clocks) != 1:
        raise InputError(
            f"the layers of this {type(network).__name__} have {len(clocks)} clocks, and a simulation needs "
            "one: give one network from sj_lowlat.convert at a time; layers that were put together by hand "
            "get one clock from sj_lowlat.layers.connect"
        )
    return clocks.pop()


def reader_of(network: nn.Module) -> nn.Module:
    """A layer that reads the images, which need its dtype and device; else the network itself."""
    readers = (layer for layer in network.modules() if isinstance(layer, Clocked) and layer.reads_input)
    return next(readers, network)
