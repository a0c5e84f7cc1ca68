"""Results of a simulation: read-outs, one by one or all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_map


@dataclass(frozen=True, repr=False)
class Readout:
    """The network's output after a number of steps.

    :param step: steps in all, flush included
    :param outputs: what the network's forward returns, from the mean spikes so far
    :param done: of a run that may stop early: which images' detections are stable
    """

    step: int
    outputs: Any
    done: tuple[bool, ...] = ()

    def __repr__(self) -> str:
        return f"Readout(step={self.step}, outputs={_shapes(self.outputs)})"


@dataclass(frozen=True, repr=False)
class SimulationResult:
    """All read-outs of a simulation.

    :param steps: the steps of the read-outs, ascending
    :param outputs: the network's output at each of them
    :param stopped: of a run that may stop early: the step that counts for each image
    """

    steps: tuple[int, ...]
    outputs: list[Any]
    stopped: tuple[int, ...] | None = None

    def __repr__(self) -> str:
        stopped = "" if self.stopped is None else f", stopped={self.stopped}"
        return f"SimulationResult(steps={self.steps}, each={_shapes(self.outputs[-1])}{stopped})"

    @property
    def final(self) -> Any:
        """The output at the last read-out, of each image where the run may stop early."""
        if self.stopped is None:
            return self.outputs[-1]
        batch = len(self.stopped)
        chosen = [self.outputs[self.steps.index(step)] for step in self.stopped]

        def each_image(*values: Any) -> Any:
            if not isinstance(values[0], torch.Tensor) or not values[0].dim() or len(values[0]) != batch:
                return values[0]
            return torch.stack([value[i] for i, value in enumerate(values)])

        return tree_map(each_image, chosen[0], *chosen[1:])


def _shapes(outputs: Any) -> str:
    """The shapes of tensors, in the containers that hold them: the values fill screens."""
    shapes = tree_map(lambda value: [*value.shape] if isinstance(value, torch.Tensor) else value, outputs)
    return str(shapes)


def one_readout(outputs: Any, index: int, count: int, batch: int) -> Any:
    """One of several read-outs ``[count * N, *]``; values that do not depend on the images stay as is.

    :param outputs: of a pass with ``count`` read-outs of ``batch`` images
    :param index: which one, from 0
    """

    def pick(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or not value.dim() or len(value) != count * batch:
            return value
        return value[index * batch : (index + 1) * batch]

    return tree_map(pick, outputs)
