"""The conversion, pass by pass: watch, fold, scale, normalise, spike."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.ann2snn.recipes import ModuleConversionRecipe
from torch import nn

from sj_lowlat.convert.fold import fold_batch_norm
from sj_lowlat.convert.normalise import normalise_layer, probe_input_scales
from sj_lowlat.convert.plan import LayerPlan, make_plan
from sj_lowlat.convert.report import ConversionReport, LayerReport
from sj_lowlat.convert.spike import NEURONS, activation_types
from sj_lowlat.convert.statistics import collect_scales, eval_mode, image_batches
from sj_lowlat.convert.surgery import find_example, note, replace_module
from sj_lowlat.convert.trace import trace
from sj_lowlat.errors import ConversionError, InputError
from sj_lowlat.layers import MergedTime, QuantReLU, RateReadout

Images = torch.Tensor | Iterable[torch.Tensor]


def convert(
    model: nn.Module,
    *,
    neuron: str = "signed",
    scale: str = "trained",
    per_channel: bool = False,
    ratio: float = 0.5,
    calibration: Images | None = None,
    example: torch.Tensor | None = None,
) -> nn.Module:
    """Turn a network of convolutions, ReLUs and batch norms into a spiking network.

    Batch norms are folded, weights normalised so that every threshold is 1 and spikes are 0 and 1 (or -1, 0, 1), activations
    become IF neurons that start at ``ratio`` of their threshold, and heads count spikes
    (:class:`~sj_lowlat.layers.RateReadout`). The network's own ``forward`` stays.

    :param model: the network, left untouched; every activation is a module of its own. Usually from :func:`prepare`
    :param neuron: ``"signed"``, ``"residual-fix"``, ``"if"`` or ``"imbalanced"`` (leaky ReLU)
    :param scale: ``"trained"``, the clips of the network's :class:`~sj_lowlat.layers.QuantReLU`; or a statistic on
        ``calibration`` images: ``"max"``, ``"99.9%"``
    :param per_channel: one statistic per channel instead of one per layer (trained clips are as they were trained)
    :param ratio: V(0) in units of the threshold; 0.5 is the residual fix. ``neuron="if"`` starts at 0
    :param calibration: images ``[N, C, H, W]`` or an iterable of batches, for a statistic
    :param example: one input, if neither ``calibration`` nor ``model.input_shape`` tells its shape
    :return: the spiking network in eval mode, with ``conversion_report`` (:class:`ConversionReport`)
    :raises ConversionError: if a part has no spiking form, or nothing was there to convert; it names module and remedy
    :raises InputError: for options that do not fit
    """
    types = tuple(activation_types(neuron))
    if any(isinstance(module, MergedTime) for module in model.modules()):
        raise ConversionError("this network is spiking already; convert the network that prepare or finetune returned")
    snn = copy.deepcopy(model).eval()
    sample = find_example(snn, calibration, example)
    plans, refused = make_plan(trace(snn, sample), types)
    report = ConversionReport(replaced=dict(getattr(model, "replaced", {})), refused=refused)
    if refused:
        raise ConversionError("cannot convert this network:\n- " + "\n- ".join(refused))
    if not any(plan.activation for plan in plans):
        raise ConversionError(
            "nothing to convert: no activation module was found between the layers; "
            "run replace_layers first, or write functional activations as modules (self.act = nn.ReLU())"
        )
    norms = _fold(snn, plans)
    scales = _find_scales(snn, plans, scale, per_channel, calibration)
    scales_in = probe_input_scales(snn, plans, scales, sample)
    for plan in plans:
        layer = snn.get_submodule(plan.name)
        one = torch.ones((), device=sample.device)
        scale_out = scales[plan.activation].to(sample.device) if plan.activation else one
        normalise_layer(layer, scales_in[plan.name], scale_out)
        fires_as = _spike(snn, plan, neuron, ratio)
        report.layers.append(
            LayerReport(plan.name, type(layer).__name__, norms.get(plan.name), plan.activation, fires_as,
                        _span(scale_out), _span(scales_in[plan.name]))
        )  # fmt: skip
    snn.conversion_report = report  # type: ignore[assignment]
    snn.input_layers = tuple(plan.name for plan in plans if plan.reads_input)  # type: ignore[assignment]
    note(snn, "convert", neuron=neuron, ratio=ratio)
    functional.invalidate_reset_cache(snn)
    return snn


def _fold(snn: nn.Module, plans: list[LayerPlan]) -> dict[str, str]:
    folded = {}
    for plan in plans:
        if plan.batch_norm:
            fold_batch_norm(snn.get_submodule(plan.name), snn.get_submodule(plan.batch_norm))  # type: ignore[arg-type]
            replace_module(snn, plan.batch_norm, nn.Identity())
            folded[plan.name] = plan.batch_norm
    return folded


def _find_scales(
    snn: nn.Module, plans: list[LayerPlan], scale: str, per_channel: bool, calibration: Images | None
) -> dict[str, torch.Tensor]:
    names = [plan.activation for plan in plans if plan.activation]
    if scale == "trained":
        untrained = [name for name in names if not hasattr(snn.get_submodule(name), "clip")]
        if untrained:
            raise InputError(
                f"scale='trained' needs a QuantReLU everywhere, but {', '.join(untrained[:3])} "
                f"({len(untrained)} in all) has no clip: call prepare first, or give scale='99.9%' and calibration images"
            )
        return {name: snn.get_submodule(name).clip.detach().clone() for name in names}  # type: ignore[union-attr,operator]
    if calibration is None:
        raise InputError(f"scale={scale!r} needs calibration images, a tensor [N, C, H, W] or an iterable of batches")
    return collect_scales(snn, names, calibration, scale, per_channel)


def _spike(snn: nn.Module, plan: LayerPlan, neuron: str, ratio: float) -> str:
    if plan.activation:
        node = NEURONS[neuron](snn.get_submodule(plan.activation), ratio)
        replace_module(snn, plan.activation, node.to(next(snn.parameters()).device))
        return type(node).__name__
    if plan.is_head:
        replace_module(snn, plan.name, RateReadout(snn.get_submodule(plan.name)))
        return RateReadout.__name__
    return "current"


def _span(scale: torch.Tensor) -> tuple[float, ...]:
    return tuple(sorted({float(scale.min()), float(scale.max())}))


class LowLatencyRecipe(ModuleConversionRecipe):
    """SpikingJelly's way to :func:`convert`: ``ann2snn.ModuleConverter(LowLatencyRecipe(...)).convert(ann)``.

    :param options: the keyword arguments of :func:`convert`
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def validate(self, converter: Any) -> None:
        """Check the kind of neuron before any work."""
        activation_types(self.options.get("neuron", "signed"))

    def convert_module(self, converter: Any, ann: nn.Module) -> nn.Module:
        """Convert ``ann``, which is left untouched."""
        return convert(ann, **self.options)


def prepare(
    model: nn.Module,
    levels: int,
    calibration: Images | None = None,
    *,
    scale: str = "99.9%",
    per_channel: bool = False,
    example: torch.Tensor | None = None,
) -> nn.Module:
    """Replace every ReLU by a :class:`~sj_lowlat.layers.QuantReLU` whose clip starts from calibration images.

    :param model: the network, left untouched; it must consist of what :func:`convert` can convert
    :param levels: L, the time steps of the spiking network that is wanted
    :param calibration: images ``[N, C, H, W]`` or an iterable of batches; not needed for a network that is prepared
        already (its levels change and its clips stay)
    :param scale: statistic of the ReLU's output that the clips start from, ``"max"`` or a percentage
    :param per_channel: one clip per channel instead of one per layer
    :param example: one input, if neither ``calibration`` nor ``model.input_shape`` tells its shape
    :return: the prepared network
    :raises ConversionError: if a part could not be converted later, or there is no activation
    :raises InputError: for options that do not fit
    """
    prepared = copy.deepcopy(model)
    sample = find_example(prepared, calibration, example)
    plans, refused = make_plan(trace(prepared, sample), tuple(activation_types("signed")))
    if refused:
        raise ConversionError("cannot prepare this network:\n- " + "\n- ".join(refused))
    layers = {plan.activation: plan.name for plan in plans if plan.activation}
    if not layers:
        raise ConversionError("nothing to prepare: the network has no nn.ReLU or QuantReLU; run replace_layers first")
    fresh = [name for name in layers if not isinstance(prepared.get_submodule(name), QuantReLU)]
    if fresh and calibration is None:
        raise InputError("prepare needs calibration images to start the clips from: a tensor [N, C, H, W] or a loader")
    scales = collect_scales(prepared, fresh, calibration, scale, per_channel) if fresh else {}  # type: ignore[arg-type]
    device = sample.device
    for name in layers:
        old = prepared.get_submodule(name)
        clip = old.clip.detach() if isinstance(old, QuantReLU) else scales[name]
        new = QuantReLU(levels, clip, len(clip) if clip.dim() else None).to(device)
        replace_module(prepared, name, new.train(old.training))
    prepared.levels = levels  # type: ignore[assignment]
    note(prepared, "prepare", levels=levels, per_channel=per_channel)
    return prepared


@torch.no_grad()
def calibrate_batch_norm(model: nn.Module, images: Images) -> None:
    """Set the running statistics of every batch norm to those of ``images``, in place.

    After layers were replaced, the statistics of the layers behind them no longer fit.

    :param model: the network
    :param images: images ``[N, C, H, W]`` or an iterable of batches
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    device = next(model.parameters()).device
    with eval_mode(model):
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # cumulative average
            norm.train()
        for batch in image_batches(images):
            model(batch.to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
