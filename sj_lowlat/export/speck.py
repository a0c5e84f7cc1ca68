"""The chip Speck: which layers of a network fit which core, and a network in its whole numbers."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from sj_lowlat.errors import ConversionError, InputError
from sj_lowlat.export.sinabs_chain import chain
from sj_lowlat.export.windows import sides_behind
from sj_lowlat.layers import LowLatencyIFNode, RateReadout
from sj_lowlat.network import SpikingNetwork, unwrapped
from sj_lowlat.record import table

#: memory of each core in Ki: weights, states (sinabs 3.1.3, docs/speck/overview.md)
CORES = (
    (16, 64), (16, 64), (16, 64), (32, 32), (32, 32), (64, 16), (64, 16), (16, 16), (16, 16),
)  # fmt: skip
_LARGEST_INPUT, _LARGEST_KERNEL, _MOST_CHANNELS, _STRIDES, _POOLS = 128, 16, 1024, (1, 2, 4, 8), (1, 2, 4)
_STATE = 2**15  # potentials are whole numbers of 16 bits


@dataclass(frozen=True)
class SpeckLayer:
    """What one convolution with its neurons takes of the chip.

    :param weights: words of weight memory: input channels times a power of two for the places of the kernel
        and one for the channels
    :param states: words of state memory: channels times powers of two for height and width
    :param core: which core holds it, an index into :data:`CORES`
    """

    layer: str
    weights: int
    states: int
    core: int


@dataclass(frozen=True)
class SpeckPlan:
    """Layers of a network on the cores, in order.

    :param host: layers before and behind the chip: those that read the images, and the head
    """

    layers: tuple[SpeckLayer, ...]
    host: tuple[str, ...]

    def table(self) -> str:
        """An aligned text table."""
        head = ("layer", "core", "weights, Ki", "of", "states, Ki", "of")
        rows = []
        for row in self.layers:
            most = CORES[row.core]
            used = f"{row.weights / 1024:g}", str(most[0]), f"{row.states / 1024:g}", str(most[1])
            rows.append((row.layer, str(row.core), *used))
        return table(head, rows, left=1)


def speck_plan(snn: nn.Module) -> SpeckPlan:
    r"""Lay a spiking network on the nine cores of Speck.

    A core holds one convolution with its neurons and a sum pool behind them. Layers that read the images, and
    their neurons, run on the host, which sends spikes; so does the head, which reads counts. A convolution of
    :math:`c_{in}` to :math:`c` channels with a kernel of :math:`k_y k_x` that gives maps of :math:`f_y f_x`
    takes

    .. math::
        weights = c_{in} \, 2^{\lceil \log_2 k_y k_x \rceil + \lceil \log_2 c \rceil}, \quad
        states = c \, 2^{\lceil \log_2 f_y \rceil + \lceil \log_2 f_x \rceil}

    words (sinabs 3.1.3, ``validate_memory_speck``, documentation of Speck).

    :param snn: a chain of convolutions, plain neurons and sum pools, see :func:`to_sinabs`
    :raises ConversionError: for a layer that no core can hold, or more layers than cores, by name
    :raises InputError: for a network that is not spiking, or does not know the shape of its images
    """
    snn = unwrapped(snn)
    if not isinstance(snn, SpikingNetwork) or snn.info.input_shape is None:
        raise InputError("give a spiking network (sj_lowlat.convert) that knows the shape of its images")
    shape: tuple[int, ...] = snn.info.input_shape
    host: list[str] = []
    needs: list[tuple[str, int, int]] = []
    readers = snn.input_layers
    on_host = True
    for node in chain(snn):
        layer: Any = snn.module_of(node)
        name = str(node.target)
        if isinstance(layer, RateReadout):
            host.append(name)
        elif isinstance(layer, LowLatencyIFNode):
            if layer.threshold.dim() and not on_host:
                raise _refusal(name, "a threshold per channel, and a core has one: convert per layer")
        elif isinstance(layer, nn.Conv2d):
            if isinstance(layer.padding, str):
                raise _refusal(name, f"padding {layer.padding!r}: give numbers")
            window = layer.kernel_size, layer.stride, layer.padding, layer.dilation
            before, shape = shape, (layer.out_channels, *sides_behind(shape, *window))
            on_host = name in readers
            if on_host:
                host.append(name)
            else:
                needs.append((name, *_memory(name, layer, before, shape)))
        elif type(layer) is nn.AvgPool2d and layer.divisor_override == 1 and not on_host:
            size, stride = _pair(layer.kernel_size), _pair(layer.stride)
            if size != stride or size[0] != size[1] or size[0] not in _POOLS or layer.padding:
                raise _refusal(name, f"a pool of {size} with stride {stride}: 2 or 4, its stride the same")
            shape = (shape[0], *sides_behind(shape, size, stride))
        elif not isinstance(layer, nn.Identity):
            raise _refusal(name, type(layer).__name__)
    cores = _assign(needs)
    layers = tuple(SpeckLayer(*need, core) for need, core in zip(needs, cores, strict=True))
    return SpeckPlan(layers, tuple(host))


def _memory(name: str, layer: nn.Conv2d, before: Sequence[int], after: Sequence[int]) -> tuple[int, int]:
    size, stride = layer.kernel_size, layer.stride
    if max(before[1:]) > _LARGEST_INPUT:
        raise _refusal(name, f"its input has {before[1]} x {before[2]} places, at most 128 x 128 are read")
    if layer.groups != 1 or layer.dilation != (1, 1) or layer.padding_mode != "zeros":
        raise _refusal(name, "groups, dilation or another padding than zeros")
    if size[0] != size[1]:
        raise _refusal(name, f"its kernel is {size}, and must be square")
    if max(size) > _LARGEST_KERNEL or after[0] > _MOST_CHANNELS or set(stride) - set(_STRIDES):
        raise _refusal(name, f"kernel {size}, stride {stride}, {after[0]} channels: 16, 1 2 4 or 8, and 1024")
    places, channels, *sides = (
        math.ceil(math.log2(n)) for n in (size[0] * size[1], after[0], after[1], after[2])
    )
    return before[0] * 2 ** (places + channels), after[0] * 2 ** sum(sides)


def _assign(needs: Sequence[tuple[str, int, int]]) -> list[int]:
    """A core for each layer: augmenting paths, as layers may have to make room."""
    taken: dict[int, int] = {}  # core -> layer

    def place(number: int, seen: set[int]) -> bool:
        _, weights, states = needs[number]
        for core, (most_weights, most_states) in enumerate(CORES):
            if core in seen or weights > 1024 * most_weights or states > 1024 * most_states:
                continue
            seen.add(core)
            if core not in taken or place(taken[core], seen):
                taken[core] = number
                return True
        return False

    for number, (name, weights, states) in enumerate(needs):
        if not place(number, set()):
            raise _refusal(name, f"no core is left for {weights} words of weights and {states} of states")
    of_layer = {number: core for core, number in taken.items()}
    return [of_layer[number] for number in range(len(needs))]


def speck_network(snn: nn.Module) -> SpikingNetwork:
    r"""A copy of a spiking network with the whole numbers of the chip; its simulation is exact in float32.

    On a core weights and biases become :math:`\mathrm{round}(w / s)`, of 8 bits, with one
    :math:`s = \max(|w|, |b|) / 127`, and the threshold :math:`2 \, \mathrm{round}(V_{th} / 2s)`, of 16 bits
    and even, so that V(0) of half a threshold is whole. Layers on the host stay as they are.

    :param snn: as for :func:`speck_plan`, in fp32
    :raises ConversionError: as :func:`speck_plan`, or for a threshold of more than 15 bits
    :raises InputError: for a network that is rounded already
    """
    plan = speck_plan(snn)
    new = copy.deepcopy(unwrapped(snn))
    assert isinstance(new, SpikingNetwork)
    if new.info.precision != "fp32":
        raise InputError(f"the network's weights are {new.info.precision}: give one in fp32")
    neurons = {str(node.target): str(next(iter(node.users)).target) for node in chain(new)}
    for row in plan.layers:
        conv, neuron = (new.get_submodule(name) for name in (row.layer, neurons[row.layer]))
        if not isinstance(conv, nn.Conv2d) or not isinstance(neuron, LowLatencyIFNode):
            raise _refusal(row.layer, "its currents do not go into neurons")
        values = [value.detach().double() for value in (conv.weight, conv.bias) if value is not None]
        scale = max(value.abs().max() for value in values).clamp(min=1e-12) / 127
        threshold = 2 * (neuron.threshold.double() / (2 * scale)).round().clamp(min=1)
        if float(threshold) >= _STATE:
            raise _refusal(row.layer, f"its threshold is {float(threshold):.0f}, in 16 bits below {_STATE}")
        for value in (conv.weight, conv.bias):
            if value is not None:
                value.data.copy_((value.detach().double() / scale).round())
        neuron.v_threshold = threshold.float()
    return new


def _refusal(name: str, why: str) -> ConversionError:
    return ConversionError(
        f"layer {name!r} does not fit a core of Speck: {why}; a core holds a convolution, plain neurons of "
        "one threshold and a sum pool"
    )


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
