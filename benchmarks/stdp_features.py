"""Stage 1 of the directly trained detector: its first layers learn by STDP, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from direct_snn import DirectSNN
from stdp import Filters, Rule, contrast
from torch import Tensor, nn

from sj_lowlat.encoders import Poisson


def crops(pictures: Any, plan: Mapping[str, Any], size: int, batch: int) -> Tensor:
    """Squares of pictures at the network's scale, ``[N, 3, C, C]`` in [0, 1]; of a picture only its image is
    read."""
    draw = torch.Generator().manual_seed(plan["seed"] * 1_000_003 + batch)
    side, found = plan["crop"], []
    for index in torch.randint(len(pictures), (plan["batch_size"],), generator=draw).tolist():
        image = pictures[index].image
        extents = image.shape[1:]
        own = min(round(side * max(extents) / size), *extents)  # side in the picture's own pixels
        top, left = (int(torch.randint(extent - own + 1, (1,), generator=draw)) for extent in extents)
        square = image[None, :, top : top + own, left : left + own].float() / 255
        found.append(F.interpolate(square, (side, side), mode="bilinear", antialias=True)[0].clamp(0, 1))
    return torch.stack(found)


@torch.no_grad()
def learn_features(model: DirectSNN, pictures: Any, plan: Mapping[str, Any], size: int) -> list[Any]:
    """Stage 1, in place: the first layers by STDP, each on the spikes of those before it.

    :param plan: the settings ``features``
    :return: a record for each layer: spread of the filters, shares of the spikes
    """
    device, records = next(model.parameters()).device, []
    time_steps, model.time_steps = model.time_steps, plan["time_steps"]
    for layer, block in enumerate(model.first_blocks()):
        conv = block.conv
        filters = first_filters(conv, plan, layer)
        before = filters.weight.clone()
        filters.to(device)

        def batch_spikes(number: int, layer: int = layer) -> Iterator[Tensor]:
            images = crops(pictures, plan, size, layer * plan["batches"] + number)
            if layer:
                return iter(model(images.to(device), layers=layer))
            photos = contrast(images, plan["window"], plan["gain"])
            poisson = Poisson(plan["seed"] * plan["batches"] + number)
            return (poisson(photos, step, 1).to(device) for step in range(plan["time_steps"]))

        wins = [filters.learn(batch_spikes(number)) for number in range(plan["batches"])]
        conv.weight.copy_(filters.weight)
        find_statistics(model, pictures, plan, size, layer)
        last = torch.stack(wins[-(len(wins) // 4 + 1) :]).sum(0)
        shares = (last / last.sum()).tolist()
        records.append({"layer": layer, **spread(before, filters.weight.cpu()), "shares": shares})
    model.time_steps = time_steps
    return records


def first_filters(conv: nn.Conv2d, plan: Mapping[str, Any], layer: int) -> Filters:
    """What a layer learns with, before it has learnt."""
    shape = conv.in_channels, conv.out_channels, conv.kernel_size[0], conv.stride[0]
    return Filters(*shape, Rule(**plan["rule"]), plan["seed"] + layer)


def find_statistics(model: DirectSNN, pictures: Any, plan: Mapping[str, Any], size: int, layer: int) -> None:
    """Give a layer's batch norm the mean and variance of its currents on new crops."""
    block, device = model.first_blocks()[layer], next(model.parameters()).device
    norm, momentum = block.bn, block.bn.momentum
    norm.reset_running_stats()
    norm.momentum = None  # the mean over all batches
    norm.train()
    for number in range(plan["statistics"]):
        images = crops(pictures, plan, size, -1 - number).to(device)
        norm(block.conv(model(images, layers=layer).flatten(0, 1) if layer else images))
    norm.eval()
    norm.momentum = momentum


def spread(before: Tensor, after: Tensor) -> dict[str, float]:
    """How filters ``[F, C, k, k]`` differ: correlations between different filters, and of each with itself
    before."""
    pairs = (unit(after) @ unit(after).T)[~torch.eye(len(after), dtype=torch.bool)]
    own = (unit(before) * unit(after)).sum(1)
    found = {"deviation_before": before.std(), "deviation": after.std(), "largest": after.abs().max()}
    found |= {"correlation": pairs.abs().mean(), "highest_correlation": pairs.max(), "with_start": own.mean()}
    return {name: round(float(value), 4) for name, value in found.items()}


def unit(filters: Tensor) -> Tensor:
    """Filters as rows of mean 0 and length 1, whose products are correlations."""
    rows = filters.flatten(1) - filters.flatten(1).mean(1, keepdim=True)
    return F.normalize(rows, dim=1)
