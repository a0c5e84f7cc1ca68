"""The training loop."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.optim import AdamW
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from sj_lowlat import distributed
from sj_lowlat.data.augment import AugmentedDataset
from sj_lowlat.data.sample import DetectionDataset
from sj_lowlat.errors import InputError
from sj_lowlat.files import write_json
from sj_lowlat.progress import one_run, writing
from sj_lowlat.record import evaluating, provenance
from sj_lowlat.training.batches import Batch, BatchMaker, label_map
from sj_lowlat.training.config import RUN_FIELDS, FinetuneConfig
from sj_lowlat.training.device_batches import DeviceBatches
from sj_lowlat.training.journal import journal
from sj_lowlat.training.objective import Objective
from sj_lowlat.training.resume import TrainingState, load_checkpoint, one_cycle, save_checkpoint
from sj_lowlat.training.stop import StopAfterStep
from sj_lowlat.training.validate import Validation


def finetune(
    model: nn.Module,
    data: DetectionDataset | AugmentedDataset,
    teacher: nn.Module | None = None,
    config: FinetuneConfig | None = None,
    output: str | Path | None = None,
    resume: bool = True,
    validation: Validation | None = None,
) -> nn.Module:
    """Train ``model`` in place on labels, on a teacher's outputs, or on both.

    With an output, SIGINT (Ctrl-C) and SIGTERM wait for the end of a step and are preceded by a checkpoint.

    Called by all processes of ``torchrun``, it trains by ``DistributedDataParallel``: each process takes its
    share of every batch, and all end with the model that a single one makes, but for rounding. Process 0
    alone writes files; a run goes on in any number of processes.

    :param model: any network; with ``head_specs`` it can learn from boxes
    :param data: a detection dataset (its items are ``Sample``), augmented here, or an ``AugmentedDataset``.
        Classes are matched to the model's by name. Without ``class_names`` it is unlabelled: give a teacher
    :param teacher: a network with outputs of the same shapes, on the same device; left unchanged
    :param config: settings; None: ``FinetuneConfig()``
    :param output: folder for ``checkpoint.pt``, ``log.jsonl``, ``finetune.json``, TensorBoard; None: no files
    :param resume: resume from ``checkpoint.pt`` in ``output`` where there is one; the result is that of an
        uninterrupted run, bit for bit on a CPU. A finished run goes on to more ``iterations``, with another
        cycle of the learning rate over the steps that are added. False: start over and overwrite it
    :param validation: a score to take now and then, by process 0, which changes nothing in the training; it
        goes to the log, and with the best one to ``finetune.json``
    :return: ``model`` with the exponential moving average of its weights; train and eval flags are restored
    :raises InputError: if there is nothing to learn from, the checkpoint is of another run, or another run
        writes to ``output`` now
    :raises OSError: if ``output`` cannot be written
    :raises FloatingPointError: if a loss term or the gradient is not finite; the last checkpoint stays
    """
    config = config or FinetuneConfig()
    main = distributed.is_main()
    device = _device_of(model, teacher)
    objective = Objective(model, data, teacher, config)
    labels = label_map(data, model) if objective.detection else {}
    maker: BatchMaker | DeviceBatches
    if config.augment_on_device:
        maker = DeviceBatches(data, config, labels, device)
    else:
        maker = BatchMaker(data, config, labels)
    folder = Path(output) if output is not None else None
    # a run changes torch's generator (dropout); the caller's is put back
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), evaluating(model, *([] if teacher is None else [teacher])):
        model.train()
        for module in model.modules():
            frozen = config.frozen_norms and isinstance(module, _BatchNorm)
            if frozen or (isinstance(module, _DropoutNd) and not objective.detection):
                module.eval()
        torch.manual_seed(config.seed)
        model.to(memory_format=torch.channels_last)
        uses = {"detection": objective.detection, "distillation": objective.teacher is not None}
        state = _start(objective, {"images": len(data), **uses}, device)
        with one_run(folder) if folder and main else nullcontext():
            if folder and resume and (folder / "checkpoint.pt").exists():
                load_checkpoint(folder / "checkpoint.pt", state)
            same = {name: value for name, value in config.to_json().items() if name not in RUN_FIELDS}
            same |= {**state.run, "iteration": state.iteration, "output": folder is not None}
            distributed.check_same(same)
            objective.model = distributed.parallel(model)
            _train(state, objective, maker, folder, validation)
        model.load_state_dict(state.ema.module.state_dict())
    if folder and main:
        end: dict[str, Any] = {"seconds": round(state.seconds, 3), "losses": state.losses}
        end |= {"validation": state.validation} if state.validation else {}
        path = folder / "finetune.json"
        with writing(path):
            write_json(path, {"config": config.to_json(), **provenance(config.seed), **end})
    return model


def _train(
    state: TrainingState,
    objective: Objective,
    maker: BatchMaker | DeviceBatches,
    folder: Path | None,
    validation: Validation | None,
) -> None:
    """Take the steps that are left."""
    config, before, start = state.config, state.seconds, time.perf_counter()
    hidden = None if distributed.is_main() else True
    bar = tqdm(total=config.iterations, initial=state.iteration, desc="finetune", unit="step", disable=hidden)
    shown: dict[str, str] = {}
    stop = StopAfterStep() if folder else None
    folder = folder if distributed.is_main() else None
    with stop or nullcontext(), journal(folder, state.iteration) as write, bar:
        for batch in maker.load(state.iteration, state.device):
            lr = float(state.scheduler.get_last_lr()[0])
            state.losses = _step(state, objective, batch)
            state.seconds = before + time.perf_counter() - start
            state.recent.append(state.losses)
            done = state.iteration == config.iterations
            bar.update()
            scored = validation is not None and validation.due(state)
            if done or scored or state.iteration % config.log_every == 0:
                means = {n: sum(r[n] for r in state.recent) / len(state.recent) for n in state.losses}
                map50 = validation(state) if validation and scored and distributed.is_main() else None
                write(state.iteration, means, lr, state.seconds, map50)
                shown |= {"loss": f"{means['total']:.4g}"}
                shown |= {} if map50 is None else {"mAP50": f"{100 * map50:.1f}"}
                bar.set_postfix(shown)
                state.recent = []
            if stop and distributed.totals(stop.came or 0)[0]:
                stop.came = stop.came or signal.SIGTERM  # of another process
            stopped = bool(stop and stop.came)
            if folder and (done or stopped or state.iteration % config.checkpoint_every == 0):
                save_checkpoint(folder / "checkpoint.pt", state)
            if stopped:
                break


def _step(state: TrainingState, objective: Objective, batch: Batch) -> dict[str, float]:
    """One optimiser step; gives the loss terms and their total."""
    terms = objective(batch)
    total = torch.stack(list(terms.values())).sum()
    state.optimiser.zero_grad()
    total.backward()
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), state.config.grad_clip)
    values = torch.stack([value.detach().float() for value in (*terms.values(), total)])
    # one transfer from the device for all
    found = [*distributed.total(values), norm.float()]
    numbers = dict(zip((*terms, "total", "gradient"), torch.stack(found).tolist(), strict=True))
    for name, number in numbers.items():
        if not math.isfinite(number):
            raise FloatingPointError(
                f"iteration {state.iteration + 1}: {name} is {number}. This step was not taken and the last"
                " checkpoint is good; look for NaN in the images, or take a lower lr or precision 'fp32'"
            )
    state.optimiser.step()
    state.scheduler.step()
    state.ema.update_parameters(state.model)
    state.iteration += 1
    return numbers


def _start(objective: Objective, run: dict[str, Any], device: torch.device) -> TrainingState:
    model, config = objective.model, objective.config
    optimiser = AdamW(parameter_groups(model, config.weight_decay), lr=config.lr, fused=True)
    scheduler = one_cycle(optimiser, config, config.iterations)
    average = moving_average(model, config.ema)
    return TrainingState(config, run, device, model, average, optimiser, scheduler)


def moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of parameters and floating-point buffers; other buffers are copied.

    ``average <- d average + (1 - d) value`` with ``d = min(decay, (1 + i) / (10 + i))`` at step i (from 0),
    so that the start is soon forgotten.
    """

    @torch.no_grad()
    def update(averages: Sequence[Tensor], values: Sequence[Tensor], averaged: Tensor | int) -> None:
        keep = min(decay, int(averaged) / (9 + int(averaged)))  # averaged = 1 + i: the start counts as one
        for average, value in zip(averages, values, strict=True):
            if value.is_floating_point():
                average.lerp_(value, 1 - keep)
            else:
                average.copy_(value)

    average = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
    average.n_averaged.fill_(1)
    return average


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters for an optimiser; biases, norms and ``clip_raw`` of QuantReLU get no decay.

    :raises InputError: if there are none
    """
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            flat = parameter.ndim <= 1 or name.rpartition(".")[2] == "clip_raw"
            (plain if flat else decayed).append(parameter)
    if not decayed and not plain:
        raise InputError("the model has no trainable parameters: nothing to finetune")
    groups = [(decayed, weight_decay), (plain, 0.0)]
    return [{"params": params, "weight_decay": decay} for params, decay in groups if params]


def _device_of(model: nn.Module, teacher: nn.Module | None) -> torch.device:
    if teacher is model:
        raise InputError("teacher and model are the same object: train a copy (copy.deepcopy) of the teacher")
    networks = (model, model if teacher is None else teacher)
    ours, theirs = (next((p.device for p in n.parameters()), torch.device("cpu")) for n in networks)
    if ours != theirs:
        raise InputError(f"the model is on {ours}, the teacher on {theirs}: move one with .to(device)")
    return ours
