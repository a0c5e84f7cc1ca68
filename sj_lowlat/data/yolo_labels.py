"""Label files of YOLO's format: one object a line, in shares of the picture's sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from sj_lowlat.errors import InputError
from sj_lowlat.files import read_text

_LARGEST = 4 * 2**20  # bytes of a file: some ten thousand objects, or polygons of some hundred
_SLACK = 0.01  # how far coordinates may be outside, by rounding or augmentation
_ALLOWED = "a line is class x_centre y_centre width height, or class and the x y of 3 or more points"

Boxes = npt.NDArray[np.float64]


def read_labels(path: Path, classes: int) -> tuple[Boxes, list[int]]:
    """The objects of a picture.

    A line of five numbers is a box: with cx, cy, w, h in shares of the picture's width and height::

        x1, x2 = cx - w / 2, cx + w / 2
        y1, y2 = cy - h / 2, cy + h / 2

    A longer one is a polygon (of a segmentation, or the corners of a turned box), whose enclosing box is
    taken.

    :param classes: how many there are
    :return: float64 ``[M, 4]`` x1 y1 x2 y2 in shares of the picture's sides, not clipped; labels
    :raises InputError: for a line that is nothing of the kind, naming file and line
    """
    if path.stat().st_size > _LARGEST:
        raise InputError(f"{path} has more than {_LARGEST} bytes, it is no label file: replace it")
    boxes, labels = [], []
    for number, line in enumerate(read_text(path, "a label file").split("\n"), start=1):
        if words := line.split():
            try:
                box, label = _object(words, classes)
            except ValueError as error:
                raise InputError(
                    f"{path}, line {number}: {' '.join(words)!r:.80} came, {error}; {_ALLOWED}"
                ) from None
            boxes.append(box)
            labels.append(label)
    return np.array(boxes, dtype=np.float64).reshape(-1, 4), labels


def _object(words: list[str], classes: int) -> tuple[list[float], int]:
    """:raises ValueError: that says what is wrong"""
    try:
        first, *numbers = map(float, words)
    except ValueError:
        raise ValueError("which is not all numbers") from None
    if len(numbers) != 4 and (len(numbers) < 6 or len(numbers) % 2):
        hint = " (the sixth may be a score: labels have none)" if len(numbers) == 5 else ""
        raise ValueError(f"{len(words)} numbers{hint}")
    if not first.is_integer() or not 0 <= first < classes:
        raise ValueError(f"and there are the classes 0 to {classes - 1}")
    # written so that NaN is refused
    if not all(-_SLACK <= value <= 1 + _SLACK for value in numbers):
        raise ValueError(
            "and coordinates must lie in [0, 1]: divide pixels by the picture's width and height"
        )
    if len(numbers) == 4:
        cx, cy, w, h = numbers
        return [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], int(first)
    xs, ys = numbers[::2], numbers[1::2]
    return [min(xs), min(ys), max(xs), max(ys)], int(first)
