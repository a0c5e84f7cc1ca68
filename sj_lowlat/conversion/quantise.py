"""From ReLU to quantised ReLU, with as many levels as the spiking network will have time steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn

from sj_lowlat.conversion.additions import complete_sums, meeting
from sj_lowlat.conversion.allocate import choose_factors, measure
from sj_lowlat.conversion.analysis import make_plan
from sj_lowlat.conversion.equalise import equalise_channels
from sj_lowlat.conversion.examples import Images, find_example, first_images
from sj_lowlat.conversion.fold import has_depthwise
from sj_lowlat.conversion.forms import trainable_form
from sj_lowlat.conversion.methods import Method, find_method
from sj_lowlat.conversion.spike import activation_types, is_pointwise, negative_slope
from sj_lowlat.conversion.statistics import collect_scales
from sj_lowlat.errors import ConversionError, InputError
from sj_lowlat.graph.edit import one_call_each, replace_layer
from sj_lowlat.layers import QuantPointwise, QuantReLU
from sj_lowlat.network import GraphNetwork, refuse_spiking
from sj_lowlat.schedule import whole

_MEASURED = 8  # images for sensitivities
_BUDGET = 32  # levels="auto"


def prepare(
    model: nn.Module,
    levels: int | str | None = None,
    calibration: Images | None = None,
    *,
    method: str | Method | None = None,
    scale: str = "99.9%",
    per_channel: bool | None = None,
    equalise: bool = False,
    finer: Mapping[str, int] | None = None,
    headroom: int = 1,
    budget: float | None = None,
    sums: str = "rescale",
    linear_neurons: bool = False,
    example: torch.Tensor | None = None,
) -> GraphNetwork:
    """Replace every ReLU by a :class:`~sj_lowlat.layers.QuantReLU` whose clip starts from calibration images.

    A leaky ReLU keeps its slope; only signed neurons can replace it later.

    :param model: the network, left untouched; it must consist of what
        :func:`~sj_lowlat.conversion.convert` can convert
    :param levels: L, the time steps of the later spiking network; or ``"auto"``: half of the budget (by
        default of 32), multiples of it for the activations that need more
    :param calibration: images ``[N, C, H, W]`` or an iterable of batches; not needed for a network that is
        prepared already (its levels change, its clips stay)
    :param method: that ``convert`` gets later; where it trains a network without levels, that network is
        returned: batch norms folded, edited, its ReLUs as they are or clipped
        (:class:`~sj_lowlat.layers.RateNorm`)
    :param scale: statistic of the ReLU's output that the clips start from: ``"max"``, a percentage, or
        ``"mse"``, the least square error of the quantised ReLU
    :param per_channel: per-channel clips instead of one per layer; by default for networks with depthwise
        convolutions, whose channels differ most in range (unless they are equalised)
    :param equalise: first equalise channel ranges by moving their differences into the weights, so that one
        clip per layer fits all its channels; the function does not change
    :param finer: activation name -> factor k: it gets k L levels, and its neurons fire up to k times a step.
        Pays for the first layers, which lose most by coarse levels
    :param headroom: factor of clips and levels, which leaves the size of a level as it is: activations beyond
        the clip of ``scale`` are no longer cut off. These are few, so that spikes hardly rise, and cutting
        them off can cost more than rounding does. Neurons may count so much further; how many spikes they
        fire in a step does not change
    :param budget: choose those factors (powers of 2, up to 16): about as many spikes as that many levels
        everywhere cost are spent where they lower the error of the outputs most, measured by quantising one
        activation at a time (n + 1 passes over up to 8 images for n activations)
    :param sums: of spikes of two branches: ``"rescale"``, a factor per branch brings both to one unit;
        ``"tie"``, activations that meet share one clip, so that their sum is a whole number of spikes; or
        ``"neuron"``, the sum is quantised once more by neurons of its own. Sums of currents that no
        activation reads always get such neurons (:class:`~sj_lowlat.layers.Symmetric`)
    :param linear_neurons: identity neurons also behind inner layers without an activation, which otherwise
        pass their currents on: then nothing but spikes travels between layers
    :param example: one input, if neither ``calibration`` nor ``model.input_shape`` tells its shape
    :return: the prepared network, a :class:`~sj_lowlat.network.GraphNetwork` with ``levels``
    :raises ConversionError: if a part could not be converted later, or there is no activation
    :raises InputError: for options that contradict each other or the network
    """
    chosen = None if method is None else find_method(method)
    if chosen is not None and chosen.form != "quantised":
        if levels is not None:
            raise InputError(f"levels is {levels!r}, and method={chosen.name!r} has none: leave them out")
        return trainable_form(model, chosen, calibration, example)
    refuse_spiking(model)
    levels, budget = _base_levels(levels, budget)
    sample = find_example(model, calibration, example)
    prepared = GraphNetwork.of(model, sample)
    one_call_each(prepared)
    complete_sums(prepared, activation_types("signed"), sample, sums, linear_neurons)
    plan = make_plan(prepared, activation_types("signed"))
    if plan.refused:
        raise ConversionError("cannot prepare this network", plan.refused)
    names = plan.activations
    if not names:
        raise ConversionError(
            "nothing to prepare: no nn.ReLU or QuantReLU was found between the layers; "
            "run replace_layers first, or write functional activations as modules (self.act = nn.ReLU())"
        )
    fresh = [name for name in names if not isinstance(prepared.get_submodule(name), QuantReLU)]
    if len(fresh) < len(names) and (equalise or budget is not None or headroom != 1):
        raise InputError(
            "equalise, headroom and budget are for a network that is not prepared yet: leave them out"
        )
    factors = {**dict.fromkeys(names, 1), **_present_factors(prepared, names), **(finer or {})}
    _check_finer(factors, names)
    whole("headroom", headroom, 1, "1 leaves clips as scale finds them")
    _check_budget(budget, levels, finer)
    if equalise and per_channel:
        raise InputError("equalise is for one clip per layer, instead of per_channel: give one")
    if per_channel is None:
        per_channel = has_depthwise(prepared) and not equalise
    scales = {}
    own_levels = {name: levels * factors[name] for name in names}
    if fresh:
        if calibration is None:
            raise InputError(
                "prepare needs calibration images to start the clips from: a tensor [N, C, H, W] or a loader"
            )
        if equalise:
            by_channel = collect_scales(prepared, fresh, calibration, scale, True, own_levels)
            equalise_channels(prepared, plan, by_channel, sample)
        scales = collect_scales(prepared, fresh, calibration, scale, per_channel, own_levels)
        if budget is not None:
            quantisers = {
                name: _quantised(
                    prepared.get_submodule(name), headroom * levels, headroom * scales[name], sample
                )
                for name in names
            }
            sensitivities = measure(prepared, quantisers, first_images(calibration, _MEASURED))
            factors = choose_factors(sensitivities, budget / levels)
            own_levels = {name: levels * factors[name] for name in names}
            scales = collect_scales(prepared, fresh, calibration, scale, per_channel, own_levels)
    scales = {name: headroom * scale for name, scale in scales.items()}
    own_levels = {name: headroom * own for name, own in own_levels.items()}
    of_spikes = {name: branches for name, branches in plan.sums.items() if branches.activation is None}
    tied = meeting(prepared, of_spikes, names) if sums == "tie" and len(fresh) == len(names) else []
    groups = [group for group in tied if len({scales[name].shape for name in group}) == 1]
    for group in groups:
        scales |= dict.fromkeys(group, torch.stack([scales[name] for name in group]).amax(0))
    for name in names:
        replace_layer(
            prepared,
            name,
            _quantised(prepared.get_submodule(name), own_levels[name], scales.get(name), sample),
        )
    for first, *others in groups:
        for name in others:  # one parameter, so that training keeps them equal
            prepared.get_submodule(name).clip_raw = prepared.get_submodule(first).clip_raw
    info = prepared.info
    schedule = info.schedule if levels == info.levels else None  # it was made for the levels of before
    headroom = headroom if fresh else info.headroom
    prepared.info = replace(info, levels=levels, headroom=headroom, schedule=schedule)
    return prepared


def _quantised(old: nn.Module, levels: int, scale: torch.Tensor | None, example: torch.Tensor) -> QuantReLU:
    """The quantised form of an activation; its clip stays where it has one, else it is the scale."""
    clip = old.clip.detach() if isinstance(old, QuantReLU) else scale
    assert clip is not None
    channels = len(clip) if clip.dim() else None
    new: QuantReLU
    if isinstance(old, QuantPointwise) or is_pointwise(old):
        new = QuantPointwise(old.fn if isinstance(old, QuantPointwise) else old, levels, clip, channels)
    else:
        new = QuantReLU(levels, clip, channels, negative_slope(old))
    return new.to(example.device).train(old.training)


def _present_factors(model: GraphNetwork, names: list[str]) -> dict[str, int]:
    """By how much the activations of a prepared network are finer than its levels."""
    found = {name: getattr(model.get_submodule(name), "levels", None) for name in names}
    base = model.info.levels
    return {name: own // base for name, own in found.items() if own and base and own % base == 0}


def _check_finer(finer: Mapping[str, int], names: list[str]) -> None:
    for name, factor in finer.items():
        if name not in names:
            raise InputError(
                f"finer names {name!r}, which is no activation here: there are {', '.join(names)}"
            )
        if isinstance(factor, bool) or not isinstance(factor, int) or factor < 1:
            raise InputError(f"finer gives {name!r} the factor {factor!r}: give a whole number of at least 1")


def _base_levels(levels: int | str | None, budget: float | None) -> tuple[int, float | None]:
    """L and the budget that ``"auto"`` stands for."""
    if isinstance(levels, int):
        return levels, budget
    if levels != "auto":
        raise InputError(f'levels is {levels!r}, it must be a whole number or "auto"')
    budget = _BUDGET if budget is None else budget
    if not budget >= 2:
        raise InputError(f'budget is {budget!r}, it must be at least 2 for levels="auto"')
    return int(budget) // 2, budget


def _check_budget(budget: float | None, levels: int, finer: Mapping[str, int] | None) -> None:
    if budget is not None and finer:
        raise InputError("budget chooses the factors that finer gives: leave one out")
    if budget is not None and not budget >= levels:
        raise InputError(f"budget is {budget!r}, it must be at least the levels, {levels}")
