"""Layer replacement (section 4.2 of the paper): layers without a good spiking form are exchanged."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import fx, nn

from sj_lowlat.conversion.additions import complete_sums
from sj_lowlat.conversion.analysis import make_plan
from sj_lowlat.conversion.examples import Images, find_example, first_images, like_parameters
from sj_lowlat.conversion.fit import fit_to_pool, match_batch_norm, upsampling_convolution
from sj_lowlat.conversion.spike import activation_types
from sj_lowlat.errors import ConversionError
from sj_lowlat.graph.edit import downstream, drop_layer, one_call_each, replace_layer, upstream
from sj_lowlat.graph.operations import function_name, is_weighted, place
from sj_lowlat.network import GraphNetwork, refuse_spiking
from sj_lowlat.record import evaluating

#: activations that are replaced by ReLU
TO_RELU: set[type[nn.Module]] = {
    nn.LeakyReLU, nn.PReLU, nn.SiLU, nn.ReLU6, nn.Hardswish, nn.GELU, nn.ELU, nn.CELU, nn.Mish, nn.Softplus,
}  # fmt: skip

#: handler: (the layer to replace, channels, its input size, its output size) -> the layers that take its
# place
Handler = Callable[[nn.Module, int, tuple[int, int], tuple[int, int]], nn.Module]


def _block(layer: nn.Module, channels: int) -> nn.Sequential:
    return nn.Sequential(layer, nn.BatchNorm2d(channels), nn.ReLU())


def replace_max_pool(
    pool: nn.Module, channels: int, size: tuple[int, int], out_size: tuple[int, int]
) -> nn.Module:
    """Strided convolution, batch norm and ReLU in place of a max-pool; stride-1 pools of equal size are
    dropped.

    :raises ConversionError: if no convolution of the pool's kernel and stride gives the pool's output size
    """
    assert isinstance(pool, nn.MaxPool2d)
    if size == out_size:
        return nn.Identity()
    kernel, stride, padding = (_pair(v) for v in (pool.kernel_size, pool.stride, pool.padding))
    if any(d != 1 for d in _pair(pool.dilation)):
        raise ConversionError(f"{pool} is dilated, which has no replacement; register one in POOL_HANDLERS")
    wider = (padding[0] + 1, padding[1] + 1)
    choices = [(kernel, padding), (kernel, wider)]
    if kernel == (2, 2) and stride == (2, 2):  # an odd kernel sees the pool's window from its middle
        choices.insert(0, ((3, 3), (1, 1)))
    for taps, pad in choices:
        if out_size == tuple(
            (n + 2 * p - k) // s + 1 for n, k, s, p in zip(size, taps, stride, pad, strict=True)
        ):
            return _block(nn.Conv2d(channels, channels, taps, stride, pad, bias=False), channels)
    raise ConversionError(
        f"{pool} turns {size[0]} x {size[1]} into {out_size[0]} x {out_size[1]} pixels, "
        "which no convolution of its kernel and stride does; "
        "pad the images, drop ceil_mode, or register a handler in POOL_HANDLERS"
    )


def replace_upsample(
    up: nn.Module, channels: int, size: tuple[int, int], out_size: tuple[int, int]
) -> nn.Module:
    """Transposed convolution, batch norm and ReLU in place of nearest upsampling, equal to it at first.

    :raises ConversionError: for other modes and factors that are not whole
    """
    assert isinstance(up, nn.Upsample)
    factor = out_size[0] // size[0]
    if not up.mode.startswith("nearest") or (size[0] * factor, size[1] * factor) != out_size:
        raise ConversionError(
            f"{up} is replaced only for mode='nearest' and whole factors; change the network's upsampling"
        )
    return _block(upsampling_convolution(channels, factor), channels)


#: module type -> handler, for layers that change the picture's size; extend it for layers of your own
POOL_HANDLERS: dict[type[nn.Module], Handler] = {
    nn.MaxPool2d: replace_max_pool,
    nn.Upsample: replace_upsample,
}


def _pair(value: int | tuple[int, ...] | None) -> tuple[int, int]:
    assert value is not None
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def replace_layers(
    model: nn.Module,
    calibration: Images | None = None,
    *,
    example: torch.Tensor | None = None,
    calibration_images: int = 32,
    only_activations: bool = False,
) -> GraphNetwork:
    """Replace the layers without a good spiking form: max-pool by strided convolution, upsampling by
    transposed convolution, leaky ReLU and its kin by ReLU. Stride-1 max-pools that keep the size are dropped.
    Layers before the first weighted layer, or behind the heads, stay.

    A transposed convolution starts equal to the nearest upsampling it replaces (where that reads no negative
    values). With ``calibration`` images a strided convolution starts as the least-squares fit to the max-pool
    it replaces, and its batch norm changes nothing in train or eval mode; else it starts as average pooling.
    The network then needs fine-tuning, less of it with ``only_activations``, which leaves max-pools and
    nearest upsampling in place: :func:`~sj_lowlat.conversion.convert` has exact spiking forms for them.

    :param model: the network, left untouched
    :param calibration: images ``[N, C, H, W]`` or an iterable of batches
    :param example: one input, if neither ``calibration`` nor ``model.input_shape`` tells its shape
    :param calibration_images: use at most this many images
    :param only_activations: replace activations only
    :return: a :class:`~sj_lowlat.network.GraphNetwork`, with ``replaced``: module name -> its replacement
    :raises ConversionError: if a layer cannot be replaced, functional operations hide what would have to be
        replaced, or there is nothing to replace
    :raises InputError: for images that cannot be used
    """
    refuse_spiking(model)
    sample = find_example(model, calibration, example)
    new = GraphNetwork.of(model, sample)
    one_call_each(new)
    images = (
        None if calibration is None else like_parameters(new, first_images(calibration, calibration_images))
    )
    activations, pools = _replaceable(new)
    pools = {} if only_activations else pools
    for name, module in activations.items():
        replace_layer(new, name, nn.ReLU().train(module.training))
    replaced = {name: f"{type(module).__name__} -> ReLU" for name, module in activations.items()}
    for name, module in pools.items():
        replaced[name] = _replace_pool(new, name, module, sample, images)
    refused = _functional_refusals(new, sample, only_activations)
    if refused:
        raise ConversionError("cannot replace the layers of this network", refused)
    if not replaced:
        raise ConversionError(
            "nothing to replace: the network has no activation other than ReLU"
            + ("" if only_activations else ", and no max-pool or upsampling")
        )
    new.info = replace(new.info, replaced={**new.info.replaced, **replaced})
    return new


def _is_between(network: GraphNetwork, node: fx.Node) -> bool:
    """Whether weighted layers come before and behind it, so that spikes would pass it."""
    sides = (upstream(node), downstream(node))
    return all(any(is_weighted(network.module_of(other)) for other in side) for side in sides)


def _replaceable(network: GraphNetwork) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
    """Activations and pools between the first layer and the heads."""
    activations: dict[str, nn.Module] = {}
    pools: dict[str, nn.Module] = {}
    for node in network.graph.nodes:
        module, name = network.module_of(node), str(node.target)
        kinds = ((TO_RELU, activations), (POOL_HANDLERS, pools))
        found = next((into for types, into in kinds if isinstance(module, tuple(types))), None)
        if module is None or found is None or not _is_between(network, node):
            continue
        found[name] = module
    return activations, pools


def _replace_pool(
    network: GraphNetwork, name: str, pool: nn.Module, sample: torch.Tensor, images: torch.Tensor | None
) -> str:
    x = capture_input(network, name, sample)
    size, out_size = (tuple(y.shape[2:]) for y in (x, pool(x)))
    handler = next(handler for kind, handler in POOL_HANDLERS.items() if isinstance(pool, kind))
    with torch.random.fork_rng(devices=()):  # fresh layers draw weights, which are set below
        new = handler(pool, x.shape[1], size, out_size).to(x)
    if isinstance(new, nn.Identity):
        drop_layer(network, name)
        return f"{type(pool).__name__} -> dropped"
    layer = new
    if isinstance(new, nn.Sequential) and isinstance(new[1], nn.BatchNorm2d):
        layer = new[0]
        seen = None if images is None else capture_input(network, name, images)
        if isinstance(pool, nn.MaxPool2d) and isinstance(layer, nn.Conv2d):
            fit_to_pool(layer, new[1], pool, seen)
        if seen is not None:
            match_batch_norm(layer, new[1], seen)
        else:
            with torch.no_grad():  # the identity, but for rounding
                new[1].weight.fill_((1 + new[1].eps) ** 0.5)
    replace_layer(network, name, new.train(pool.training))
    return f"{type(pool).__name__} -> {type(layer).__name__}"


class _Reached(Exception):
    pass


@torch.no_grad()
def capture_input(model: nn.Module, name: str, images: torch.Tensor, batch_size: int = 8) -> torch.Tensor:
    """The input of submodule ``name`` for ``images``; the run ends there."""
    caught: list[torch.Tensor] = []

    def hook(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        caught.append(args[0].detach().clone())
        raise _Reached

    handle = model.get_submodule(name).register_forward_pre_hook(hook)
    try:
        with evaluating(model):
            for batch in images.split(batch_size):
                try:
                    model(batch)
                except _Reached:
                    continue
    finally:
        handle.remove()
    return torch.cat(caught)


def _functional_refusals(network: GraphNetwork, sample: torch.Tensor, only_activations: bool) -> list[str]:
    """Refusals that an exchange of modules cannot cure: activations and pools written as functions."""
    rest = copy.deepcopy(network)
    complete_sums(rest, activation_types("signed"), sample)
    refused = make_plan(rest, activation_types("signed")).refused
    if only_activations:
        return refused
    refused += [
        f"{place(node)}: make it a module (self.up = nn.Upsample(scale_factor=2, mode='nearest')) "
        "so that it can become a transposed convolution"
        for node in network.graph.nodes
        if node.op == "call_function" and "upsample" in function_name(node) and _is_between(network, node)
    ]
    return list(dict.fromkeys(refused))
