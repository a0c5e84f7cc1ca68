"""Records of a conversion's plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass
class Sum:
    """A sum of branches.

    :param spikes: for each branch whether it carries spikes; else a current
    :param activation: the activation that reads the currents, ``None`` for a sum of spikes
    """

    spikes: tuple[bool, ...]
    activation: str | None = None


@dataclass(frozen=True)
class LayerPlan:
    """One weighted layer and what follows it.

    :param name: the convolution, transposed convolution or linear layer
    :param batch_norm: the batch normalisation that reads it, or ``None``
    :param activation: the activation that reads it, or ``None`` for a layer that does not fire
    :param is_head: whether its output leaves the network without passing another layer
    :param reads_input: whether it reads the image itself and not spikes
    """

    name: str
    batch_norm: str | None
    activation: str | None
    is_head: bool
    reads_input: bool


class Plan(NamedTuple):
    """Plan of a conversion.

    :param layers: the weighted layers in the order of their calls
    :param activations: names of the activations that become neurons
    :param refused: one sentence for each part without a spiking form: which, why, and the remedy
    :param pools: names of the max-pools that count spikes
    :param sums: name of a node that adds branches -> what it adds
    :param products: names of the nodes that multiply two branches of spikes
    """

    layers: list[LayerPlan]
    activations: list[str]
    refused: list[str]
    pools: list[str]
    sums: dict[str, Sum]
    products: list[str]
