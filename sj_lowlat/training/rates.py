"""Training through the spiking network: what it sends stands for what the Quant ANN rounds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from sj_lowlat.conversion import convert, set_precision
from sj_lowlat.errors import InputError
from sj_lowlat.layers import LowLatencyIFNode, QuantReLU
from sj_lowlat.network import info_of, unwrapped
from sj_lowlat.schedule import Schedule
from sj_lowlat.simulation import simulate


class SpikingRates:
    r"""Makes a forward of a Quant ANN compute what its spiking network does at the end of a schedule.

    The network is converted as it is now, with signed neurons, and runs the batch. Its neurons of layer l end
    with net counts :math:`n_l`, and each activation gives

    .. math:: q_l = n_l \, \lambda_l / L_l

    instead of its own rounding (:class:`~sj_lowlat.layers.QuantReLU`; times L over the schedule's charge,
    where that differs). So layers, losses and heads see what too few steps leave uneven. Gradients are the
    straight-through ones of the Quant ANN at the mean currents: one backward pass for any number of steps.
    This is rate-based backpropagation (C. Yu et al., "Advancing training efficiency of deep spiking neural
    networks through rate-based backpropagation", NeurIPS 2024) for converted networks.

    :param model: a Quant ANN; its batch norms have to keep their statistics, which the conversion folds
    :param schedule: of the spiking network
    :param precision: of its inner weights, see :func:`~sj_lowlat.conversion.set_precision`
    :raises InputError: if the model is no Quant ANN, or the spiking network has other neurons than it has
        activations
    """

    def __init__(self, model: nn.Module, schedule: Schedule, precision: str = "fp32") -> None:
        self.model, self.schedule, self.precision = unwrapped(model), schedule, precision
        levels = info_of(self.model).levels
        if levels is None:
            raise InputError(f"schedule {schedule} is for a Quant ANN: call prepare first, or leave it out")
        self.per_count = levels / (schedule.charge or levels)
        neurons = {name for name, module in convert(self.model).named_modules() if _is_neuron(module)}
        if neurons != set(self._activations()):
            other = ", ".join(sorted(neurons ^ set(self._activations())))
            raise InputError(
                f"training through the spiking network needs a neuron for each activation, but {other} has "
                "no counterpart: leave the schedule out"
            )

    def _activations(self) -> dict[str, QuantReLU]:
        return {name: m for name, m in self.model.named_modules() if isinstance(m, QuantReLU)}

    @contextmanager
    def standing_in(self, images: Tensor) -> Iterator[None]:
        """Context manager: forwards of the model on ``images`` are those of the spiking network."""
        with torch.no_grad():
            snn = convert(self.model)
            snn = snn if self.precision == "fp32" else set_precision(snn, self.precision)
            simulate(snn, images.to(next(self.model.parameters()).dtype), self.schedule)
        nodes = {name: module for name, module in snn.named_modules() if _is_neuron(module)}
        with ExitStack() as hooks:
            for name, activation in self._activations().items():
                rates = partial(self._rates, nodes[name])
                hooks.enter_context(activation.register_forward_hook(rates))
            yield

    def _rates(self, node: nn.Module, layer: QuantReLU, _args: object, out: Tensor) -> Tensor:
        clip = layer.clip.detach()
        unit = (clip if clip.dim() == 0 else clip.view(-1, *[1] * (out.dim() - 2))) / layer.levels
        assert isinstance(node.count, Tensor)
        sent = (node.count * unit * self.per_count).to(out.dtype)
        return out + (sent - out).detach()


def _is_neuron(module: nn.Module) -> bool:
    return isinstance(module, LowLatencyIFNode)
