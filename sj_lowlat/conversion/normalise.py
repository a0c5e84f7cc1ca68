"""Weight normalisation, Eq. (13) to (15): scales move from the activations into the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn

from sj_lowlat.conversion.fold import in_channels, out_channels, scale_channels
from sj_lowlat.conversion.plan import LayerPlan
from sj_lowlat.errors import ConversionError
from sj_lowlat.record import evaluating


def _carry(scale: torch.Tensor) -> Callable[..., torch.Tensor]:
    def hook(module: nn.Module, args: object, out: torch.Tensor) -> torch.Tensor:
        shape = (1, -1, *[1] * (out.dim() - 2)) if scale.dim() else ()
        return scale.to(out).reshape(shape).expand_as(out).clone()

    return hook


def _probe(
    model: nn.Module, plans: Iterable[LayerPlan], scales: Mapping[str, torch.Tensor], example: torch.Tensor
) -> dict[str, torch.Tensor]:
    """What each layer reads if every activation gives its scale: name -> ``[positions, in channels]``."""
    found: dict[str, torch.Tensor] = {}
    handles = []

    def read(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            axis = -1 if isinstance(module, nn.Linear) else 1
            found[name] = args[0].movedim(axis, -1).flatten(0, -2)

        return hook

    one = torch.ones(())
    for plan in plans:
        layer = model.get_submodule(plan.name)
        if not plan.reads_input:
            handles.append(layer.register_forward_pre_hook(read(plan.name)))
        fires = layer if plan.activation is None else model.get_submodule(plan.activation)
        scale = one if plan.activation is None else scales[plan.activation]
        handles.append(fires.register_forward_hook(_carry(scale)))
    try:
        with evaluating(model):
            model(torch.ones_like(example))
    finally:
        for handle in handles:
            handle.remove()
    return found


@torch.no_grad()
def probe_input_scales(
    model: nn.Module, plans: Iterable[LayerPlan], scales: Mapping[str, torch.Tensor], example: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Find the scale of every input channel of every layer by three forward passes.

    Every activation's output is replaced by its own scale, and every output that does not fire by 1;
    concatenation, slicing, nearest upsampling and pooling then carry the scales themselves to the next layer.
    A pass with scales of 1 tells what padding and pooling do to them, and is divided out. A pass with square
    roots tells whether scales were mixed: the mean of roots is not the root of the mean.

    :param model: the network, batch norms folded
    :param plans: its weighted layers
    :param scales: activation name -> scale, scalar or ``[C]``
    :param example: input ``[N, C, H, W]``, only its shape matters
    :return: layer name -> scale per input channel; 1 for the image
    :raises ConversionError: if activations of different scale meet in one input channel
    """
    plans = list(plans)
    carried = _probe(model, plans, scales, example)
    roots = _probe(model, plans, {name: scale.sqrt() for name, scale in scales.items()}, example)
    plain = _probe(model, plans, {name: torch.ones(()) for name in scales}, example)
    tolerance = max(1e-4, 8 * torch.finfo(example.dtype).eps)
    found: dict[str, torch.Tensor] = {}
    for plan in plans:
        layer = model.get_submodule(plan.name)
        if plan.reads_input:
            found[plan.name] = torch.ones(in_channels(layer), dtype=example.dtype, device=example.device)
            continue
        seen = plain[plan.name] != 0  # elsewhere is padding
        ratio = carried[plan.name] / plain[plan.name]
        highest = ratio.masked_fill(~seen, -torch.inf).amax(0)
        lowest = ratio.masked_fill(~seen, torch.inf).amin(0)
        mixed = (roots[plan.name] / plain[plan.name]).square().sub(ratio).abs() > tolerance * ratio
        if bool((mixed & seen).any()) or bool((highest - lowest > tolerance * highest).any()):
            raise ConversionError(
                f"an input channel of module '{plan.name}' mixes activations of different scale (by a "
                "reshape, pixel shuffle or mean over channels): take one scale per layer "
                "(per_channel=False), or put a convolution and an activation in between"
            )
        found[plan.name] = torch.where(seen.any(0), highest, 1.0)
    return found


@torch.no_grad()
def normalise_layer(layer: nn.Module, scale_in: torch.Tensor, scale_out: torch.Tensor) -> None:
    r"""``W^[o, i] = W[o, i] scale_in[i] / scale_out[o]``, ``b^ = b / scale_out``, threshold 1.

    :param layer: weighted layer, changed in place
    :param scale_in: scale per input channel
    :param scale_out: scale of its activation, scalar or per output channel; 1 for a layer that does not fire
    """
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, nn.Parameter)
    inverse = (1 / scale_out.to(weight)).expand(out_channels(layer))
    # copies: another layer may share weight or bias
    layer.weight = nn.Parameter(weight.data.clone(), requires_grad=weight.requires_grad)
    scale_channels(layer, scale_out=inverse, scale_in=scale_in)
    if isinstance(bias, nn.Parameter):
        layer.bias = nn.Parameter(bias.data * inverse, requires_grad=bias.requires_grad)
