"""A score that is taken now and then while a network trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from sj_lowlat.errors import InputError
from sj_lowlat.record import evaluating
from sj_lowlat.training.resume import TrainingState


@dataclass(frozen=True)
class Validation:
    """What :func:`~sj_lowlat.training.finetune` scores, and when.

    :param score: mAP50 of a network, such as a :class:`~sj_lowlat.evaluation.Validator`; called with the
        moving average of the weights, which are those that the training ends with
    :param every: steps between scores; the end is scored in any case
    :param keep: called with a network that scores more than all before it
    :raises InputError: if ``every`` is not a whole number of at least 1
    """

    score: Callable[[nn.Module], float]
    every: int = 500
    keep: Callable[[nn.Module], object] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.every, int) or isinstance(self.every, bool) or self.every < 1:
            raise InputError(f"validation every {self.every!r} steps; give a whole number of at least 1")

    def due(self, state: TrainingState) -> bool:
        """Whether the step that was taken is one to score."""
        return state.iteration == state.config.iterations or state.iteration % self.every == 0

    def __call__(self, state: TrainingState) -> float:
        """Score the present network and note it in ``state.validation``; no random number is used up."""
        network = state.ema.module
        devices = [state.device] if state.device.type == "cuda" else []
        with torch.random.fork_rng(devices), evaluating(network):
            found = {"iteration": state.iteration, "map50": float(self.score(network))}
            best = state.validation.get("best")
            if best is None or found["map50"] > best["map50"]:
                best = found
                if self.keep is not None:
                    self.keep(network)
        state.validation = {**found, "best": best}
        return found["map50"]
