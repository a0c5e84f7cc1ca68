"""Checkpoints of a run: whole files of tensors and plain types, from which it is resumed exactly."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from torch.optim.swa_utils import AveragedModel

from sj_lowlat.errors import FOREIGN, InputError
from sj_lowlat.files import atomic_write
from sj_lowlat.progress import writing
from sj_lowlat.training.config import RUN_FIELDS, FinetuneConfig


@dataclass
class TrainingState:
    """A run: its settings, and what changes from step to step, without torch's random generators.

    :param run: what else must be equal to resume it (number of images, losses used), plain types
    :param iteration: steps done
    :param seconds: wall time so far, earlier parts of a resumed run included
    :param losses: terms at the last step
    :param recent: terms at the steps since the last line of the log
    :param validation: iteration and map50 of the last score, and of the best one under ``best``
    """

    config: FinetuneConfig
    run: dict[str, Any]
    device: torch.device
    model: nn.Module
    ema: AveragedModel
    optimiser: Optimizer
    scheduler: LRScheduler
    iteration: int = 0
    seconds: float = 0.0
    losses: dict[str, float] = field(default_factory=dict)
    recent: list[dict[str, float]] = field(default_factory=list)
    validation: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(path: Path, state: TrainingState) -> None:
    """Write the state; the file at ``path`` is always a whole one.

    :raises OSError: if it cannot be written
    """
    record = {
        "config": state.config.to_json(),
        "run": state.run,
        "model": state.model.state_dict(),
        "ema": state.ema.module.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "scheduler": state.scheduler.state_dict(),
        "iteration": state.iteration,
        "seconds": state.seconds,
        "losses": state.losses,
        "recent": state.recent,
        "validation": state.validation,
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state(state.device) if state.device.type == "cuda" else None,
    }
    with writing(path, RuntimeError), atomic_write(path) as temporary:
        torch.save(record, temporary)


def load_checkpoint(path: Path, state: TrainingState) -> None:
    """Put the state of ``path`` into ``state`` and torch's random generators.

    A run that is finished may go on to more iterations: the learning rate then takes another cycle, over the
    steps that are added.

    :raises InputError: if the file is no checkpoint, or of another config, run or model (nothing changed
        then), or parts of it are damaged
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type for entry in archive.infolist()):  # could take any memory
                raise ValueError("it is compressed, which torch.save never does")
        record = torch.load(path, map_location=state.device, weights_only=True)
        config = FinetuneConfig().to_json() | record["config"]  # of a version that had fewer fields
        saved = config | record["run"], _shapes(record["model"])
        finished = record["iteration"] == record["config"]["iterations"]
    except Exception as error:
        raise InputError(
            f"{path} is no checkpoint of finetune ({error}): delete it, or start over with resume=False"
        ) from error
    wanted = state.config.to_json() | state.run, _shapes(state.model.state_dict())
    extended = finished and state.config.iterations > record["iteration"]
    changeable = (*RUN_FIELDS, *(["iterations"] if extended else []))
    for ours, theirs in zip(wanted, saved, strict=True):
        for name in ours | theirs:
            one, other = ours.get(name, "absent"), theirs.get(name, "absent")
            if name not in changeable and one != other:
                raise InputError(
                    f"{path} is of another run: its {name} is {other}, this run's {one}."
                    " Make them equal, take another output folder, or start over with resume=False"
                    + ("; only a finished run can be extended" if name == "iterations" else "")
                )
    try:
        state.model.load_state_dict(record["model"])
        state.ema.module.load_state_dict(record["ema"])
        state.ema.n_averaged.fill_(record["iteration"] + 1)
        state.optimiser.load_state_dict(record["optimiser"])
        state.iteration, state.seconds = int(record["iteration"]), float(record["seconds"])
        if extended:
            steps = state.config.iterations - state.iteration
            state.scheduler = one_cycle(state.optimiser, state.config, steps)
        else:
            state.scheduler.load_state_dict(record["scheduler"])
        state.losses = dict(record["losses"])
        state.recent = list(record.get("recent", []))  # not in those of version 0.1
        state.validation = dict(record.get("validation", {}))
        torch.set_rng_state(record["rng"].cpu())
        if state.device.type == "cuda" and record["cuda_rng"] is not None:
            torch.cuda.set_rng_state(record["cuda_rng"].cpu(), state.device)
    except FOREIGN as error:
        raise InputError(
            f"{path} is damaged ({error}): delete it, or start over with resume=False"
        ) from error


def one_cycle(optimiser: Optimizer, config: FinetuneConfig, steps: int) -> OneCycleLR:
    """The learning rate over so many steps: it rises to ``config.lr``, then falls."""
    steps = max(steps, 2)  # the rise must last longer than one step: OneCycleLR divides by both lengths
    rise = max(config.warmup, 1.5 / steps)
    return OneCycleLR(optimiser, config.lr, steps, pct_start=rise, cycle_momentum=False)


def _shapes(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {name: list(tensor.shape) for name, tensor in tensors.items()}
