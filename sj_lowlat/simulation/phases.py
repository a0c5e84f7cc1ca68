"""What a network is told for a run or a part of it; afterwards it is as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from sj_lowlat.errors import InputError
from sj_lowlat.layers import LowLatencyIFNode, MergedTime, RateReadout, SignedIFNode
from sj_lowlat.simulation.plan import RunPlan

# whole numbers that spikes of small dtypes can be
_EXACT_UP_TO = {torch.int8: 127, torch.bfloat16: 256, torch.float16: 2048}


@contextmanager
def settings(layers: Sequence[MergedTime], batch: int, plan: RunPlan) -> Iterator[None]:
    """Tell every layer with a state how time is merged; afterwards they are as they were."""
    limits = {layer: layer.max_count for layer in layers if isinstance(layer, SignedIFNode)}
    bursts = {layer: layer.burst for layer in layers if isinstance(layer, LowLatencyIFNode)}
    try:
        for layer in layers:
            layer.merged_batch = batch
            if isinstance(layer, SignedIFNode) and layer.max_count is None:
                layer.max_count = plan.levels * layer.burst  # a quantised ReLU of L levels counts to L
            if isinstance(layer, LowLatencyIFNode):
                layer.burst *= plan.burst
                _check_burst(layer)
            if isinstance(layer, RateReadout):
                layer.input_steps, layer.gain = plan.time_steps, plan.gain
        yield
    finally:
        for layer in layers:
            layer.merged_steps = None
            if isinstance(layer, LowLatencyIFNode):
                layer.burst = bursts[layer]
            if isinstance(layer, RateReadout):
                layer.input_steps, layer.gain = None, 1.0
        for layer, limit in limits.items():
            layer.max_count = limit


def _check_burst(node: LowLatencyIFNode) -> None:
    most = _EXACT_UP_TO.get(node.spike_dtype or torch.float32)
    if most is not None and node.burst > most:
        raise InputError(
            f"bursts of up to {node.burst} spikes came to neurons whose spikes travel as {node.spike_dtype}, "
            f"which takes at most {most}: give a smaller burst (in mode='counts': fewer levels), or a "
            "network in fp32"
        )


def _input_layers(snn: nn.Module) -> list[nn.Module]:
    return [snn.get_submodule(name) for name in getattr(snn, "input_layers", ())]


@contextmanager
def computed_once(snn: nn.Module) -> Iterator[None]:
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
def amplified(snn: nn.Module, gain: float, biases: bool = True) -> Iterator[None]:
    """Multiply the input and every bias but those of the read-outs; without ``biases`` these are off."""
    handles = [
        layer.register_forward_pre_hook(lambda _, args: args[0] * gain, prepend=True)
        for layer in _input_layers(snn)
    ]

    def change(bias: nn.Parameter) -> nn.Parameter | None:
        return nn.Parameter(bias * gain, requires_grad=False) if biases else None

    with _other_biases(snn, change), _removing(handles):
        yield


@contextmanager
def _removing(handles: Sequence[RemovableHandle]) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _other_biases(snn: nn.Module, change: Callable[[nn.Parameter], nn.Parameter | None]) -> Iterator[None]:
    biases = _biases(snn)
    try:
        for module, bias in biases:
            module.bias = change(bias)  # type: ignore[assignment]
        yield
    finally:
        for module, bias in biases:
            module.bias = bias


def _biases(snn: nn.Module) -> list[tuple[nn.Module, nn.Parameter]]:
    """The modules with a bias, but for those within read-outs."""
    readouts = [module for module in snn.modules() if isinstance(module, RateReadout)]
    kept = {layer for readout in readouts for layer in readout.modules()}
    found = [(module, getattr(module, "bias", None)) for module in snn.modules() if module not in kept]
    return [(module, bias) for module, bias in found if isinstance(bias, nn.Parameter)]


@contextmanager
def without_input(snn: nn.Module) -> Iterator[None]:
    """Switch off the input and every bias but those of the read-outs, which count once.

    A forward that normalises its image turns a black image into a current, so the layers' inputs are switched
    off.
    """
    handles = [layer.register_forward_pre_hook(_read_nothing, prepend=True) for layer in _input_layers(snn)]
    with _other_biases(snn, lambda bias: None), _removing(handles):
        yield
