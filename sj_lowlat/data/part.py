"""Parts of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch.utils.data import Dataset, Subset

from sj_lowlat.data.sample import DetectionDataset, Sample, Target, target_of

__all__ = ["Part", "spaced"]


class Part(Subset[Sample]):
    """A data set's images at ``indices``; targets come without decoding pictures where it allows that."""

    def __init__(self, dataset: DetectionDataset, indices: Sequence[int]) -> None:
        super().__init__(cast("Dataset[Sample]", dataset), list(indices))
        self.class_names = dataset.class_names

    def target(self, index: int) -> Target:
        """What is in a picture."""
        return target_of(cast(DetectionDataset, self.dataset), self.indices[index])


def spaced(length: int, count: int) -> list[int]:
    """``count`` indices, but at most ``length``, spread evenly from 0 to ``length - 1``."""
    return torch.linspace(0, length - 1, min(count, length)).long().tolist()
