"""Parts of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch.utils.data import Dataset, Subset

from sj_lowlat.data.sample import DetectionDataset, Sample, Target, target_of

__all__ = ["Part", "spaced"]


class Part(Subset[Sample]):
    """Some images of a data set, which keep its classes; their targets come without decoding pictures where
    the data set allows it.

    :param dataset: the whole
    :param indices: their places in it
    """

    def __init__(self, dataset: DetectionDataset, indices: Sequence[int]) -> None:
        super().__init__(cast("Dataset[Sample]", dataset), list(indices))
        self.class_names = dataset.class_names

    def target(self, index: int) -> Target:
        """What is in a picture."""
        return target_of(cast(DetectionDataset, self.dataset), self.indices[index])


def spaced(length: int, count: int) -> list[int]:
    """Places spread evenly over a data set, the first and the last among them.

    :param length: images of the data set
    :param count: how many places; no more than ``length`` come
    """
    return torch.linspace(0, length - 1, min(count, length)).long().tolist()
