"""Scales of activations on calibration images."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import nn

from sj_lowlat.conversion.spike import is_pointwise, negative_slope
from sj_lowlat.errors import InputError
from sj_lowlat.functional import quant_relu
from sj_lowlat.layers import Symmetric
from sj_lowlat.record import evaluating

_SAMPLES_PER_BATCH = 1 << 16
_CANDIDATES = torch.linspace(1, 0.05, 77)  # of the maximum, for the clip of least square error


def parse_statistic(statistic: str) -> float:
    """Fraction of values at or below the scale: 1.0 for ``"max"``, 0.999 for ``"99.9%"``.

    ``"mse"``, the clip of least square error, needs levels and is none of these.

    :raises InputError: for anything else
    """
    if statistic == "max":
        return 1.0
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", statistic)
    if match and 0 < float(match.group(1)) <= 100:
        return float(match.group(1)) / 100
    raise InputError(
        f"statistic is {statistic!r}; write 'max', 'mse' or a percentage above 0, such as '99.9%'"
    )


def image_batches(
    images: torch.Tensor | Iterable[torch.Tensor], batch_size: int = 8
) -> Iterator[torch.Tensor]:
    """Batches of calibration images.

    :param images: ``[N, C, H, W]``, or an iterable of such tensors (or of tuples that start with one)
    :param batch_size: images in a batch, where ``images`` is one tensor
    :raises InputError: if there are none, or they are not finite floating-point numbers
    """
    batches: Iterable[torch.Tensor] = images.split(batch_size) if isinstance(images, torch.Tensor) else images
    empty = True
    for batch in batches:
        batch = batch[0] if isinstance(batch, (tuple, list)) else batch
        if not isinstance(batch, torch.Tensor) or batch.dim() < 2 or not batch.is_floating_point():
            got = (
                f"{tuple(batch.shape)} of {batch.dtype}"
                if isinstance(batch, torch.Tensor)
                else type(batch).__name__
            )
            raise InputError(
                f"calibration images come as {got}; give floating-point tensors [N, C, H, W] in [0, 1]"
            )
        if not len(batch):
            continue
        if not bool(torch.isfinite(batch).all()):
            raise InputError("calibration images hold NaN or infinite values; give finite images in [0, 1]")
        empty = False
        yield batch
    if empty:
        raise InputError(
            "calibration holds no images; give a tensor [N, C, H, W] or a loader with at least one batch"
        )


class ScaleCollector:
    """Scale of the positive part of each channel (or layer), from a seeded sample of each batch.

    Keeps the exact maximum, and at most ``2 ** 16`` values per layer and batch (or ``2 ** 16 / C``, but no
    less than 1024, per channel).

    :param fraction: the percentile; ``None`` for the clip whose quantised ReLU has the least square error
    :param per_channel: one scale per channel
    :param levels: L of that quantised ReLU
    :param slope: below zero, of a leaky ReLU, whose clip of least square error counts both signs
    """

    def __init__(
        self,
        fraction: float | None,
        per_channel: bool,
        levels: int | None = None,
        slope: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.fraction, self.levels, self.slope = fraction, levels, slope
        self.per_channel = per_channel
        self.generator = torch.Generator().manual_seed(seed)
        self.highest: torch.Tensor | None = None
        self.samples: list[torch.Tensor] = []

    def add(self, value: torch.Tensor) -> None:
        """Take in the activations of a batch, ``[N, C, *]``."""
        rows = value.detach().float().transpose(0, 1).flatten(1)  # [C, N * positions]
        rows = rows if self.per_channel else rows.reshape(1, -1)
        both = self.fraction is None and self.slope
        highest = (rows.abs() if both else rows).amax(1)
        self.highest = highest if self.highest is None else torch.maximum(self.highest, highest)
        if self.fraction != 1:
            budget = max(1024, _SAMPLES_PER_BATCH // rows.shape[0])
            if rows.shape[1] > budget:
                picked = torch.randint(rows.shape[1], (budget,), generator=self.generator).to(rows.device)
                rows = rows[:, picked]
            self.samples.append(rows)

    def result(self) -> torch.Tensor:
        """The scale, scalar or ``[C]``; where a channel was never positive the mean of the others, or 1."""
        assert self.highest is not None
        scale = self.highest
        if self.fraction is None:
            assert self.levels is not None
            scale = _least_square_clip(torch.cat(self.samples, 1), self.highest, self.levels, self.slope)
        elif self.fraction < 1:
            values = torch.cat(self.samples, 1)
            rank = max(1, min(values.shape[1], round(self.fraction * values.shape[1])))
            scale = values.kthvalue(rank, dim=1).values
            # a channel that is seldom active: its percentile is 0, its maximum is not
            scale = torch.where(scale > 0, scale, self.highest)
        active = scale > 0
        scale = torch.where(active, scale, scale[active].mean() if bool(active.any()) else 1.0)
        return scale if self.per_channel else scale[0]


def _least_square_clip(
    values: torch.Tensor, highest: torch.Tensor, levels: int, slope: float
) -> torch.Tensor:
    """The clip per row of ``[C, n]`` that minimises the mean of (ReLU - quantised ReLU)^2, the
    highest of those that are equally good."""
    inputs = torch.where(values < 0, values / slope, values) if slope else values.relu()
    values = values if slope else inputs
    best, least = highest.clone(), torch.full_like(highest, torch.inf)
    for part in _CANDIDATES.tolist():
        clip = (highest * part).clamp(min=torch.finfo(highest.dtype).tiny)
        error = (values - quant_relu(inputs, clip[:, None], levels, slope)).square().mean(1)
        best = torch.where(error < least, clip, best)
        least = torch.minimum(least, error)
    return best


def has_both_signs(activation: nn.Module) -> bool:
    """Whether its levels lie on both sides of 0, so that its scale is that of its size."""
    return isinstance(activation, Symmetric) or is_pointwise(activation)


@torch.no_grad()
def collect_scales(
    model: nn.Module,
    names: Iterable[str],
    images: torch.Tensor | Iterable[torch.Tensor],
    statistic: str,
    per_channel: bool,
    levels: Mapping[str, int] | None = None,
) -> dict[str, torch.Tensor]:
    """Scale of the output of each named module on calibration images.

    :param model: the network
    :param names: modules to watch
    :param images: see :func:`image_batches`
    :param statistic: ``"max"``, a percentage such as ``"99.9%"``, or ``"mse"`` where levels are given
    :param per_channel: one scale per channel, or one per layer
    :param levels: name -> L of the quantised ReLU that is wanted
    :return: name -> scale
    """
    fraction = None if statistic == "mse" and levels is not None else parse_statistic(statistic)
    collectors = {
        name: ScaleCollector(
            fraction,
            per_channel,
            levels[name] if levels else None,
            negative_slope(model.get_submodule(name)),
        )
        for name in names
    }
    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda m, a, out, c=collector: c.add(out.abs() if has_both_signs(m) else out)
        )
        for name, collector in collectors.items()
    ]
    like = next(model.parameters(), torch.empty(0))
    try:
        with evaluating(model):
            for batch in image_batches(images):
                model(batch.to(device=like.device, dtype=like.dtype))
    finally:
        for handle in handles:
            handle.remove()
    return {name: collector.result() for name, collector in collectors.items()}
