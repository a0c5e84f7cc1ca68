"""Which images a process looks at, where several share a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from sj_lowlat.distributed import processes, rank

RecordT = TypeVar("RecordT")


def own_images(count: int, batch_size: int, monitored: int) -> list[int]:
    """The images of this process: the batches of a single one, because floats depend on a batch's size.

    :param monitored: images, from the first, that process 0 has, because one monitor counts them; all have
        equally many batches as far as this allows
    """
    loads = [0] * processes()
    images: list[int] = []
    for first in range(0, count, batch_size):
        owner = 0 if first < monitored else loads.index(min(loads))
        loads[owner] += 1
        if owner == rank():
            images += range(first, min(first + batch_size, count))
    return images


def in_order(parts: Sequence[tuple[Sequence[int], Sequence[RecordT]]]) -> list[RecordT]:
    """Records of all images, from those of each process and their places."""
    pairs = [pair for places, records in parts for pair in zip(places, records, strict=False)]
    return [record for _, record in sorted(pairs, key=lambda pair: pair[0])]
