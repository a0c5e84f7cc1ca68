"""Letterboxed batches of a data set."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sj_lowlat.data.letterbox import Letterbox, letterbox
from sj_lowlat.data.sample import DetectionDataset, Sample
from sj_lowlat.errors import InputError

__all__ = ["Batch", "batches", "collate"]


class Batch(NamedTuple):
    """Pictures ready for a network.

    :param images: float32 ``[N, 3, S, S]`` in [0, 1]
    :param letterboxes: where each picture lies, to bring boxes back
    :param samples: the originals
    """

    images: Tensor
    letterboxes: list[Letterbox]
    samples: list[Sample]


def collate(samples: list[Sample], size: int, resize: str = "letterbox") -> Batch:
    """Letterbox one or more samples to ``size`` px and stack them."""
    images, boxes = zip(*(letterbox(sample.image, size, resize) for sample in samples), strict=True)
    return Batch(torch.stack(images), list(boxes), samples)  # [N, 3, S, S]


def batches(
    dataset: DetectionDataset,
    batch_size: int,
    size: int,
    *,
    shuffle: bool = False,
    seed: int = 0,
    workers: int = 0,
    resize: str = "letterbox",
) -> DataLoader[Sample]:
    """Go through a data set in letterboxed batches; the global random state is not touched.

    :param batch_size: images a batch; the last batch may be smaller
    :param size: side of the network input, in pixels
    :param shuffle: draw a new order for every pass, from ``seed``
    :param workers: processes that read images; 0 reads in this one
    :param resize: ``"stretch"`` fills the square, as for :func:`letterbox`
    :return: a loader of :class:`Batch`, whose length is the number of batches
    :raises InputError: if ``batch_size`` or ``size`` is not positive
    """
    if batch_size < 1 or size < 1:
        raise InputError(f"batch_size {batch_size} and size {size} came: both must be at least 1")
    return DataLoader(
        cast("Dataset[Sample]", dataset),
        batch_size=batch_size,
        shuffle=shuffle,
        num_workers=workers,
        collate_fn=partial(collate, size=size, resize=resize),
        generator=torch.Generator().manual_seed(seed),
    )
