"""Weight normalisation, Eq. (13) to (15): scales move from the activations into the weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from sj_lowlat.convert.fold import in_channels, out_channels, scale_channels
from sj_lowlat.convert.plan import LayerPlan
from sj_lowlat.convert.statistics import eval_mode


@torch.no_grad()
def probe_input_scales(
    model: nn.Module, plans: Iterable[LayerPlan], scales: dict[str, torch.Tensor], example: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Find the scale of every input channel of every layer by one forward pass.

    Every activation's output is replaced by its own scale, and every output that does not fire by 1; concatenation,
    slicing, nearest upsampling and pooling then carry the scales themselves to the next layer.

    :param model: the network, batch norms folded
    :param plans: its weighted layers
    :param scales: activation name -> scale, scalar or ``[C]``
    :param example: input ``[N, C, H, W]``, only its shape matters
    :return: layer name -> scale per input channel
    """
    found: dict[str, torch.Tensor] = {}
    handles = []

    def carry(scale: torch.Tensor):  # type: ignore[no-untyped-def]
        def hook(module: nn.Module, args: object, out: torch.Tensor) -> torch.Tensor:
            shape = (1, -1, *[1] * (out.dim() - 2)) if scale.dim() else ()
            return scale.to(out).reshape(shape).expand_as(out).clone()

        return hook

    def read(name: str):  # type: ignore[no-untyped-def]
        def hook(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            x = args[0]
            axis = -1 if isinstance(module, nn.Linear) else 1
            # the largest value: where zero padding has mixed zeros in, the scale is what remains
            found[name] = x.transpose(axis, -1).reshape(-1, x.shape[axis]).amax(0)

        return hook

    one = torch.ones((), device=example.device)
    for plan in plans:
        layer = model.get_submodule(plan.name)
        if plan.reads_input:
            found[plan.name] = torch.ones(in_channels(layer), device=example.device)
        else:
            handles.append(layer.register_forward_pre_hook(read(plan.name)))
        if plan.activation is None:
            handles.append(layer.register_forward_hook(carry(one)))
        else:
            handles.append(model.get_submodule(plan.activation).register_forward_hook(carry(scales[plan.activation])))
    try:
        with eval_mode(model):
            model(torch.ones_like(example))
    finally:
        for handle in handles:
            handle.remove()
    return found


@torch.no_grad()
def normalise_layer(layer: nn.Module, scale_in: torch.Tensor, scale_out: torch.Tensor) -> None:
    r"""``W^[o, i] = W[o, i] scale_in[i] / scale_out[o]``, ``b^ = b / scale_out``, threshold 1.

    :param layer: weighted layer, changed in place
    :param scale_in: scale per input channel
    :param scale_out: scale of its activation, scalar or per output channel; 1 for a layer that does not fire
    """
    inverse = (1 / scale_out).expand(out_channels(layer)).to(scale_in)
    scale_channels(layer, scale_out=inverse, scale_in=scale_in)
    if isinstance(layer.bias, nn.Parameter):
        layer.bias.data.mul_(inverse)
