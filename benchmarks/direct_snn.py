"""A detector that is trained as a spiking network, and not converted from a trained one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spikingjelly.activation_based import functional, surrogate
from torch import Tensor, nn

from sj_lowlat.conversion import convert
from sj_lowlat.layers import LowLatencyIFNode, Pass, QuantReLU, RateReadout
from sj_lowlat.layers.clock import share_clock
from sj_lowlat.models import snn_tiny_yolov3
from sj_lowlat.network import SpikingNetwork, WithInfo

REST = 0.5
"""Mean and standard deviation of the currents of the first layers, in thresholds: their neurons fire in half
of the steps on average, so that spikes and their absence say as much."""


class DirectSNN(WithInfo, nn.Module):
    """``snn_tiny_yolov3`` with plain IF neurons of threshold 1 in place of its ReLUs, and its batch norms.

    The image is a constant current, and the heads read the mean of the spikes over all steps. Batch norms see
    the currents of all steps as one batch.

    :param options: of ``snn_tiny_yolov3``
    :param frozen: how many of the first layers are left as they are
    :param time_steps: T of a pass; can be changed
    """

    def __init__(self, options: Mapping[str, Any], frozen: int, time_steps: int) -> None:
        super().__init__()
        self.options, self.frozen, self.time_steps = dict(options), frozen, time_steps
        self.network = snn_tiny_yolov3(**options)
        self.info = self.network.info
        for block in self.network.layers.values():
            if hasattr(block, "act"):
                block.act = LowLatencyIFNode(
                    ratio=0.0, surrogate_function=surrogate.ATan(), detach_reset=True, step_mode="m"
                )
            else:
                block.conv = RateReadout(block.conv)
        self.clock = share_clock(self.network)
        for block in self.first_blocks():
            block.requires_grad_(False)
            for value in block.bn.parameters():
                value.fill_(REST)

    def first_blocks(self) -> list[Any]:
        """The layers that do not learn by gradients."""
        return [self.network.layers[str(number)] for number in range(self.frozen)]

    def train(self, mode: bool = True) -> DirectSNN:
        """As torch's; the first layers keep the statistics that they have."""
        super().train(mode)
        for block in self.first_blocks():
            block.eval()
        return self

    def forward(self, images: Tensor, layers: int | None = None) -> Any:
        """Head maps of images ``[N, 3, H, W]`` after T steps.

        :param layers: the spikes ``[T, N, C, H', W']`` behind so many layers instead; 0 is not possible
        """
        steps, batch = self.time_steps, len(images)
        now = Pass(steps=steps, batch=batch, readout=(steps,), input_steps=steps)
        functional.reset_net(self.network)
        with self.clock.during(now):
            if layers is None:
                out = self.network(images)
            else:
                out = images
                for block in self.first_blocks()[:layers]:
                    out = block(out)
                out = out.unflatten(0, (steps, batch))
        functional.reset_net(self.network)  # potentials hold the whole graph of the pass
        return out

    def spiking(self) -> SpikingNetwork:
        """The same network without batch norms, for ``simulate`` and ``evaluate``."""
        plain = snn_tiny_yolov3(**self.options)
        state = self.network.state_dict()
        names = {name.replace(".conv.layer.", ".conv."): name for name in state}
        plain.load_state_dict({name: state[names[name]] for name in plain.state_dict()})
        for block in plain.layers.values():
            if hasattr(block, "act"):
                block.act = QuantReLU(self.time_steps, 1.0)  # its clip becomes a threshold of 1
        return convert(plain.to(next(self.parameters())), neuron="if")
