"""The conversion, pass by pass: capture, fold, scale, normalise, replace activations by neurons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sj_lowlat.conversion.additions import complete_sums
from sj_lowlat.conversion.analysis import make_plan
from sj_lowlat.conversion.build import Folded
from sj_lowlat.conversion.examples import Images, find_example
from sj_lowlat.conversion.fold import fold_batch_norm, has_depthwise
from sj_lowlat.conversion.methods import Case, Method, find_method
from sj_lowlat.conversion.plan import LayerPlan
from sj_lowlat.conversion.spike import activation_types, refuse_leaky
from sj_lowlat.errors import ConversionError, InputError
from sj_lowlat.graph.edit import drop_layer, one_call_each
from sj_lowlat.network import GraphNetwork, SpikingNetwork, refuse_spiking


def convert(
    model: nn.Module,
    *,
    method: str | Method | None = None,
    neuron: str | None = None,
    scale: str | Mapping[str, torch.Tensor] | None = None,
    per_channel: bool | None = None,
    ratio: float | None = None,
    calibration: Images | None = None,
    time_steps: int = 32,
    example: torch.Tensor | None = None,
) -> SpikingNetwork:
    """Turn a network of convolutions, (leaky) ReLUs and batch norms into a spiking network.

    Batch norms are folded, weights normalised so that every threshold is 1 and spikes are 0 and 1 (or -1, 0,
    1), activations become IF neurons that start at ``ratio`` of their threshold, max-pools behind them
    compare counts (:class:`~sj_lowlat.layers.SpikeMaxPool`), and heads count spikes
    (:class:`~sj_lowlat.layers.RateReadout`).

    :param model: the network, left untouched; every activation is its own module. Usually from
        :func:`~sj_lowlat.conversion.prepare`
    :param method: a published method by its name, a key of ``sj_lowlat.conversion.METHODS``, or a
        :class:`~sj_lowlat.conversion.Method`: it gives neurons, scales, start, corrections and the schedule
        of the network
    :param neuron: instead of a method the kind of the neurons alone, by default ``"signed"``; others are
        ``"residual-fix"``, ``"if"``, ``"imbalanced"``, and ``"hard-reset"``, ``"srp"``, ``"cos"`` of other
        methods. For leaky ReLUs ``"signed"`` or ``"imbalanced"``, which have negative spikes
    :param scale: ``"trained"``, the clips of the network's :class:`~sj_lowlat.layers.QuantReLU`; or a
        statistic on ``calibration`` images: ``"max"``, ``"99.9%"``, ``"mse"``; or the scale of each
        activation by its name. By default the method's
    :param per_channel: per-channel scales instead of one per layer (for a statistic; trained clips stay); by
        default for networks with depthwise convolutions
    :param ratio: V(0) in units of the threshold; 0.5, the residual fix, by default. ``"if"`` and
        ``"hard-reset"`` start at 0; neurons of functions other than (leaky) ReLU round by themselves
    :param calibration: images ``[N, C, H, W]`` or an iterable of batches, for a statistic
    :param time_steps: T that a method's corrections, or clips of least square error, are made for
    :param example: one input, if neither ``calibration`` nor ``model.input_shape`` tells its shape
    :return: a :class:`~sj_lowlat.network.SpikingNetwork` in eval mode, with ``conversion_report``
    :raises ConversionError: if a part has no spiking form (names the module and the remedy), or there is
        nothing to convert
    :raises InputError: for options that contradict each other or the network
    """
    chosen = _method(method, neuron).changed(scale, per_channel, ratio)
    refuse_spiking(model)
    sample = find_example(model, calibration, example)
    folded = fold(GraphNetwork.of(model, sample), chosen, sample)
    refuse_leaky(folded.network, folded.plan.activations, chosen.neuron)
    wanted = has_depthwise(folded.network) if chosen.per_channel is None else chosen.per_channel
    case = Case(folded, calibration, time_steps, wanted, chosen.neurons())
    case.scales = chosen.scales(case)
    if not chosen.corrections:
        snn = folded.spiking(case.scales, case.neurons)
    else:
        snn = case.build(case.scales)
        for correct in chosen.corrections:
            correct(snn, case)
    report = snn.info.report
    assert report is not None
    report.method = chosen.name
    if method is not None:
        total = snn.info.levels or time_steps
        snn.info = replace(snn.info, schedule=chosen.run(snn, total)["schedule"])
    return snn


def _method(method: str | Method | None, neuron: str | None) -> Method:
    if method is None:
        kind = neuron or "signed"
        return Method(kind, "", kind)
    if neuron is not None:
        name = method if isinstance(method, str) else method.name
        raise InputError(f"neuron={neuron!r} and method={name!r}, which has its own neurons: give one")
    return find_method(method)


def fold(network: GraphNetwork, method: Method, sample: torch.Tensor) -> Folded:
    """Fold the batch norms of a captured network and edit it as the method says, in place.

    :raises ConversionError: if a part has no spiking form, or there is no activation
    """
    network.eval()
    types = activation_types(method.neuron)
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
    folded = Folded(network, plan, sample, _fold(network, plan.layers))
    for edit in method.edits:
        edit(folded)
    return replace(folded, plan=make_plan(network, types)) if method.edits else folded


def _fold(network: GraphNetwork, plans: list[LayerPlan]) -> dict[str, str]:
    folded = {plan.name: plan.batch_norm for plan in plans if plan.batch_norm}
    for name, norm in folded.items():
        fold_batch_norm(network.get_submodule(name), cast(_BatchNorm, network.get_submodule(norm)))
    for norm in set(folded.values()):  # convolutions may share one
        drop_layer(network, norm)
    return folded
