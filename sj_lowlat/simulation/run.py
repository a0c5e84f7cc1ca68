"""Run a spiking network for T steps, in chunks, with read-outs at any of them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Any

import torch
from spikingjelly.activation_based import functional
from torch import nn
from torch.utils._pytree import tree_map

from sj_lowlat.detect import StableDetections
from sj_lowlat.encoders import ConstantCurrent, Encoder, find_encoder
from sj_lowlat.errors import InputError
from sj_lowlat.layers import LowLatencyIFNode, MergedTime, RateReadout
from sj_lowlat.network import schedule_for
from sj_lowlat.schedule import Schedule, whole
from sj_lowlat.simulation.chunks import chunk_for, remember_size
from sj_lowlat.simulation.phases import amplified, computed_once, settings, without_input
from sj_lowlat.simulation.plan import RunPlan, check_images, check_mode, check_readout


@dataclass(frozen=True)
class Readout:
    """The network's output after so many steps.

    :param step: steps in all, flush included
    :param outputs: what the network's forward returns, from the mean spikes so far
    :param done: of a run that may stop early: which images' detections are stable
    """

    step: int
    outputs: Any
    done: tuple[bool, ...] = ()


@dataclass(frozen=True)
class SimulationResult:
    """All read-outs of a simulation.

    :param steps: the steps of the read-outs, ascending
    :param outputs: the network's output at each of them
    :param stopped: of a run that may stop early: the step that counts for each image
    """

    steps: tuple[int, ...]
    outputs: list[Any]
    stopped: tuple[int, ...] | None = None

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


def simulate_steps(
    snn: nn.Module,
    images: torch.Tensor,
    schedule: Schedule | str | int | None = None,
    *,
    readout: Sequence[int] | None = None,
    encoder: str | Encoder = "constant",
    chunk: int | None = None,
    seed: int = 0,
    mode: str = "steps",
    stop: str | None = None,
    stop_reads: int = 2,
    **changes: int | None,
) -> Generator[Readout, None, None]:
    """Like :func:`simulate`, but a generator: each read-out comes as soon as it is known.

    Input is checked at once, the run starts with the first read-out that is asked for. Closing the generator
    (or dropping it) stops the run and gives the network back its biases.

    Parameters and errors as there.

    :return: the read-outs, by ascending steps
    """
    layers = tuple(module for module in snn.modules() if isinstance(module, MergedTime))
    if not any(isinstance(layer, LowLatencyIFNode) for layer in layers):
        raise InputError("this network has no spiking neurons of sj_lowlat; call sj_lowlat.convert first")
    schedule = schedule_for(snn, schedule, **changes)
    if stop is not None and readout is None and mode == "steps":
        readout = range(1, schedule.total + 1)
    steps = check_readout(schedule, readout)
    if chunk is not None:
        whole("chunk", chunk, 1, "or None to choose it")
    check_images(images)
    assert schedule.charge is not None  # schedule_for has found it
    plan = RunPlan(schedule.time_steps, schedule.flush, schedule.charge, schedule.burst, steps, chunk)
    source = find_encoder(encoder, seed)
    nodes = (layer for layer in layers if isinstance(layer, LowLatencyIFNode))
    check_mode(mode, readout, isinstance(source, ConstantCurrent), nodes)
    if mode == "counts":
        plan = RunPlan.settled(plan.levels, steps[-1])
    run = _run(snn, layers, images, plan, source)
    return run if stop is None else _until_stable(run, _follower(snn, stop, stop_reads))


def _run(
    snn: nn.Module,
    layers: Sequence[MergedTime],
    images: torch.Tensor,
    plan: RunPlan,
    encoder: Encoder,
) -> Generator[Readout, None, None]:
    time_steps, steps = plan.time_steps, plan.readout
    parameter = next(_reader(snn).parameters())
    images = images.to(device=parameter.device, dtype=parameter.dtype)
    batch = len(images)
    if images.dim() == 4:
        images = images.contiguous(memory_format=torch.channels_last)
    goes_on = getattr(encoder, "goes_on", False)
    functional.reset_net(snn)
    with settings(layers, batch, plan), ExitStack() as phase:
        if plan.gain != 1:
            phase.enter_context(amplified(snn, plan.gain))
        if isinstance(encoder, ConstantCurrent):
            phase.enter_context(computed_once(snn))
        done = 0
        while done < steps[-1]:
            if done == time_steps:
                phase.close()
                if goes_on:
                    phase.enter_context(amplified(snn, plan.gain, biases=False))
                else:
                    phase.enter_context(without_input(snn))
                    phase.enter_context(computed_once(snn))
            chunk = plan.chunk or chunk_for(snn, images)
            size = min(chunk, (min(time_steps, steps[-1]) if done < time_steps else steps[-1]) - done)
            wanted = [step for step in steps if done < step <= done + size]
            reads = done < time_steps or goes_on
            x = encoder(images, done, size) if reads else torch.zeros_like(images)
            for layer in layers:
                layer.merged_steps = size
                if isinstance(layer, RateReadout):
                    layer.readout_steps = tuple(step - done for step in wanted)
            with torch.no_grad():
                outputs = snn(x)
            if not done and size > 1:
                remember_size(snn, images, layers)
            done += size
            for i, step in enumerate(wanted):
                yield Readout(plan.shown or step, _pick(outputs, i, len(wanted), batch))


def _follower(snn: nn.Module, stop: str, reads: int) -> StableDetections:
    specs = getattr(snn, "head_specs", None)
    if stop != "stable":
        raise InputError(f"stop is {stop!r}, it must be 'stable', or None to run to the end")
    if not specs:
        raise InputError(
            f"stop='stable' looks at detections, and {type(snn).__name__} has no head_specs to decode its "
            "maps with: set them (sj_lowlat.detect.HeadSpec, one per map), or give a callback"
        )
    return StableDetections(specs, reads)


def _until_stable(
    run: Generator[Readout, None, None], detections: StableDetections
) -> Generator[Readout, None, None]:
    with closing(run):
        for read in run:
            stable = detections.update(read.step, read.outputs)
            yield replace(read, done=tuple(step is not None for step in detections.stopped))
            if stable:
                return


def _reader(snn: nn.Module) -> nn.Module:
    """The layer that reads the images: others may have weights of another precision."""
    names = getattr(snn, "input_layers", ())
    return snn.get_submodule(names[0]) if names else snn


def _pick(outputs: Any, index: int, count: int, batch: int) -> Any:
    """One read-out of ``[count * N, *]``; what does not depend on the images stays as it is."""

    def pick(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or not value.dim() or len(value) != count * batch:
            return value
        return value[index * batch : (index + 1) * batch]

    return tree_map(pick, outputs)


def simulate(
    snn: nn.Module,
    images: torch.Tensor,
    schedule: Schedule | str | int | None = None,
    *,
    readout: Sequence[int] | None = None,
    encoder: str | Encoder = "constant",
    chunk: int | None = None,
    seed: int = 0,
    mode: str = "steps",
    stop: str | None = None,
    stop_reads: int = 2,
    callback: Callable[[Readout], bool | None] | None = None,
    **changes: int | None,
) -> SimulationResult:
    """Run a spiking network on a batch of images and read its heads.

    The network is reset first. At step t <= T the heads read the spikes' mean over t steps. During the flush
    the input and all biases are off, and heads go on dividing by T: signed neurons settle to what the
    quantised network computes.

    The T input steps carry the charge of L steps, L being the schedule's ``charge`` (by default the levels of
    the network): input and biases are multiplied by L / T. So everything can be given within a few steps, or
    in a single one, and the counts settle in the steps after. With bursts that takes fewer steps in all than
    L even ones.

    :param snn: a network from :func:`~sj_lowlat.conversion.convert`
    :param images: ``[N, C, H, W]`` in [0, 1]
    :param schedule: a :class:`~sj_lowlat.schedule.Schedule`, its written form such as ``"4+2b4"``, or T, the
        steps with input, alone; by default the network's own
    :param changes: fields of the schedule by name with other values: ``time_steps``, ``flush``, ``burst``,
        ``charge`` (``levels`` in version 0.1)
    :param readout: steps (1 to T + K) at which the output is wanted; the last one by default. The run ends
        there
    :param encoder: ``"constant"`` (the image is a current, its convolution computed once), ``"poisson"``, or
        an :class:`~sj_lowlat.encoders.Encoder`
    :param chunk: steps per pass; chosen by size if ``None``. It changes memory and speed, not the result
    :param seed: of the Poisson encoder
    :param mode: ``"steps"``, or ``"counts"``: what signed neurons have settled to after enough flush, from
        one pass in which each layer's convolution runs once on its net spike counts. It equals the run in
        steps once no neuron of that fires any more, and so the quantised network (in floats: but for sums
        that are rounded over a border between levels); flush, burst and steps have no part in it
    :param stop: ``"stable"`` ends the run of an image when its detections have not changed, see
        :class:`~sj_lowlat.detect.StableDetections`; every step is read then, if ``readout`` is not given.
        The result's ``final`` and ``stopped`` tell for each image; a batch runs on for its slowest image
    :param stop_reads: read-outs without a change that ``stop`` waits for
    :param callback: called with each :class:`Readout`; returning ``True`` ends the run
    :return: the read-outs; latency in steps is their ``steps``, flush included
    :raises InputError: for steps or images that cannot be, or a network that is not spiking
    """
    steps, outputs = [], []
    run = simulate_steps(
        snn,
        images,
        schedule,
        readout=readout,
        encoder=encoder,
        chunk=chunk,
        seed=seed,
        mode=mode,
        stop=stop,
        stop_reads=stop_reads,
        **changes,
    )
    stopped: dict[int, int] = {}
    with closing(run):  # whatever the callback raises, the network gets its biases back
        for read in run:
            steps.append(read.step)
            outputs.append(read.outputs)
            for image, done in enumerate(read.done):
                if done:
                    stopped.setdefault(image, read.step)
            if callback is not None and callback(read):
                break
    last = None if stop is None else tuple(stopped.get(image, steps[-1]) for image in range(len(images)))
    return SimulationResult(tuple(steps), outputs, last)
