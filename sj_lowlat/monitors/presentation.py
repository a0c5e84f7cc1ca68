"""Base of the monitors of spiking neurons: image presentations, from their first step to their last."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any, Generic, Self, TypeVar

import torch
from spikingjelly.activation_based.monitor import BaseMonitor
from torch import Tensor, nn

from sj_lowlat.errors import InputError
from sj_lowlat.layers import LowLatencyIFNode


@dataclass(frozen=True)
class LayerRecord:
    """One layer, over all presentations that were watched.

    :param neurons: neurons per image
    :param steps: steps per image, flush included (the mean, where presentations differ)
    :param images: images presented
    """

    name: str
    neurons: int
    steps: float
    images: int


@dataclass
class Sums:
    """Running sums over presentations; adding two of them gives the sums over both."""

    images: int
    neurons: int  # summed over images
    neuron_steps: int

    def __add__(self, other: Self) -> Self:
        return type(self)(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def per_image(self) -> dict[str, Any]:
        """Fields of :class:`LayerRecord`."""
        neurons, steps = round(self.neurons / self.images), self.neuron_steps / self.neurons
        return {"neurons": neurons, "steps": steps, "images": self.images}


SumsT = TypeVar("SumsT", bound=Sums)
RecordT = TypeVar("RecordT", bound=LayerRecord)
StateT = TypeVar("StateT")


@dataclass
class Presentation(Generic[StateT]):
    """One batch of images as one layer has seen it so far."""

    state: StateT  # what the monitor keeps of it; dropped when the presentation ends
    first_step: int  # the node's steps before the first call that was watched (0: watched from the start)
    last_step: int  # the node's steps after the last call that was watched
    images: int

    @property
    def steps(self) -> int:
        """Steps that were watched."""
        return self.last_step - self.first_step


def as_steps(node: LowLatencyIFNode, output: Tensor) -> Tensor:
    """An output ``[N, *]`` (step mode s), ``[T, N, *]`` (m) or ``[T*N, *]`` (merged) as ``[T, N, *]``."""
    steps = node.clock.now.steps
    if steps is not None:
        return output.unflatten(0, (steps, -1))
    return output if node.step_mode == "m" else output[None]


def per_channel(values: Tensor) -> Tensor:
    """Sum everything but the channels away: ``[N, C, *]`` -> ``[C]``, float64 (exact for counts)."""
    return values.sum([axis for axis in range(values.dim()) if axis != 1], dtype=torch.float64)


class PresentationMonitor(BaseMonitor, ABC, Generic[StateT, SumsT, RecordT]):
    """Base of the monitors that judge a neuron by a whole presentation of an image.

    A presentation is what a node does between two resets. It ends when the node's step counter restarts
    (reset, new batch) or the monitor is closed; then it is folded into running sums, O(channels) per layer.
    While it lasts, the monitor holds one ``[N, *]`` state per layer, whatever T is. Reading a monitor counts
    the presentation under way as far as it has come, and does not end it.

    Leaving the ``with`` block (or :meth:`close`) removes the hooks and keeps the sums. ``monitor[name]`` and
    ``monitor[i]`` give the record of a layer.
    """

    def __init__(self, net: nn.Module, instance: type | tuple[type, ...] = LowLatencyIFNode) -> None:
        super().__init__()
        self._sums: dict[str, SumsT] = {}
        self._running: dict[str, Presentation[StateT]] = {}
        layers = self._monitor_modules(net, instance)
        if not layers:
            raise InputError(f"no spiking neuron ({instance}) in {type(net).__name__}; convert it first")
        for name, node in layers:
            if not isinstance(node, LowLatencyIFNode):
                raise InputError(
                    f"{name!r} is a {type(node).__name__}: use spikingjelly's OutputMonitor for it"
                )
            self.hooks.append(node.register_forward_hook(partial(self._see, name)))

    @abstractmethod
    def _begin(self, name: str, node: LowLatencyIFNode, like: Tensor, first_step: int) -> StateT:
        """Make the state of a new presentation for neurons ``like`` ``[N, *]``, before its first step."""

    @abstractmethod
    def _watch(self, name: str, state: StateT, node: LowLatencyIFNode, spikes: Tensor) -> None:
        """Take the spikes ``[T, N, *]`` of one call into the state."""

    @abstractmethod
    def _fold(self, presentation: Presentation[StateT]) -> SumsT:
        """Turn a presentation into sums."""

    @abstractmethod
    def _record_of(self, name: str, sums: SumsT) -> RecordT:
        """Turn sums into the record that users read."""

    def _see(self, name: str, node: LowLatencyIFNode, _inputs: Any, output: Tensor) -> None:
        if not self.is_enable():
            return
        spikes = as_steps(node, output.detach())  # [T, N, *]
        running = self._present(name, node, spikes[0], node.steps - spikes.shape[0])
        self._watch(name, running.state, node, spikes)
        running.last_step = node.steps

    def _present(self, name: str, node: LowLatencyIFNode, like: Tensor, step: int) -> Presentation[StateT]:
        """The presentation under way at a step of a node, or a new one, for neurons ``like``."""
        running = self._running.get(name)
        # a node starts again at step 0 when it is reset, and when its input changes shape
        if running is None or running.last_step != step:
            if running is not None:
                self._end(name)
            state = self._begin(name, node, like, step)
            running = self._running[name] = Presentation(state, step, step, len(like))
        return running

    def __repr__(self) -> str:
        images = max((record.images for record in self.layers()), default=0)
        return f"{type(self).__name__}({len(self.monitored_layers)} layers, images so far: {images})"

    def _total(self, name: str) -> SumsT:
        if name not in self._running:
            return self._sums[name]
        current = self._fold(self._running[name])
        return self._sums[name] + current if name in self._sums else current

    def _end(self, name: str) -> None:
        self._sums[name] = self._total(name)
        del self._running[name]

    def layers(self) -> list[RecordT]:
        """Return the records of all layers that ran while they were watched, in the order of the network."""
        names = [name for name in self.monitored_layers if name in self._sums or name in self._running]
        return [self[name] for name in names]

    def __getitem__(self, key: int | str) -> RecordT:
        """Return the record of one layer, by its name or its place among the watched layers.

        :raises InputError: if no such layer was watched, or it has not run yet
        """
        name = self.monitored_layers[key] if isinstance(key, int) else key
        if name not in self._sums and name not in self._running:
            watched = ", ".join(self.monitored_layers)
            raise InputError(f"nothing on layer {name!r}: it has not run, or is none of {watched}")
        return self._record_of(name, self._total(name))

    def clear_recorded_data(self) -> None:
        """Clear everything seen so far, and continue watching."""
        super().clear_recorded_data()
        self._sums.clear()
        self._running.clear()

    def close(self) -> None:
        """Stop watching and remove the hooks; what was seen stays readable."""
        super().close()
        for name in list(self._running):
            self._end(name)

    def to_json(self) -> dict[str, Any]:
        """Return ``{"layers": [record, ...]}``, everything seen so far, as ``json`` can write it."""
        return {"layers": [asdict(record) for record in self.layers()]}
