"""Spiking networks as ``torch.nn.Sequential`` of sinabs' neurons."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from sj_lowlat.errors import ConversionError, InputError
from sj_lowlat.layers import LowLatencyIFNode, RateReadout, ResidualFixIFNode
from sj_lowlat.layers.int8_conv import Int8Conv2d
from sj_lowlat.network import SpikingNetwork, schedule_for, unwrapped
from sj_lowlat.schedule import Schedule


def to_sinabs(snn: nn.Module, schedule: Schedule | str | None = None, batch_size: int = 1) -> nn.Sequential:
    """A spiking network whose layers form a chain, as layers of torch and ``sinabs.layers.IAFSqueeze``.

    It fires the same spikes: :func:`run_sinabs` runs it. Neurons (``v_mem``) are at V(0); sinabs' own
    ``reset_states`` sets them to 0. Their ``spike_fn`` is ``SingleSpike``, with bursts ``MaxSpike``.
    Heads are their convolution or linear layer, whose mean over the steps is the head's map.

    :param snn: from :func:`~sj_lowlat.conversion.convert` with ``neuron`` ``"residual-fix"`` or ``"if"``
    :param schedule: by default the network's own; without flush and pre-steps, its charge the steps, such as
        ``"16+0b4c16"``
    :param batch_size: images of one run, at first
    :return: the layers; names of layers have ``_`` for dots
    :raises ConversionError: for a layer that has no equal in sinabs or a network that branches, by name
    :raises InputError: for a network or a schedule that cannot be written, or without the package sinabs
    """
    sinabs, snn = library(), unwrapped(snn)
    if not isinstance(snn, SpikingNetwork):
        raise InputError("sinabs is for spiking networks: call sj_lowlat.convert first")
    plan = schedule_for(snn, schedule)
    if plan.flush or plan.pre or plan.gain != 1:
        raise InputError(
            f"the schedule is {plan}, and sinabs runs with constant input and biases: give one without flush "
            f"and pre-steps whose charge is its steps, such as {plan.charge}+0c{plan.charge}"
        )
    found, axes = nn.Sequential(), len(snn.info.input_shape or (3, 0, 0))
    for node in chain(snn):
        layer: Any = snn.module_of(node)
        name = str(node.target)
        axes = 1 if isinstance(layer, (nn.Flatten, nn.Linear)) else axes
        if isinstance(layer, LowLatencyIFNode):
            made = _neuron(sinabs, name, layer, plan.burst, axes)
        elif isinstance(layer, RateReadout):
            made = _copy(name, layer.layer)
        elif type(layer) is nn.AvgPool2d and layer.divisor_override == 1 and not layer.padding:
            made = sinabs.layers.SumPool2d(layer.kernel_size, layer.stride, layer.ceil_mode)
        else:
            made = _copy(name, layer)
        found.add_module(name.replace(".", "_"), made)
    found.to(memory_format=torch.channels_last)  # as SpikingNetwork does: sums have the same order
    _restart(sinabs, found, batch_size)
    if snn.info.input_shape is not None:  # so that a chip gets V(0) as well
        with torch.no_grad():
            found(torch.zeros(batch_size, *snn.info.input_shape))  # gives the states their shapes
        for layer in found:
            if isinstance(layer, sinabs.layers.IAFSqueeze):
                layer.v_mem = layer.start.expand(layer.v_mem.shape).clone()
    return found.eval()


def run_sinabs(network: nn.Sequential, images: Tensor, time_steps: int) -> Tensor:
    """Run what :func:`to_sinabs` returned from V(0), with the image as input of every step.

    :param images: ``[N, C, H, W]``, any N
    :return: the head's map, ``[N, *]``
    """
    _restart(library(), network, len(images))
    frames = images.repeat_interleave(time_steps, 0)  # [N * T, *], the steps of an image together
    if frames.dim() == 4:
        frames = frames.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        out = network(frames)
    return out.unflatten(0, (len(images), time_steps)).mean(1)


def library() -> Any:
    """The package sinabs.

    :raises InputError: if it is not installed
    """
    try:
        import sinabs
        import sinabs.layers
    except ImportError as error:
        raise InputError(
            "sinabs is needed: pip install 'sj-lowlat[sinabs]', or beside the extra nir "
            f"pip install --no-deps sinabs nirtorch pbr ({error})"
        ) from error
    return sinabs


def chain(snn: SpikingNetwork) -> list[fx.Node]:
    """The nodes between images and head, if each reads the one before and nothing else does.

    :raises ConversionError: naming the first that does not
    """
    nodes = list(snn.graph.nodes)
    for before, node in zip(nodes, nodes[1:], strict=False):
        reads = list(node.all_input_nodes)
        call = node.op == "call_module" or (node.op == "output" and isinstance(node.args[0], fx.Node))
        if reads != [before] or len(before.users) != 1 or not call:
            raise refusal(str(node.target), "the network branches here, or calls a function")
    return nodes[1:-1]


def refusal(name: str, why: str) -> ConversionError:
    """The error for a layer that has no equal."""
    return ConversionError(
        f"layer {name!r} cannot be a layer of sinabs: {why}; a chain of convolutions, linear layers, average "
        "and sum pools, flattening and plain neurons (neuron='residual-fix' or 'if') with one head can"
    )


def _copy(name: str, layer: Any) -> nn.Module:
    made: nn.Module
    if isinstance(layer, Int8Conv2d):
        raise refusal(name, "its weights are rounded: give the network in fp32")
    bias = getattr(layer, "bias", None) is not None
    if isinstance(layer, nn.Conv2d):
        windows = layer.stride, layer.padding, layer.dilation, layer.groups, bias, layer.padding_mode
        made = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, *windows)  # type: ignore[arg-type]
    elif isinstance(layer, nn.Linear):
        made = nn.Linear(layer.in_features, layer.out_features, bias)
    elif type(layer) is nn.AvgPool2d:
        made = nn.AvgPool2d(
            layer.kernel_size, layer.stride, layer.padding, layer.ceil_mode, layer.count_include_pad,
            layer.divisor_override,
        )  # fmt: skip
    elif type(layer) in (nn.Flatten, nn.Identity):
        made = nn.Flatten(layer.start_dim, layer.end_dim) if isinstance(layer, nn.Flatten) else nn.Identity()
    else:
        raise refusal(name, type(layer).__name__)
    made.load_state_dict({key: value.cpu() for key, value in layer.state_dict().items()})
    return made


def _neuron(sinabs: Any, name: str, node: LowLatencyIFNode, burst: int, axes: int) -> nn.Module:
    plain = type(node) in (LowLatencyIFNode, ResidualFixIFNode) and not node.counts and not node.slope
    if not plain or node.powers:
        raise refusal(name, f"{type(node).__name__} sends negative spikes, counts, or is reset to 0")
    most = node.burst * burst
    activation = sinabs.activation
    fires = activation.SingleSpike if most == 1 else activation.MaxSpike(most)
    threshold, start = (
        value.detach().cpu().reshape(-1, *[1] * (axes - 1)) if value.dim() else value.detach().cpu()
        for value in (node.threshold, node.v_initial)
    )
    made: nn.Module = sinabs.layers.IAFSqueeze(
        spike_threshold=threshold, spike_fn=fires, reset_fn=activation.MembraneSubtract(), batch_size=1
    )
    made.start = start
    made.register_forward_pre_hook(_start)
    return made


def _start(layer: Any, inputs: tuple[Tensor, ...]) -> None:
    """Before a forward: V(0), if it is the first of a run."""
    shape = (layer.batch_size, *inputs[0].shape[1:])
    if layer.v_mem.shape != shape:
        layer.v_mem = layer.start.expand(shape).clone()


def _restart(sinabs: Any, network: nn.Sequential, batch_size: int) -> None:
    for layer in network:
        if isinstance(layer, sinabs.layers.IAFSqueeze):
            layer.batch_size, layer.v_mem = batch_size, torch.zeros(0)
