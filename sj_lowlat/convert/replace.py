"""Layer replacement (section 4.2 of the paper): what spikes badly gives way to what spikes well."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import torch
from torch import nn

from sj_lowlat.convert.fit import fit_to_pool, match_batch_norm, upsampling_convolution
from sj_lowlat.convert.plan import is_weighted, make_plan
from sj_lowlat.convert.statistics import eval_mode
from sj_lowlat.convert.surgery import find_example, first_images, note, replace_module
from sj_lowlat.convert.trace import trace
from sj_lowlat.errors import ConversionError, InputError
from sj_lowlat.layers import QuantReLU

Images = torch.Tensor | Iterable[torch.Tensor]

#: activations that give way to ReLU
TO_RELU: set[type[nn.Module]] = {
    nn.LeakyReLU, nn.PReLU, nn.SiLU, nn.ReLU6, nn.Hardswish, nn.GELU, nn.ELU, nn.CELU, nn.Mish, nn.Softplus,
}  # fmt: skip

#: handler: (the layer to replace, channels, its input size, its output size) -> the layers that take its place
Handler = Callable[[nn.Module, int, tuple[int, int], tuple[int, int]], nn.Module]


def _block(layer: nn.Module, channels: int) -> nn.Sequential:
    return nn.Sequential(layer, nn.BatchNorm2d(channels), nn.ReLU())


def replace_max_pool(pool: nn.Module, channels: int, size: tuple[int, int], out_size: tuple[int, int]) -> nn.Module:
    """Strided convolution, batch norm and ReLU in place of a max-pool; stride-1 pools of equal size are dropped."""
    assert isinstance(pool, nn.MaxPool2d)
    if size == out_size:
        return nn.Identity()
    kernel, stride, padding = (_pair(v) for v in (pool.kernel_size, pool.stride, pool.padding))
    if any(d != 1 for d in _pair(pool.dilation)):
        raise ConversionError(f"{pool} is dilated, which has no replacement; register one in POOL_HANDLERS")
    # an odd kernel sees the pool's window from its middle; the pool's own kernel fits every other size
    if kernel == (2, 2) and stride == (2, 2) and out_size == ((size[0] + 1) // 2, (size[1] + 1) // 2):
        kernel, padding = (3, 3), (1, 1)
    return _block(nn.Conv2d(channels, channels, kernel, stride, padding, bias=False), channels)


def replace_upsample(up: nn.Module, channels: int, size: tuple[int, int], out_size: tuple[int, int]) -> nn.Module:
    """Transposed convolution, batch norm and ReLU in place of nearest upsampling, equal to it at first."""
    assert isinstance(up, nn.Upsample)
    factor = out_size[0] // size[0]
    if up.mode != "nearest" or (size[0] * factor, size[1] * factor) != out_size:
        raise ConversionError(f"{up} is replaced only for mode='nearest' and whole factors; change the network's upsampling")
    return _block(upsampling_convolution(channels, factor), channels)


#: module type -> handler, for layers that change the picture's size; extend it for layers of your own
POOL_HANDLERS: dict[type[nn.Module], Handler] = {nn.MaxPool2d: replace_max_pool, nn.Upsample: replace_upsample}


def _pair(value: int | tuple[int, ...] | None) -> tuple[int, int]:
    assert value is not None
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def replace_layers(
    model: nn.Module,
    calibration: Images | None = None,
    *,
    example: torch.Tensor | None = None,
    calibration_images: int = 32,
) -> nn.Module:
    """Replace the layers that spike badly: max-pool by strided convolution, upsampling by transposed convolution,
    leaky ReLU and its kin by ReLU. Stride-1 max-pools that keep the size are dropped.

    A transposed convolution starts equal to the nearest upsampling it replaces. With ``calibration`` images a strided
    convolution starts as the least-squares fit to the max-pool it replaces (and every batch norm behind it is set to fit), else as average
    pooling. The network then needs fine-tuning.

    :param model: the network, left untouched
    :param calibration: images ``[N, C, H, W]`` or an iterable of batches
    :param example: one input, if neither ``calibration`` nor ``model.input_shape`` tells its shape
    :param calibration_images: at most so many images are used
    :return: the new network, with ``replaced``: module name -> what became of it
    :raises ConversionError: if functional operations hide what would have to be replaced, or there is nothing to replace
    """
    new = copy.deepcopy(model)
    sample = find_example(new, calibration, example)
    replaced: dict[str, str] = {}
    watched = trace(new, sample)
    order = [node for node in watched.nodes if node.kind == "module"]
    for node in order:
        if isinstance(node.module, tuple(TO_RELU)):
            replace_module(new, node.name, nn.ReLU().train(node.module.training))
            replaced[node.name] = f"{type(node.module).__name__} -> ReLU"
    images = None if calibration is None else first_images(calibration, calibration_images).to(sample.device)
    pools = {node.name: node.module for node in order if isinstance(node.module, tuple(POOL_HANDLERS))}
    for name, pool in pools.items():
        assert pool is not None
        replaced[name] = _replace_pool(new, name, pool, sample, images)
    refused = _functional_refusals(new, sample)
    if refused:
        raise ConversionError("cannot replace the layers of this network:\n- " + "\n- ".join(refused))
    if not replaced:
        raise ConversionError("nothing to replace: the network has no max-pool, upsampling or activation other than ReLU")
    new.replaced = replaced  # type: ignore[assignment]
    note(new, "replace_layers")
    return new


def _replace_pool(
    model: nn.Module, name: str, pool: nn.Module, sample: torch.Tensor, images: torch.Tensor | None
) -> str:
    x = capture_input(model, name, sample)
    out = pool(x)
    handler = next(h for kind, h in POOL_HANDLERS.items() if isinstance(pool, kind))
    new = handler(pool, x.shape[1], tuple(x.shape[2:]), tuple(out.shape[2:])).to(x.device)  # type: ignore[arg-type]
    if isinstance(new, nn.Sequential) and isinstance(new[1], nn.BatchNorm2d):
        if isinstance(new[0], nn.Conv2d):
            fit_to_pool(new[0], new[1], pool, None if images is None else capture_input(model, name, images))
        if images is not None:
            match_batch_norm(new[0], new[1], capture_input(model, name, images))
        else:
            with torch.no_grad():  # the identity, but for rounding
                new[1].weight.fill_((1 + new[1].eps) ** 0.5)
    replace_module(model, name, new.train(pool.training))
    kind = "dropped" if isinstance(new, nn.Identity) else type(new[0]).__name__ if isinstance(new, nn.Sequential) else type(new).__name__
    return f"{type(pool).__name__} -> {kind}"


class _Reached(Exception):
    pass


@torch.no_grad()
def capture_input(model: nn.Module, name: str, images: torch.Tensor, batch_size: int = 8) -> torch.Tensor:
    """The input of submodule ``name`` for ``images``; what comes behind it does not run."""
    caught: list[torch.Tensor] = []

    def hook(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        caught.append(args[0].detach().clone())
        raise _Reached

    handle = model.get_submodule(name).register_forward_pre_hook(hook)
    try:
        with eval_mode(model):
            for batch in images.split(batch_size):
                try:
                    model(batch)
                except _Reached:
                    continue
    finally:
        handle.remove()
    return torch.cat(caught)


def _functional_refusals(model: nn.Module, sample: torch.Tensor) -> list[str]:
    """Refusals that module surgery cannot cure: activations and pools written as functions."""
    watched = trace(model, sample)
    plans, refused = make_plan(watched, {nn.ReLU, QuantReLU})
    upsampling = [
        f"the forward of '{node.owner or 'the network'}' ({node.where}) calls interpolate: make it a module "
        "(self.up = nn.Upsample(scale_factor=2, mode='nearest')) so that it can become a transposed convolution"
        for node in watched.nodes
        if node.kind == "function" and node.name == "interpolate" and any(is_weighted(n.module) for n in watched.downstream(node))
    ]
    return list(dict.fromkeys([*refused, *upsampling]))


def check_images(images: torch.Tensor) -> None:
    """Refuse what no network can use.

    :raises InputError: for a tensor that is not ``[N, C, H, W]`` or is not finite
    """
    if images.dim() != 4 or not len(images):
        raise InputError(f"images have shape {tuple(images.shape)}, they must be [N, C, H, W] with N at least 1")
    if not bool(torch.isfinite(images).all()):
        raise InputError("images hold NaN or infinite values; give finite images in [0, 1]")
