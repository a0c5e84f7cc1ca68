"""Which activation becomes which neuron."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from sj_lowlat.convert.trace import LEAF_TYPES
from sj_lowlat.errors import InputError
from sj_lowlat.layers import ImbalancedIFNode, LowLatencyIFNode, QuantReLU, ResidualFixIFNode, SignedIFNode

NeuronFactory = Callable[[nn.Module, float], LowLatencyIFNode]

#: name of a kind of neuron -> factory of (activation module, V(0) / V_th)
NEURONS: dict[str, NeuronFactory] = {
    "signed": lambda activation, ratio: SignedIFNode(ratio=ratio),
    "residual-fix": lambda activation, ratio: ResidualFixIFNode(ratio=ratio),
    "if": lambda activation, ratio: ResidualFixIFNode(ratio=0.0),
    "imbalanced": lambda activation, ratio: (
        ImbalancedIFNode(ratio=ratio, slope=activation.negative_slope)
        if isinstance(activation, nn.LeakyReLU)
        else ResidualFixIFNode(ratio=ratio)
    ),
}

#: activation types that any kind of neuron can stand for; leaky ReLU needs "imbalanced"
ACTIVATIONS: set[type[nn.Module]] = {nn.ReLU, QuantReLU}


def register_activation(kind: type[nn.Module]) -> None:
    """Let ``convert`` turn modules of this type into neurons; on [0, clip] it must equal a ReLU or quantised
    ReLU.

    A trained clip is read from its attribute ``clip``, if it has one.

    :param kind: the module type
    """
    ACTIVATIONS.add(kind)
    LEAF_TYPES.add(kind)


def activation_types(neuron: str) -> set[type[nn.Module]]:
    """The module types that become neurons of a kind.

    :param neuron: key of ``NEURONS``
    :raises InputError: for an unknown kind
    """
    if neuron not in NEURONS:
        raise InputError(f"neuron is {neuron!r}, it must be one of {', '.join(NEURONS)}")
    return ACTIVATIONS | ({nn.LeakyReLU} if neuron == "imbalanced" else set())
