"""Which activation becomes which neuron."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import nn

from sj_lowlat.errors import ConversionError, InputError
from sj_lowlat.graph.operations import LEAF_TYPES
from sj_lowlat.layers import (
    COSIFNode,
    DifferentialIFNode,
    HardResetIFNode,
    ImbalancedIFNode,
    LowLatencyIFNode,
    MultiThresholdIFNode,
    PointwiseIFNode,
    QuantPointwise,
    QuantReLU,
    RateNorm,
    ResidualFixIFNode,
    SignedIFNode,
    SRPIFNode,
    Symmetric,
)

NeuronFactory = Callable[[nn.Module, float], LowLatencyIFNode]


#: activation types that signed neurons can replace, whatever their function
POINTWISE: set[type[nn.Module]] = {
    nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.Hardtanh, nn.Mish, nn.GELU, nn.ELU,
    nn.CELU, nn.SELU, nn.Softplus, nn.PReLU,
}  # fmt: skip


def is_pointwise(activation: nn.Module) -> bool:
    """Whether it is quantised as it is; a ReLU6, which torch derives from Hardtanh, has own neurons."""
    return isinstance(activation, tuple(POINTWISE)) and not isinstance(activation, tuple(ACTIVATIONS))


def negative_slope(activation: nn.Module) -> float:
    """Slope below zero: of a leaky ReLU, quantised or not; 0 of a ReLU, 1 of other functions."""
    if isinstance(activation, (Symmetric, QuantPointwise)) or is_pointwise(activation):
        return 1.0
    if isinstance(activation, nn.LeakyReLU):
        return float(activation.negative_slope)
    return float(getattr(activation, "slope", 0.0))


def _signed(activation: nn.Module, ratio: float) -> LowLatencyIFNode:
    if isinstance(activation, QuantPointwise):
        return PointwiseIFNode(activation.fn, levels=activation.levels)
    if is_pointwise(activation):
        return PointwiseIFNode(activation)
    return SignedIFNode(ratio=ratio, slope=negative_slope(activation))


def _imbalanced(activation: nn.Module, ratio: float) -> LowLatencyIFNode:
    slope = negative_slope(activation)
    return ImbalancedIFNode(ratio=ratio, slope=slope) if slope else ResidualFixIFNode(ratio=ratio)


#: name of a kind of neuron -> factory of (activation module, V(0) / V_th)
NEURONS: dict[str, NeuronFactory] = {
    "signed": _signed,
    "residual-fix": lambda activation, ratio: ResidualFixIFNode(ratio=ratio),
    "if": lambda activation, ratio: ResidualFixIFNode(ratio=0.0),
    "imbalanced": _imbalanced,
    "multi-threshold": lambda activation, ratio: MultiThresholdIFNode(ratio=ratio),
    "differential": lambda activation, ratio: DifferentialIFNode(ratio=ratio),
    "hard-reset": lambda activation, ratio: HardResetIFNode(),
    "srp": lambda activation, ratio: SRPIFNode(ratio=ratio),
    "cos": lambda activation, ratio: COSIFNode(ratio=ratio),
}

#: kinds of neurons with negative spikes, which a leaky ReLU needs
LEAKY = ("signed", "imbalanced")

#: activation types that any kind of neuron can replace, unless they have a negative slope
ACTIVATIONS: set[type[nn.Module]] = {nn.ReLU, nn.ReLU6, QuantReLU, RateNorm}


def register_activation(kind: type[nn.Module], *, pointwise: bool = False) -> None:
    """Let ``convert`` turn modules of this type into neurons.

    :param kind: the module type. On [0, clip] it must equal a ReLU or quantised ReLU; a trained clip is read
        from its attribute ``clip``, if it has one
    :param pointwise: it may be any function instead, which is computed element by element and keeps no state;
        ``prepare`` quantises it (:class:`~sj_lowlat.layers.QuantPointwise`), and signed neurons replace it
    """
    (POINTWISE if pointwise else ACTIVATIONS).add(kind)
    LEAF_TYPES.add(kind)


def activation_types(neuron: str) -> set[type[nn.Module]]:
    """The module types that become neurons of a kind.

    :param neuron: key of ``NEURONS``
    :raises InputError: for an unknown kind
    """
    if neuron not in NEURONS:
        raise InputError(f"neuron is {neuron!r}, it must be one of {', '.join(NEURONS)}")
    more = {nn.LeakyReLU, Symmetric} if neuron in LEAKY else set()
    return ACTIVATIONS | more | (POINTWISE | {QuantPointwise} if neuron == "signed" else set())


def refuse_leaky(model: nn.Module, names: Iterable[str], neuron: str) -> None:
    """Refuse quantised leaky ReLUs for neurons without negative spikes.

    :param names: of the activations
    :raises ConversionError: naming the first of them
    """
    leaky = [name for name in names if negative_slope(model.get_submodule(name))]
    if leaky and neuron not in LEAKY:
        raise ConversionError(
            f"activation '{leaky[0]}' ({len(leaky)} in all) goes below 0, and neuron='{neuron}' has no "
            f"negative spikes: take {' or '.join(map(repr, LEAKY))}, or call replace_layers before prepare"
        )
