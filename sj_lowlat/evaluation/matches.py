"""What a protocol found out about detections, image by image: which count, and which find an object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

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
