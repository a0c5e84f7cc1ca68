"""Pictures side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sj_lowlat.errors import InputError
from sj_lowlat.plots.style import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_images(
    images: Sequence[Tensor], titles: Sequence[str] | None = None, columns: int | None = None
) -> Figure:
    """Lay pictures out in a grid, each with a title above it.

    :param images: uint8 ``[3, H, W]``, sizes may differ
    :param columns: default: nearest to a square
    :raises InputError: if there is no picture, one is not uint8 ``[3, H, W]``, or titles do not match
    """
    if not images:
        raise InputError("plot_images got no image; give at least one uint8 tensor [3, H, W].")
    for index, image in enumerate(images):
        if image.dtype != torch.uint8 or image.dim() != 3 or image.shape[0] != 3:
            raise InputError(
                f"image {index} is {image.dtype} of shape {tuple(image.shape)}; give uint8 tensors [3, H, W]."
            )
    if titles is not None and len(titles) != len(images):
        raise InputError(
            f"plot_images got {len(images)} images and {len(titles)} titles; give one title each."
        )
    columns = min(columns or math.ceil(math.sqrt(len(images))), len(images))
    aspects = [image.shape[1] / image.shape[2] for image in images]
    heights = [
        3.2 * max(aspects[start : start + columns]) + (0.3 if titles else 0.0)
        for start in range(0, len(images), columns)
    ]
    figure = new_figure(width=3.2 * columns, height=sum(heights))
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    for index, image in enumerate(images):
        axes = figure.add_subplot(grid[index // columns, index % columns])
        axes.imshow(image.detach().cpu().permute(1, 2, 0).numpy())  # [H, W, 3]
        axes.set_axis_off()
        if titles is not None:
            axes.set_title(titles[index], fontsize=10)
    return figure
