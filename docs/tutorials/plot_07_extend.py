r"""
Add an operation, an activation, a method
=========================================

``prepare`` and ``convert`` look up in one table which operations spikes can pass, and in another which
neurons replace which activation. Both can be extended in a few lines. Whatever you add, one check tells
whether it is right: after a long flush the spiking network of signed neurons equals its quantised network,
exactly.
"""

import torch
from torch import nn

import sj_lowlat
from sj_lowlat.conversion import NEURONS, register_activation
from sj_lowlat.graph import Operation, register_operation
from sj_lowlat.layers import SignedIFNode

torch.manual_seed(0)
images = torch.rand(4, 3, 16, 16, dtype=torch.float64)


def settled_error(network: nn.Module, **options: str) -> float:
    """Largest difference between the settled spiking network and its quantised network."""
    quant = sj_lowlat.prepare(network.double().eval(), levels=8, calibration=images).eval()
    snn = sj_lowlat.convert(quant, **options)
    out = sj_lowlat.simulate(snn, images, 8, flush=60).final
    with torch.no_grad():
        return float((out - quant(images)).abs().max())


# %%
# An operation
# ------------
#
# An operation may stand between spiking layers if it *carries* spikes: it is linear (its output for a sum of
# inputs is the sum of its outputs), and each of its output channels comes from channels of one scale. Average
# pools, concatenations and paddings do. Here is one that the package does not know, a shift by one pixel:


class Shift(nn.Module):
    """Moves the picture by one pixel to the right."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.pad(x[..., :-1], (1, 0))


def network(between: nn.Module, activation: type[nn.Module] = nn.ReLU) -> nn.Module:
    """Two layers that fire, something between them, and a head."""
    first = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), activation()]
    second = [nn.Conv2d(8, 8, 3, padding=1), activation()]
    return nn.Sequential(*first, between, *second, nn.Conv2d(8, 2, 1))


# %%
# The capture looks into modules of your own. This one consists of a slice and a padding, which are in the
# table, so nothing needs to be registered. A product is not in the table:

print(f"shift: settled to within {settled_error(network(Shift())):.1e}")


class Halve(nn.Module):
    """Every value times a half."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 0.5 * x


try:
    settled_error(network(Halve()))
except sj_lowlat.ConversionError as error:
    print(f"refused: {error}")

# %%
# Halving is linear and keeps one scale per channel: the operation carries, and one line says so. The module
# then stands in the graph as one node.

register_operation(Halve, Operation(carries=True))
print(f"halve: settled to within {settled_error(network(Halve())):.1e}")

# %%
# An operation that does not carry can be registered too, with the remedy that the error will name. Operations
# that are no modules are registered by the name of their ATen function.

remedy = "spikes have no running sum: use a convolution"
register_operation("cumsum", Operation(carries=False, remedy=remedy))

# %%
# An activation
# -------------
#
# A module that equals a ReLU on the quantised range can be registered under its own type:


class Ramp(nn.Module):
    """max(x, 0), written by hand."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.where(x > 0, x, torch.zeros_like(x))


register_activation(Ramp)
print(f"ramp: settled to within {settled_error(network(nn.Identity(), Ramp)):.1e}")

# %%
# A method
# --------
#
# What the literature calls a conversion method is a choice of scales and a firing rule. ``NEURONS`` maps the
# name that ``convert(neuron=...)`` takes to a function of the activation and of V(0) in thresholds, which
# returns the neuron. For instance, a signed neuron that may always fire twice a step:

NEURONS["signed-twice"] = lambda activation, ratio: SignedIFNode(ratio=ratio, burst=2)
error = settled_error(network(nn.Identity()), neuron="signed-twice")
print(f"signed neurons of two spikes a step: settled to within {error:.1e}")

# %%
# A firing rule that no neuron of the package has is a :class:`~sj_lowlat.kernels.FireRule` with other
# numbers, or with a new target function: its docstring names the two source files that then get one line
# each.
