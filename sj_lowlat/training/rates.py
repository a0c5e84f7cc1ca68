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

    The network is converted as it is now and runs the batch. A neuron of layer l sends :math:`n_l` spikes,
    less those of minus sign, and its activation gives

    .. math:: q_l = n_l \, \lambda_l / L_l

    instead of its own rounding (:class:`~sj_lowlat.layers.QuantReLU`; times L over the schedule's charge,
    where that differs). So layers, losses and heads see what too few steps leave uneven. Gradients are the
    straight-through ones of the Quant ANN at the mean currents: one backward pass for any number of steps.
    This is rate-based backpropagation (C. Yu et al., "Advancing training efficiency of deep spiking neural
    networks through rate-based backpropagation", NeurIPS 2024) for converted networks.

    :param model: a Quant ANN; its batch norms have to keep their statistics, which the conversion folds
    :param schedule: of the spiking network
    :param neuron: its neurons, see :func:`~sj_lowlat.conversion.convert`
    :param precision: of its inner weights, see :func:`~sj_lowlat.conversion.set_precision`
    :raises InputError: if the model is no Quant ANN, the schedule has pre-steps, or the neuron is unknown
    :raises ConversionError: if the model has no form of such neurons
    """

    def __init__(
        self, model: nn.Module, schedule: Schedule, neuron: str = "signed", precision: str = "fp32"
    ) -> None:
        self.model, self.schedule = unwrapped(model), schedule
        self.neuron, self.precision = neuron, precision
        levels = info_of(self.model).levels
        if levels is None:
            raise InputError(f"schedule {schedule} is for a Quant ANN: call prepare first, or leave it out")
        if schedule.pre:
            raise InputError(
                f"schedule {schedule} has pre-steps, which nothing is trained through: leave them out"
            )
        convert(self.model, neuron=neuron)  # refuses at once what it cannot convert
        self.per_spike = levels / (schedule.charge or levels)

    @contextmanager
    def standing_in(self, images: Tensor) -> Iterator[None]:
        """Context manager: forwards of the model on ``images`` are those of the spiking network."""
        sent = self._run(images.to(next(self.model.parameters()).dtype))
        with ExitStack() as hooks:
            for name, count in sent.items():
                activation = self.model.get_submodule(name)
                hooks.enter_context(activation.register_forward_hook(partial(self._stand_in, count)))
            yield

    @torch.no_grad()
    def _run(self, images: Tensor) -> dict[str, Tensor]:
        """Spikes of every neuron, less those of minus sign, ``[N, C, *]``."""
        snn = convert(self.model, neuron=self.neuron)
        snn = snn if self.precision == "fp32" else set_precision(snn, self.precision)
        sent: dict[str, Tensor] = {}

        def count(name: str, _node: LowLatencyIFNode, _args: object, out: Tensor) -> None:
            new = out.unflatten(0, (-1, len(images))).sum(0, dtype=images.dtype)
            sent[name] = sent[name] + new if name in sent else new

        for name, node in snn.named_modules():
            if isinstance(node, LowLatencyIFNode):
                node.register_forward_hook(partial(count, name))
        simulate(snn, images, self.schedule)
        return sent

    def _stand_in(self, sent: Tensor, layer: QuantReLU, _args: object, out: Tensor) -> Tensor:
        clip = layer.clip.detach()
        unit = (clip if clip.dim() == 0 else clip.view(-1, *[1] * (out.dim() - 2))) / layer.levels
        rates = (sent * unit * self.per_spike).to(out.dtype)
        return out + (rates - out).detach()
