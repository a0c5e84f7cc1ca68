"""What a protocol found out about detections, image by image: which count, and which find an object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sj_lowlat.errors import InputError

Integers = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]


@dataclass(frozen=True, eq=False)
class Ranking:
    """Detections of one class in all images, by falling score, without those that neither find nor miss.

    :param images: int ``[D]``, place of the image of each
    :param hits: int ``[H]``, ranks of those that find an object
    :param scores: float32 ``[D]``, falling
    """

    images: Integers
    hits: Integers
    scores: Floats


@dataclass(frozen=True, eq=False)
class ClassMatches:
    """One class that has an object to find.

    :param label: in the data set
    :param positives: int ``[N]``, objects to find in each image
    :param rankings: one for each IoU threshold of the protocol, 0.5 first
    """

    label: int
    positives: Integers
    rankings: tuple[Ranking, ...]


@dataclass(frozen=True, eq=False)
class Matches:
    """Detections of a whole data set, compared with its boxes; of :func:`~sj_lowlat.evaluation.match`.

    :param protocol: name of the rules
    :param images: how many the data set has
    :param classes: those that have an object to find
    """

    protocol: str
    images: int
    classes: tuple[ClassMatches, ...]

    def grouped(self, groups: Sequence[int]) -> Matches:
        """The same, with a group of images in the place of an image, so that resamples draw whole groups.

        Frames of one video are alike: to draw them singly would make an interval too narrow.

        :param groups: group of each image, from 0 on, none left out
        :raises InputError: if they are others
        """
        numbers = np.asarray(groups)
        known = set(numbers.tolist())
        if numbers.shape != (self.images,) or known != set(range(len(known))):
            raise InputError(
                f"groups are {sorted(known)} for {numbers.size} images: give one for each of {self.images} "
                f"images, numbered from 0 on with none left out"
            )

        def of(matches: ClassMatches) -> ClassMatches:
            positives = np.bincount(numbers, weights=matches.positives, minlength=len(known))
            rankings = (replace(each, images=numbers[each.images]) for each in matches.rankings)
            return replace(matches, positives=positives.astype(np.int64), rankings=tuple(rankings))

        return replace(self, images=len(known), classes=tuple(map(of, self.classes)))
