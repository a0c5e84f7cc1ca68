"""Synaptic operations: what the spikes of a network cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from math import prod
from typing import Any

import torch
from spikingjelly.activation_based.monitor import BaseMonitor
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from sj_lowlat.errors import InputError
from sj_lowlat.kernels.active import is_silent
from sj_lowlat.layers import BranchSum, Clocked, LowLatencyIFNode
from sj_lowlat.monitors.fan_out import WeightedLayer, dense_macs, fan_out, weighted_layers
from sj_lowlat.monitors.presentation import as_steps
from sj_lowlat.record import table


@dataclass
class LayerOps:
    """Operations of one weighted layer, over all images that were watched.

    :param spikes: spikes that arrived, whatever their sign; a burst of n counts n
    :param synops: accumulates that they caused: each spike as often as it reaches an output
    :param macs: multiply-accumulates for analog input
    :param ann_macs: multiply-accumulates that the same layer costs in the ANN, per image
    """

    name: str
    spikes: int = 0
    synops: int = 0
    macs: int = 0
    ann_macs: int = 0


class SynOpMonitor(BaseMonitor):
    """Counts accumulates (ACs) for spikes and multiply-accumulates (MACs) for analog input, layer by layer.

    Integer-valued input is spikes: each costs one AC per output that it reaches, border effects included;
    negative spikes count, and a burst of n counts n. The image is analog: it costs MACs, once for as long as
    it stays the same during a presentation (a constant current needs one convolution). Graded spikes (of
    average pools, products, sums with factors) cost a MAC per output that one reaches, and count as one. A
    branch of spikes that joins the currents of neurons (:class:`~sj_lowlat.layers.BranchSum`) costs one AC a
    spike, with a factor one MAC. A
    :class:`~sj_lowlat.layers.RateReadout` costs the ACs of the spikes it collects. Biases, neurons and
    stateless activations are left out, as usual. ``ann_macs`` takes each layer to run once per image.

    SpikingJelly's ``SynOpCounter`` agrees wherever it sees spikes, which it does for values 0 and 1 only.
    The state is a few integers per layer, a map of the fan-out per input size, and the present analog input.

    :param net: a spiking network whose spikes are integers (scales folded into the weights)
    :raises InputError: if ``net`` has no spiking neuron, or weights whose operations cannot be counted
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.images = 0
        self._ops: dict[str, LayerOps] = {}
        self._maps: dict[tuple[str, tuple[int, ...]], Tensor] = {}
        self._analog: dict[str, Tensor] = {}
        self._at_start = False
        self._last_step = 0
        self._nodes = [module for module in net.modules() if isinstance(module, LowLatencyIFNode)]
        if not self._nodes:
            raise InputError(
                f"no spiking neuron in {type(net).__name__}; convert it first (for an ANN: count_macs)"
            )
        for name, watched, layer in weighted_layers(net):
            self.monitored_layers.append(name)
            self._ops[name] = LayerOps(name)
            self.hooks.append(watched.register_forward_pre_hook(partial(self._count, name, layer)))
        for name, module in net.named_modules():
            if isinstance(module, BranchSum) and not all(module.spikes):
                self.monitored_layers.append(name)
                self._ops[name] = LayerOps(name)
                self.hooks.append(module.register_forward_pre_hook(partial(self._count_sum, name)))
        self.hooks.append(self._nodes[0].register_forward_hook(self._count_images))

    def _count_images(self, node: LowLatencyIFNode, _inputs: Any, output: Tensor) -> None:
        if not self.is_enable():
            return
        spikes = as_steps(node, output)  # [T, N, *]
        first_step = node.steps - spikes.shape[0]
        if first_step == 0 or first_step != self._last_step:  # the node's step counter restarted: new images
            self.images += spikes.shape[1]
        self._last_step = node.steps
        self._at_start = False

    def _count(self, name: str, layer: WeightedLayer, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if not self.is_enable():
            return
        ops, x = self._ops[name], inputs[0].detach()
        if isinstance(module, Clocked):
            x = module.driven(x)
        dims = _sample_dims(layer, x, self._nodes[0])
        size = tuple(x.shape[1 - dims :]) if isinstance(layer, _ConvNd) else tuple(x.shape[-dims:-1])
        ops.ann_macs = dense_macs(layer, size)
        reads = isinstance(module, Clocked) and module.reads_input
        if not reads and is_silent(x):
            return
        image = reads and bool((x.abs() > 1).any())
        if torch.equal(x, x.round()) and not image:  # an image may have whole grey levels
            spikes, synops = self._spikes(name, layer, x, size)
            ops.spikes += spikes
            ops.synops += synops
            return
        if isinstance(module, Clocked) and not reads:
            events, products = self._spikes(name, layer, (x != 0).float(), size)
            ops.spikes += events
            ops.macs += products
            return
        x = _without_repeats(x, dims, self._nodes[0])
        if self._is_new(name, x):
            ops.macs += ops.ann_macs * prod(x.shape[:-dims])

    def _count_sum(self, name: str, module: BranchSum, branches: tuple[Tensor, ...]) -> None:
        if not self.is_enable():
            return
        ops = self._ops[name]
        for branch, spikes, shape in zip(branches, module.spikes, module.shapes, strict=True):
            if spikes and shape is None and torch.equal(branch, branch.round()):
                arrived = round(float(branch.abs().sum(dtype=torch.float64)))
                ops.spikes, ops.synops = ops.spikes + arrived, ops.synops + arrived
            elif spikes:
                arrived = int(branch.count_nonzero())
                ops.spikes, ops.macs = ops.spikes + arrived, ops.macs + arrived

    def _spikes(self, name: str, layer: WeightedLayer, x: Tensor, size: tuple[int, ...]) -> tuple[int, int]:
        """Spikes that arrive, and the accumulates that they cause."""
        if not isinstance(layer, _ConvNd):
            spikes = round(float(x.abs().sum(dtype=torch.float64)))
            return spikes, spikes * layer.out_features
        if (name, size) not in self._maps:
            self._maps[name, size] = fan_out(layer, size).double().to(x.device)
        # over the channels first, in float32, which is exact for them and fast
        per_position = x.abs().sum(-len(size) - 1, dtype=torch.float32)
        per_position = per_position.reshape(-1, *size).sum(0, dtype=torch.float64)
        return round(float(per_position.sum())), round(float((per_position * self._maps[name, size]).sum()))

    def _is_new(self, name: str, x: Tensor) -> bool:
        """Tell whether an analog input differs from the layer's last one of this presentation."""
        if not self._at_start and all(node.steps == 0 for node in self._nodes):
            self._at_start = True
            self._analog.clear()
        if name in self._analog and torch.equal(self._analog[name], x):
            return False
        self._analog[name] = x.clone()
        return True

    def layers(self) -> list[LayerOps]:
        """Return one record per weighted layer, in the order of the network; they keep counting."""
        return list(self._ops.values())

    def __getitem__(self, key: int | str) -> LayerOps:
        """Return the record of one layer, by its name or its place among the weighted layers.

        :raises InputError: if there is no such layer
        """
        name = self.monitored_layers[key] if isinstance(key, int) else key
        if name not in self._ops:
            raise InputError(f"no layer {name!r}: SynOpMonitor watches {', '.join(self.monitored_layers)}")
        return self._ops[name]

    @property
    def synops(self) -> int:
        """Accumulates of the whole network, over all images."""
        return sum(layer.synops for layer in self.layers())

    @property
    def macs(self) -> int:
        """Multiply-accumulates for analog input of the whole network, over all images."""
        return sum(layer.macs for layer in self.layers())

    @property
    def ann_macs(self) -> int:
        """Multiply-accumulates of the ANN with the same layers, per image."""
        return sum(layer.ann_macs for layer in self.layers())

    def clear_recorded_data(self) -> None:
        """Clear everything counted so far, and continue counting."""
        super().clear_recorded_data()
        self.images = self._last_step = 0
        self._analog.clear()
        self._ops = {name: LayerOps(name) for name in self._ops}

    def close(self) -> None:
        """Stop counting and remove the hooks; the counts stay readable."""
        super().close()
        self._analog.clear()

    def to_json(self) -> dict[str, Any]:
        """Return everything counted so far as plain numbers, lists and strings."""
        return {"images": self.images, "layers": [asdict(layer) for layer in self.layers()]}

    def add(self, counted: dict[str, Any]) -> None:
        """Add what a monitor of the same network counted (its :meth:`to_json`) to the counts."""
        self.images += counted["images"]
        for row in counted["layers"]:
            ops = self._ops[row["name"]]
            ops.spikes, ops.synops = ops.spikes + row["spikes"], ops.synops + row["synops"]
            ops.macs, ops.ann_macs = ops.macs + row["macs"], row["ann_macs"] or ops.ann_macs

    def table(self) -> str:
        """Return one aligned line per layer, all figures per image."""
        rows = []
        for layer in self.layers():
            counts = (layer.spikes, layer.synops, layer.macs)
            per_image = [f"{count / max(self.images, 1):,.0f}" for count in counts]
            rows.append([layer.name, *per_image, f"{layer.ann_macs:,}"])
        return table(["layer", "spikes/image", "ACs/image", "MACs/image", "MACs of the ANN"], rows)


def _sample_dims(layer: WeightedLayer, x: Tensor, node: LowLatencyIFNode) -> int:
    """Return how many trailing dimensions of ``x`` are one image, ``[C, *]`` or ``[*, F]``."""
    if isinstance(layer, _ConvNd):
        return len(layer.kernel_size) + 1
    leading = 2 if node.step_mode == "m" and node.clock.now.steps is None else 1
    return max(x.dim() - leading, 1)


def _without_repeats(x: Tensor, dims: int, node: LowLatencyIFNode) -> Tensor:
    """Take one step of an input that is the same in all of them, a constant current."""
    steps, now = x, node.clock.now
    if now.steps is not None and x.shape[0] == now.steps * now.batch:
        steps = x.unflatten(0, (now.steps, now.batch))
    # [T, N, *]
    return steps[0] if steps.dim() - dims == 2 and bool((steps == steps[:1]).all()) else x
