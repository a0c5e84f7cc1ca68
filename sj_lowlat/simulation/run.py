"""Run a spiking network for T steps, in chunks, with read-outs at any of them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace

import torch
from spikingjelly.activation_based import functional
from torch import nn

from sj_lowlat.encoders import ConstantCurrent, Encoder, find_encoder
from sj_lowlat.errors import InputError
from sj_lowlat.layers import LowLatencyIFNode, Pass, clock_of, reader_of
from sj_lowlat.network import info_of, schedule_for, unwrapped
from sj_lowlat.record import evaluating
from sj_lowlat.schedule import Schedule, whole
from sj_lowlat.simulation.plan import check_images, check_mode, check_readout, chunk_for, correcting
from sj_lowlat.simulation.result import Readout, SimulationResult, one_readout
from sj_lowlat.simulation.stopping import stopping


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

    Input is checked at once; the run starts with the first ``next``. Closing the generator (or dropping it)
    stops the run and releases the network, which takes one run at a time. Between two read-outs the only
    trace of the run on the network is the state of its neurons, which the caller must not change.

    Parameters and errors are those of :func:`simulate`.

    :return: the read-outs, by ascending steps
    """
    snn = unwrapped(snn)
    nodes = [module for module in snn.modules() if isinstance(module, LowLatencyIFNode)]
    if not nodes:
        raise InputError("this network has no spiking neurons of sj_lowlat; call sj_lowlat.convert first")
    clock_of(snn)  # checks it
    schedule = schedule_for(snn, schedule, **changes)
    if stop is not None and readout is None and mode == "steps":
        readout = range(schedule.before + 1, schedule.total + 1)
    steps = check_readout(schedule, readout)
    if chunk is not None:
        whole("chunk", chunk, 1, "or None to choose it")
    check_images(images, info_of(snn).input_shape)
    source = find_encoder(encoder, seed)
    check_mode(mode, readout, isinstance(source, ConstantCurrent), nodes)
    if schedule.pre:
        correcting(nodes)  # checks them
    shown = None
    if mode == "counts":  # all charge in one step, in which every neuron may fire all its spikes
        shown, steps, chunk = steps[-1], (1,), 1
        charge, most = schedule.charge, max(node.headroom for node in nodes)
        schedule = Schedule(1, burst=charge * most, charge=charge)  # type: ignore[operator]
    run = _run(snn, nodes, images, schedule, steps, chunk, source, shown)
    return run if stop is None else stopping(run, snn, stop, stop_reads)


def _run(
    snn: nn.Module,
    nodes: Sequence[LowLatencyIFNode],
    images: torch.Tensor,
    schedule: Schedule,
    readout: Sequence[int],
    chunk: int | None,
    encoder: Encoder,
    shown: int | None,
) -> Generator[Readout, None, None]:
    clock, pre, before = clock_of(snn), schedule.pre, 0
    parameter = next(reader_of(snn).parameters())  # others may have weights of another precision
    images = images.to(device=parameter.device, dtype=parameter.dtype)
    batch, image = len(images), tuple(images.shape[1:])
    if images.dim() == 4:
        images = images.contiguous(memory_format=torch.channels_last)
    goes_on = getattr(encoder, "goes_on", False)
    training = any(module.training for module in snn.modules())  # then dropout would drop spikes
    phase = Pass(
        batch=batch,
        input_steps=schedule.time_steps,
        charge=schedule.charge,
        burst=schedule.burst,
        input_gain=schedule.gain,
        bias_gain=schedule.gain,
        kept={} if isinstance(encoder, ConstantCurrent) else None,
    )

    def passes(
        phase: Pass, time_steps: int, last: int, before: int, readout: Sequence[int]
    ) -> Generator[Readout, None, None]:
        """``last`` steps, of which ``time_steps`` have input.

        :param before: steps that have been, from which those of the read-outs go on
        """
        done, counted = 0, [before] * len(nodes)
        while done < last:
            if done == time_steps:
                phase = replace(phase, bias_gain=0.0)
                if not goes_on:
                    phase = replace(phase, input_gain=0.0, kept={})
            end = min(time_steps, last) if done < time_steps else last
            size = min(chunk or chunk_for(clock, images), end - done)
            wanted = [step for step in readout if done < step - before <= done + size]
            x = encoder(images, done, size) if done < time_steps or goes_on else torch.zeros_like(images)
            if [node.steps for node in nodes] != counted:
                raise InputError(
                    "this network was called or reset between two read-outs of its simulation, which cannot "
                    "go on from there: call a copy (copy.deepcopy), or wait for the end"
                )
            reads = tuple(step - before - done for step in wanted)
            now = replace(phase, steps=size, readout=reads, sizes=[])
            with clock.during(now), torch.no_grad(), evaluating(snn) if training else nullcontext():
                outputs = snn(x)
            counted = [node.steps for node in nodes]
            if not done and size > 1:
                clock.sizes[image] = max(1, max(now.sizes, default=0) // batch)
            done += size
            for i, step in enumerate(wanted):
                yield Readout(shown or step, one_readout(outputs, i, len(wanted), batch))

    with clock.run():
        functional.reset_net(snn)
        while before < schedule.before:
            yield from passes(replace(phase, pre=True), pre, pre, before, ())  # no read-outs
            before += pre
            able = correcting(nodes)
            starts = [node.corrected_start() for node in able]
            functional.reset_net(snn)
            for node, start in zip(able, starts, strict=True):
                node.start_at(start, before)
        yield from passes(phase, schedule.time_steps, readout[-1] - before, before, readout)


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
    the input and all biases are off, and heads still divide by T: signed neurons settle to what the quantised
    network computes.

    Input gain: the T input steps carry the charge of L steps, L being the schedule's ``charge`` (by default
    the levels of the network), so input and biases are multiplied by L / T. The whole charge can thus come in
    a few steps, or in a single one, and the counts settle in the flush. With bursts this takes fewer steps in
    all than L steps without gain.

    Pre-steps: the run begins with ``pre`` steps of the same input, after which all neurons correct their V(0)
    (:class:`~sj_lowlat.layers.PreStepsIFNode`), everything else is reset, and the T steps follow; or before
    them more rounds of pre-steps. Steps are counted from the first pre-step.

    :param snn: a network from :func:`~sj_lowlat.conversion.convert`, or a container of one
    :param images: ``[N, C, H, W]`` in [0, 1]
    :param schedule: a :class:`~sj_lowlat.schedule.Schedule`, its written form such as ``"4+2b4"``, or T, the
        steps with input, alone; by default the network's own
    :param changes: overrides of single fields of the schedule: ``time_steps``, ``flush``, ``burst``,
        ``charge`` (``levels`` in version 0.1), ``pre``, ``rounds``
    :param readout: steps (1 to T + K, behind pre-steps if there are any) at which the output is wanted; the
        last one by default. The run ends there
    :param encoder: ``"constant"`` (the image is a current, its convolution computed once), ``"poisson"``, or
        an :class:`~sj_lowlat.encoders.Encoder`
    :param chunk: steps per pass; chosen by size if ``None``. It changes memory and speed. Sums of floats may
        change in their last bit, and so a spike where a potential lies that close to a border
    :param seed: of the Poisson encoder
    :param mode: ``"steps"``, or ``"counts"``: the settled network (signed neurons after enough flush) in one
        pass, in which each layer's convolution runs once on its net spike counts. It equals a run in steps
        in which no neuron fires any more, and so the quantised network (in floats, except for sums that are
        rounded across a border between levels); steps, flush and burst have no influence on it
    :param stop: ``"stable"`` ends the run of an image when its detections have not changed, see
        :class:`~sj_lowlat.detect.StableDetections`; every step is read then, if ``readout`` is not given.
        The result's ``final`` and ``stopped`` are per image; a batch runs until its slowest image is done
    :param stop_reads: read-outs without a change that ``stop`` waits for
    :param callback: called with each :class:`Readout`; returning ``True`` ends the run
    :return: the read-outs; latency in steps is their ``steps``, flush included
    :raises InputError: for impossible steps or images, a network that is not spiking, or one that another
        simulation is running
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
    with closing(run):  # whatever the callback raises, the network is free again
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
