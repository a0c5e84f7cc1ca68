"""A spiking network as NeuroBench sees it: single spikes, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from sj_lowlat.errors import InputError
from sj_lowlat.layers import Clocked, LowLatencyIFNode, is_spiking
from sj_lowlat.monitors.fan_out import weighted_layers
from sj_lowlat.network import schedule_for
from sj_lowlat.schedule import Schedule
from sj_lowlat.simulation import simulate


class _Sent(nn.Identity):
    """What a layer of neurons sends, one unit spike at most in a step."""


def neurobench_model(
    snn: nn.Module, schedule: Schedule | str | int | None = None, **changes: int | None
) -> Any:
    """A ``NeuroBenchModel`` for ``neurobench.benchmarks.Benchmark``, which counts what its layers receive.

    NeuroBench [Yik et al., Nature Communications 16:1545 (2025)] takes a call of a layer for spiking only if
    all its inputs are -1, 0 or 1. So each step is shown as as many calls as its largest burst has spikes, as
    it would run on hardware of single spikes: a burst of n is n spikes, and ``Effective_ACs`` are the
    synaptic operations of :class:`~sj_lowlat.monitors.SynOpMonitor`, less those of weights that are 0. The
    image is shown once, as it is: ``Effective_MACs``, which leave out padding and zeros of image and weights.
    Heads are shown the spikes that they collect. Transposed convolutions are missing: NeuroBench knows none.

    Its model holds copies of the layers that share their weights, and a layer for each layer of neurons, for
    ``ActivationSparsity``. Memory grows with the number of steps and images of a batch.

    :param snn: a network of :func:`~sj_lowlat.conversion.convert`
    :param schedule: as for :func:`~sj_lowlat.simulation.simulate`, like ``changes``
    :return: the model; called with images ``[N, C, H, W]`` it returns what ``simulate`` gives at the end
    :raises InputError: if NeuroBench is not installed, or the network is not spiking
    """
    try:
        from neurobench.models import NeuroBenchModel
    except ImportError as error:
        raise InputError(f"NeuroBench cannot be imported ({error}): pip install neurobench") from error
    if not is_spiking(snn):
        raise InputError("neurobench_model is for spiking networks; NeuroBench takes others as they are")
    run, shown = schedule_for(snn, schedule, **changes), nn.ModuleDict()

    class Unrolled(NeuroBenchModel):
        def __init__(self) -> None:
            super().__init__()
            self.add_activation_module(_Sent)
            self.seen: set[str] = set()

        def __net__(self) -> nn.Module:
            return shown

        def __call__(self, images: Tensor) -> Any:
            self.seen.clear()
            return simulate(snn, images, run).final

        def show(self, name: str, of_image: bool, values: Tensor) -> None:
            for part in [values] if of_image else _single_spikes(values):
                if not of_image or name not in self.seen:
                    shown[name](part)
            self.seen.add(name)

    model = Unrolled()
    for name, watched, layer in weighted_layers(snn):
        if isinstance(layer, _ConvTransposeNd):
            continue
        place = name.replace(".", "/")
        shown[place] = _copy(layer)
        watched.register_forward_pre_hook(partial(_show_read, model, place))
    for name, node in snn.named_modules():
        if isinstance(node, LowLatencyIFNode):
            place = f"{name} sends".replace(".", "/")
            shown[place] = _Sent()
            node.register_forward_hook(partial(_show_sent, model, place))
    return model


def _show_read(model: Any, place: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    model.show(place, isinstance(module, Clocked) and module.reads_input, inputs[0].detach())


def _show_sent(model: Any, place: str, node: nn.Module, inputs: Any, output: Tensor) -> None:
    model.show(place, False, output)


def _copy(layer: Any) -> nn.Module:
    """A plain layer of torch with the same weights."""
    copied: Any
    if isinstance(layer, nn.Linear):
        copied = nn.Linear(layer.in_features, layer.out_features, device="meta")
    else:
        kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(layer.kernel_size) - 1]
        where = layer.kernel_size, layer.stride, layer.padding, layer.dilation
        copied = kind(layer.in_channels, layer.out_channels, *where, layer.groups, device="meta")
    for name in ("weight", "bias"):
        value = getattr(layer, name)
        setattr(copied, name, value if value is None else nn.Parameter(value.detach().float(), False))
    return copied


def _single_spikes(values: Tensor) -> Iterator[Tensor]:
    """Spikes as parts of -1, 0 and 1 that sum up to them; others as they are."""
    if not torch.equal(values, values.round()):
        yield values.float()
        return
    sizes = values.abs()
    for k in range(int(sizes.max())):
        yield values.sign().float() * (sizes > k)
