"""A penalty on the spikes that a quantised network will send, each weighted by what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.conv import _ConvNd

from sj_lowlat import distributed
from sj_lowlat.errors import InputError
from sj_lowlat.layers import QuantReLU
from sj_lowlat.monitors.fan_out import dense_macs
from sj_lowlat.network import GraphNetwork, unwrapped
from sj_lowlat.record import evaluating


class SpikePenalty:
    r"""Estimates, in a forward of a Quant ANN, the synaptic operations of its settled spiking network.

    A neuron of layer l settles to :math:`n = q L / \lambda` spikes (:class:`~sj_lowlat.layers.QuantReLU`),
    and each costs :math:`w_l`, the multiplications of the layers that read l over the neurons of l. The
    penalty is

    .. math:: \sum_l w_l \sum_{neurons} |n| / \text{multiplications of the ANN},

    a mean over pictures; 5.1 of them cost as much energy as the ANN. Its gradient goes through the rounding
    straight, and not into the clips.

    :param model: a GraphNetwork with activations of :class:`~sj_lowlat.layers.QuantReLU`
    :param image: one image ``[1, C, H, W]``, which shows the sizes of maps; the weights hardly depend on them
    :raises InputError: for a network without such activations, or of another kind
    """

    def __init__(self, model: nn.Module, image: Tensor) -> None:
        network = unwrapped(model)
        quantised = any(isinstance(module, QuantReLU) for module in network.modules())
        if not isinstance(network, GraphNetwork) or not quantised:
            raise InputError("spike_weight is for a Quant ANN: call prepare first, or set it to 0")
        self.network = network
        self.costs = _costs(network, image)

    @contextmanager
    def counted(self) -> Iterator[list[Tensor]]:
        """Context manager: collect the penalty of each layer, a scalar, as they run."""
        found: list[Tensor] = []

        def note(cost: float, layer: QuantReLU, args: tuple[Tensor, ...], out: Tensor) -> None:
            clip = layer.clip.detach()
            level = (clip if clip.dim() == 0 else clip.view(-1, *[1] * (out.dim() - 2))) / layer.levels
            wide = torch.promote_types(out.dtype, torch.float32)
            found.append(cost * (out.to(wide) / level).abs().sum())

        with ExitStack() as hooks:
            for name, cost in self.costs.items():
                layer = self.network.get_submodule(name)
                hooks.enter_context(layer.register_forward_hook(partial(note, cost)))
            yield found


def spike_loss(counted: list[Tensor], images: int) -> dict[str, Tensor]:
    """The penalty of a batch: ``spikes``, operations per multiplication of the ANN."""
    (pictures,) = distributed.totals(images)
    return {"spikes": torch.stack(counted).sum() / pictures}


def _costs(network: GraphNetwork, image: Tensor) -> dict[str, float]:
    """Activation -> what a spike of it costs, over the multiplications of the ANN."""
    shapes, macs = _sizes(network, image)
    found = dict.fromkeys((name for name in shapes if name not in macs), 0.0)
    carried: dict[fx.Node, frozenset[str]] = {}  # node -> activations whose values it passes on
    for node in network.graph.nodes:
        name, layer = str(node.target), network.module_of(node)
        sources = frozenset().union(*(carried.get(item, frozenset()) for item in node.all_input_nodes))
        if name in found and layer is not None:
            sources = frozenset({name})
        elif name in macs and layer is not None:
            for source in sources:  # of a concatenation a part
                part = shapes[source][1] / shapes[name][1] if len(shapes[name]) > 2 else 1 / len(sources)
                found[source] += macs[name] * min(part, 1.0)
            sources = frozenset()
        carried[node] = sources
    whole = sum(macs.values())
    return {name: cost / torch.Size(shapes[name][1:]).numel() / whole for name, cost in found.items()}


def _sizes(network: GraphNetwork, image: Tensor) -> tuple[dict[str, torch.Size], dict[str, int]]:
    """Shapes of what activations give and weighted layers get, and the latter's multiplications."""
    shapes: dict[str, torch.Size] = {}
    macs: dict[str, int] = {}

    def count(name: str, layer: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        if isinstance(layer, QuantReLU):
            shapes[name] = out.shape
            return
        shapes[name] = args[0].shape
        size = args[0].shape[1:-1] if isinstance(layer, nn.Linear) else args[0].shape[2:]
        macs[name] = macs.get(name, 0) + dense_macs(layer, size)  # type: ignore[arg-type]

    kinds = (QuantReLU, _ConvNd, nn.Linear)
    watched = {name: layer for name, layer in network.named_modules() if isinstance(layer, kinds)}
    with ExitStack() as hooks, evaluating(network), torch.no_grad():
        for name, layer in watched.items():
            hooks.enter_context(layer.register_forward_hook(partial(count, name)))
        network(image)
    return shapes, macs
