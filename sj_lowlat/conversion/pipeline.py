"""The conversion, pass by pass: capture, fold, scale, normalise, replace activations by neurons."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from spikingjelly.activation_based import functional
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sj_lowlat.conversion.additions import complete_sums, place_products, place_sums
from sj_lowlat.conversion.analysis import make_plan
from sj_lowlat.conversion.examples import Images, find_example
from sj_lowlat.conversion.fold import fold_batch_norm, has_depthwise
from sj_lowlat.conversion.normalise import normalise_layer, probe_input_scales, sum_factors
from sj_lowlat.conversion.plan import LayerPlan
from sj_lowlat.conversion.spike import NEURONS, activation_types, refuse_leaky
from sj_lowlat.conversion.statistics import collect_scales
from sj_lowlat.errors import ConversionError, InputError
from sj_lowlat.graph.edit import drop_layer, one_call_each, replace_layer
from sj_lowlat.layers import PointwiseIFNode, RateReadout, SpikeMaxPool
from sj_lowlat.network import ConversionReport, GraphNetwork, LayerReport, SpikingNetwork, refuse_spiking
from sj_lowlat.schedule import Schedule


def convert(
    model: nn.Module,
    *,
    neuron: str = "signed",
    scale: str = "trained",
    per_channel: bool | None = None,
    ratio: float = 0.5,
    calibration: Images | None = None,
    example: torch.Tensor | None = None,
) -> SpikingNetwork:
    """Turn a network of convolutions, (leaky) ReLUs and batch norms into a spiking network.

    Batch norms are folded, weights normalised so that every threshold is 1 and spikes are 0 and 1 (or -1, 0,
    1), activations become IF neurons that start at ``ratio`` of their threshold, max-pools behind them
    compare counts (:class:`~sj_lowlat.layers.SpikeMaxPool`), and heads count spikes
    (:class:`~sj_lowlat.layers.RateReadout`).

    :param model: the network, left untouched; every activation is its own module. Usually from
        :func:`~sj_lowlat.conversion.prepare`
    :param neuron: ``"signed"``, ``"residual-fix"``, ``"if"``, ``"imbalanced"``; or of other methods
        ``"hard-reset"``, ``"srp"``, ``"cos"`` (the last two for schedules with pre-steps, ``16+0p8``). For
        leaky ReLUs ``"signed"`` or ``"imbalanced"``, which have negative spikes
    :param scale: ``"trained"``, the clips of the network's :class:`~sj_lowlat.layers.QuantReLU`; or a
        statistic on ``calibration`` images: ``"max"``, ``"99.9%"``
    :param per_channel: per-channel scales instead of one per layer (for a statistic; trained clips stay); by
        default for networks with depthwise convolutions
    :param ratio: V(0) in units of the threshold; 0.5 is the residual fix. ``"if"`` and ``"hard-reset"`` start
        at 0; neurons of functions other than (leaky) ReLU round by themselves
    :param calibration: images ``[N, C, H, W]`` or an iterable of batches, for a statistic
    :param example: one input, if neither ``calibration`` nor ``model.input_shape`` tells its shape
    :return: a :class:`~sj_lowlat.network.SpikingNetwork` in eval mode, with ``conversion_report``
    :raises ConversionError: if a part has no spiking form (names the module and the remedy), or there is
        nothing to convert
    :raises InputError: for options that contradict each other or the network
    """
    types = activation_types(neuron)
    refuse_spiking(model)
    sample = find_example(model, calibration, example)
    network = GraphNetwork.of(model, sample).eval()
    one_call_each(network)
    complete_sums(network, types, sample)
    plan = make_plan(network, types)
    if plan.refused:
        raise ConversionError("cannot convert this network", plan.refused)
    if not plan.activations:
        raise ConversionError(
            "nothing to convert: no activation module was found between the layers; "
            "run replace_layers first, or write functional activations as modules (self.act = nn.ReLU())"
        )
    refuse_leaky(network, plan.activations, neuron)
    report = ConversionReport(replaced=dict(network.info.replaced))
    per_channel = has_depthwise(network) if per_channel is None else per_channel
    norms = _fold(network, plan.layers)
    scales = _find_scales(network, plan.activations, scale, per_channel, calibration)
    bursts = _find_bursts(network, plan.activations)
    # scale of one spike a step: a neuron of finer levels fires several spikes at its clip
    units = {name: scale.double() / bursts[name] for name, scale in scales.items()}
    found = probe_input_scales(network, plan, units, sample)
    fires_as = {name: _spike(network, name, neuron, ratio, bursts[name]) for name in plan.activations}
    for name in plan.activations:
        node = network.get_submodule(name)
        if isinstance(node, PointwiseIFNode):
            node.scale = scales[name].to(sample)
    for own in plan.layers:
        layer = network.get_submodule(own.name)
        scale_out = units[own.activation] if own.activation else torch.ones(())
        normalise_layer(layer, found[own.name, 0], scale_out)
        becomes = fires_as[own.activation] if own.activation else "current"
        if own.is_head:
            replace_layer(network, own.name, RateReadout(network.get_submodule(own.name)))
            becomes = RateReadout.__name__
        report.layers.append(
            LayerReport(own.name, type(layer).__name__, norms.get(own.name), own.activation, becomes,
                        _span(scale_out.to(sample.dtype)), _span(found[own.name, 0]))
        )  # fmt: skip
    place_products(network, plan.products, network.info.levels)
    report.sums += place_sums(network, plan.sums, sum_factors(plan, found, units))
    for name in plan.pools:
        replace_layer(network, name, SpikeMaxPool(network.get_submodule(name)))
        report.pools.append(name)
    info = network.info
    schedule = info.schedule or (Schedule(info.levels) if info.levels else None)
    snn = SpikingNetwork.from_graph(network, replace(info, report=report, schedule=schedule))
    snn.to(sample.device)
    functional.invalidate_reset_cache(snn)
    return snn


def _fold(network: GraphNetwork, plans: list[LayerPlan]) -> dict[str, str]:
    folded = {plan.name: plan.batch_norm for plan in plans if plan.batch_norm}
    for name, norm in folded.items():
        fold_batch_norm(network.get_submodule(name), cast(_BatchNorm, network.get_submodule(norm)))
    for norm in set(folded.values()):  # convolutions may share one
        drop_layer(network, norm)
    return folded


def _find_scales(
    network: GraphNetwork, names: list[str], scale: str, per_channel: bool, calibration: Images | None
) -> dict[str, torch.Tensor]:
    if scale == "trained":
        untrained = [name for name in names if not hasattr(network.get_submodule(name), "clip")]
        if untrained:
            raise InputError(
                f"scale='trained' needs a QuantReLU everywhere, but {', '.join(untrained[:3])} "
                f"({len(untrained)} in all) has no clip: call prepare first, or give scale='99.9%' and "
                "calibration images"
            )
        return {name: cast(torch.Tensor, network.get_submodule(name).clip).detach().clone() for name in names}
    if calibration is None:
        raise InputError(
            f"scale={scale!r} needs calibration images, a tensor [N, C, H, W] or an iterable of batches"
        )
    return collect_scales(network, names, calibration, scale, per_channel)


def _find_bursts(network: GraphNetwork, names: list[str]) -> dict[str, int]:
    """Spikes per step of a neuron at its clip: 1, or by how much its levels are finer than the network's."""
    base = network.info.levels
    levels = {name: getattr(network.get_submodule(name), "levels", base) for name in names}
    return {name: own // base if base and own and own % base == 0 else 1 for name, own in levels.items()}


def _spike(network: GraphNetwork, name: str, neuron: str, ratio: float, burst: int) -> str:
    node = NEURONS[neuron](network.get_submodule(name), ratio)
    node.burst = burst
    replace_layer(network, name, node)
    return type(node).__name__ + (f" x{burst}" if burst > 1 else "")


def _span(scale: torch.Tensor) -> tuple[float, ...]:
    return tuple(sorted({float(scale.min()), float(scale.max())}))
