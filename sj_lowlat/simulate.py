"""Run a spiking network for T steps, in chunks, with read-outs at any of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from spikingjelly.activation_based import functional
from torch import nn
from torch.utils._pytree import tree_map

from sj_lowlat.encoders import ConstantCurrent, Encoder, find_encoder
from sj_lowlat.errors import InputError
from sj_lowlat.layers import LowLatencyIFNode, MergedTime, RateReadout, SignedIFNode

# pixels of merged input that one chunk may hold: some steps at once feed the convolutions well, more only
# cost memory
_CHUNK_PIXELS = 4 * 416 * 416


@dataclass(frozen=True)
class Readout:
    """The network's output after so many steps.

    :param step: steps in all, flush included
    :param outputs: what the network's forward returns, from the mean spikes so far
    """

    step: int
    outputs: Any


@dataclass(frozen=True)
class SimulationResult:
    """All read-outs of a simulation.

    :param steps: the steps of the read-outs, ascending
    :param outputs: the network's output at each of them
    """

    steps: tuple[int, ...]
    outputs: list[Any]

    @property
    def final(self) -> Any:
        """The output at the last read-out."""
        return self.outputs[-1]


def _whole(name: str, value: Any, least: int, hint: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {value!r}, it must be a whole number of at least {least}; {hint}")


def check_steps(time_steps: int, flush: int, readout: Sequence[int] | None) -> tuple[int, ...]:
    """Check the times of a simulation.

    :return: the read-out steps, ascending, each once
    :raises InputError: if one of them cannot be
    """
    _whole("time_steps", time_steps, 1, "for instance 16")
    _whole("flush", flush, 0, "0 for none")
    total = time_steps + flush
    if readout is None:
        return (total,)
    steps = tuple(readout) if isinstance(readout, Iterable) else ()
    if not steps or any(isinstance(s, bool) or not isinstance(s, int) or not 1 <= s <= total for s in steps):
        raise InputError(
            f"readout is {readout!r}, it must be a sequence of steps from 1 to {total} (time_steps + flush), "
            f"for instance ({total},)"
        )
    return tuple(sorted(set(steps)))


def simulate_steps(
    snn: nn.Module,
    images: torch.Tensor,
    time_steps: int,
    *,
    flush: int = 0,
    readout: Sequence[int] | None = None,
    encoder: str | Encoder = "constant",
    chunk: int | None = None,
    seed: int = 0,
) -> Generator[Readout, None, None]:
    """Like :func:`simulate`, but a generator: each read-out comes as soon as it is known.

    Input is checked at once, the run starts with the first read-out that is asked for. Closing the generator
    (or dropping it) stops the run and gives the network back its biases.

    Parameters and errors as there.

    :return: the read-outs, by ascending steps
    """
    steps = check_steps(time_steps, flush, readout)
    if chunk is not None:
        _whole("chunk", chunk, 1, "or None to choose it")
    _check_images(images)
    layers = tuple(module for module in snn.modules() if isinstance(module, MergedTime))
    if not any(isinstance(layer, LowLatencyIFNode) for layer in layers):
        raise InputError("this network has no spiking neurons of sj_lowlat; call sj_lowlat.convert first")
    return _run(snn, layers, images, time_steps, flush, steps, find_encoder(encoder, seed), chunk)


def _run(
    snn: nn.Module,
    layers: Sequence[MergedTime],
    images: torch.Tensor,
    time_steps: int,
    flush: int,
    steps: tuple[int, ...],
    encoder: Encoder,
    chunk: int | None,
) -> Generator[Readout, None, None]:
    parameter = next(snn.parameters())
    images = images.to(device=parameter.device, dtype=parameter.dtype)
    batch = len(images)
    if getattr(snn, "channels_last", False):
        images = images.contiguous(memory_format=torch.channels_last)
    chunk = chunk or max(1, min(8, _CHUNK_PIXELS // (batch * math.prod(images.shape[2:]))))
    functional.reset_net(snn)
    with _settings(layers, batch, time_steps), ExitStack() as phase:
        if isinstance(encoder, ConstantCurrent):
            phase.enter_context(_computed_once(snn))
        done = 0
        while done < steps[-1]:
            if done == time_steps:
                phase.close()
                phase.enter_context(_without_input(snn))
                phase.enter_context(_computed_once(snn))
            size = min(chunk, (min(time_steps, steps[-1]) if done < time_steps else steps[-1]) - done)
            wanted = [step for step in steps if done < step <= done + size]
            x = encoder(images, done, size) if done < time_steps else torch.zeros_like(images)
            for layer in layers:
                layer.merged_steps = size
                if isinstance(layer, RateReadout):
                    layer.readout_steps = tuple(step - done for step in wanted)
            with torch.no_grad():
                outputs = snn(x)
            done += size
            for i, step in enumerate(wanted):
                yield Readout(step, _pick(outputs, i, len(wanted), batch))


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
    time_steps: int,
    *,
    flush: int = 0,
    readout: Sequence[int] | None = None,
    encoder: str | Encoder = "constant",
    chunk: int | None = None,
    seed: int = 0,
    callback: Callable[[Readout], bool | None] | None = None,
) -> SimulationResult:
    """Run a spiking network on a batch of images and read its heads.

    The network is reset first. At step t <= T the heads read the spikes' mean over t steps. During the flush
    the input and all biases are off, and heads go on dividing by T: signed neurons settle to what the
    quantised network computes.

    :param snn: a network from :func:`~sj_lowlat.convert.convert`
    :param images: ``[N, C, H, W]`` in [0, 1]
    :param time_steps: T, steps with input
    :param flush: K, further steps without
    :param readout: steps (1 to T + K) at which the output is wanted; the last one by default. The run ends
        there
    :param encoder: ``"constant"`` (the image is a current, its convolution computed once), ``"poisson"``, or
        an :class:`~sj_lowlat.encoders.Encoder`
    :param chunk: steps per pass; chosen by size if ``None``. It changes memory and speed, not the result
    :param seed: of the Poisson encoder
    :param callback: called with each :class:`Readout`; returning ``True`` ends the run
    :return: the read-outs; latency in steps is their ``steps``, flush included
    :raises InputError: for steps or images that cannot be, or a network that is not spiking
    """
    steps, outputs = [], []
    run = simulate_steps(
        snn, images, time_steps, flush=flush, readout=readout, encoder=encoder, chunk=chunk, seed=seed
    )
    with closing(run):  # whatever the callback raises, the network gets its biases back
        for read in run:
            steps.append(read.step)
            outputs.append(read.outputs)
            if callback is not None and callback(read):
                break
    return SimulationResult(tuple(steps), outputs)


def _check_images(images: Any) -> None:
    if not isinstance(images, torch.Tensor):
        raise InputError(
            f"images are {type(images).__name__}; they must be a floating-point tensor [N, C, H, W]"
        )
    if images.dim() < 2 or not images.numel() or not images.is_floating_point():
        raise InputError(
            f"images are {tuple(images.shape)} of {images.dtype}; they must be a floating-point tensor "
            "[N, C, H, W] in [0, 1] with N at least 1"
        )
    if not bool(torch.isfinite(images).all()):
        raise InputError("images hold NaN or infinite values; give finite images in [0, 1]")


@contextmanager
def _settings(layers: Sequence[MergedTime], batch: int, time_steps: int) -> Iterator[None]:
    """Tell every layer with a state how time is merged; afterwards they are as they were."""
    limits = {layer: layer.max_count for layer in layers if isinstance(layer, SignedIFNode)}
    try:
        for layer in layers:
            layer.merged_batch = batch
            if isinstance(layer, SignedIFNode) and layer.max_count is None:
                layer.max_count = time_steps  # a quantised ReLU of T levels counts to T
            if isinstance(layer, RateReadout):
                layer.input_steps = time_steps
        yield
    finally:
        for layer in layers:
            layer.merged_steps = None
            if isinstance(layer, RateReadout):
                layer.input_steps = None
        for layer, limit in limits.items():
            layer.max_count = limit


def _input_layers(snn: nn.Module) -> list[nn.Module]:
    return [snn.get_submodule(name) for name in getattr(snn, "input_layers", ())]


@contextmanager
def _computed_once(snn: nn.Module) -> Iterator[None]:
    """Layers that read the constant image (or, in the flush, nothing) keep their first result."""
    layers = [layer for layer in _input_layers(snn) if not isinstance(layer, RateReadout)]

    def remember(layer: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        compute = layer.forward
        kept: list[torch.Tensor] = []

        def forward(x: torch.Tensor) -> torch.Tensor:
            if not kept:
                kept.append(compute(x))
            return kept[0]

        return forward

    try:
        for layer in layers:
            layer.forward = remember(layer)
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


def _read_nothing(layer: nn.Module, args: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return torch.zeros_like(args[0])


@contextmanager
def _without_input(snn: nn.Module) -> Iterator[None]:
    """Switch off the input and every bias but those of the read-outs, which count once.

    A forward that normalises its image turns a black image into a current, so the layers' inputs are switched
    off.
    """
    readouts = [module for module in snn.modules() if isinstance(module, RateReadout)]
    kept = {layer for readout in readouts for layer in readout.modules()}
    biases = [
        (module, module.bias)
        for module in snn.modules()
        if module not in kept and isinstance(getattr(module, "bias", None), nn.Parameter)
    ]
    handles = [layer.register_forward_pre_hook(_read_nothing, prepend=True) for layer in _input_layers(snn)]
    try:
        for module, _ in biases:
            module.bias = None  # type: ignore[assignment]
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, bias in biases:
            module.bias = bias
