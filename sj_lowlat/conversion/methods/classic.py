"""The methods of the first years: rates of plain neurons, scales from statistics of activations."""

from __future__ import annotations

from typing import Any

from torch import nn

from sj_lowlat.conversion.build import Folded
from sj_lowlat.conversion.methods.method import Method
from sj_lowlat.graph.edit import replace_layer
from sj_lowlat.layers import RateGatedMaxPool, SameMaxPool


def drop_biases(folded: Folded) -> None:
    """Take away the biases of all layers but the heads, which do not fire."""
    for own in folded.plan.layers:
        layer: Any = folded.network.get_submodule(own.name)
        if not own.is_head and layer.bias is not None:
            layer.bias = None


def average_pools(folded: Folded) -> None:
    """Put an average pool for every max-pool; where one keeps the size by padding, nothing."""
    network = folded.network
    for name in folded.plan.pools:
        pool: Any = network.get_submodule(name)
        if isinstance(pool, SameMaxPool) or pool.stride == 1:
            replace_layer(network, name, nn.Identity())
        else:
            size = pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode
            replace_layer(network, name, nn.AvgPool2d(*size, count_include_pad=False))


CAO = Method(
    "cao",
    "Y. Cao, Y. Chen, D. Khosla, Spiking deep convolutional neural networks for energy-efficient object"
    " recognition, IJCV 113 (2015): no biases, average pools, hard reset",
    neuron="hard-reset",
    start=0.0,
    scale="max",
    edits=(drop_biases, average_pools),
)
DIEHL = Method(
    "diehl",
    "P. U. Diehl et al., Fast-classifying, high-accuracy spiking deep networks through weight and "
    "threshold balancing, IJCNN 2015: data-based normalisation by the maximum, hard reset",
    neuron="hard-reset",
    start=0.0,
    scale="max",
)
RUECKAUER = Method(
    "rueckauer",
    "B. Rueckauer et al., Conversion of continuous-valued deep networks to efficient event-driven "
    "networks for image classification, Front. Neurosci. 11:682 (2017): 99.9 % normalisation, soft "
    "reset, biases, gated max-pools",
    neuron="if",
    start=0.0,
    scale="99.9%",
    pool=RateGatedMaxPool,
)
SPIKING_YOLO = Method(
    "spiking-yolo",
    "S. Kim et al., Spiking-YOLO: spiking neural network for energy-efficient object detection, AAAI "
    "2020: channel-wise 99.9 % normalisation, signed neuron with imbalanced threshold for leaky ReLU",
    neuron="imbalanced",
    start=0.0,
    scale="99.9%",
    per_channel=True,
)
