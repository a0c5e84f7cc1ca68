"""Places for the labels of boxes: inside the frame, on no other label, on no head where that can be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_ROWS = np.array([0, *(sign * step for step in range(1, 9) for sign in (1, -1))])  # that a label may move
# what hiding is worth against a label's move by its own height
_ON_LABEL, _ON_HEAD, _ON_BOX, _ON_OTHER = 60.0, 4.0, 0.5, 0.7


def place_labels(
    sizes: Sequence[tuple[int, int]], boxes: np.ndarray, frame: tuple[int, int]
) -> list[tuple[int, int]]:
    """Upper left corners of labels, the most important one first.

    Each label tries places above, below and inside its box, at its left or right edge, and rows around them,
    and takes the cheapest: least of other labels, of heads (the middle of the upper third of a box) and of
    boxes hidden, near its box.

    :param sizes: width and height of each label, in pixels
    :param boxes: ``[M, 4]`` x1, y1, x2, y2 of the labels' boxes
    :param frame: width and height of the picture
    :return: x and y of each label, which lies inside the frame unless it is larger
    """
    boxes = np.asarray(boxes, dtype=float).reshape(-1, 4)
    sides = boxes[:, 2:] - boxes[:, :2]
    heads = np.concatenate([boxes[:, :2] + sides * [0.25, 0], boxes[:, 2:] - sides * [0.25, 0.66]], 1)
    placed = np.zeros((0, 4))
    corners = []
    for index, ((width, height), box) in enumerate(zip(sizes, boxes, strict=True)):
        spots = _candidates(box, width, height, frame)
        area = width * height
        covered = _hidden(spots, placed)
        cost = _ON_LABEL * (covered.sum(1) / area + (covered > 0).any(1))
        cost += _ON_HEAD * _hidden(spots, heads).sum(1) / area
        inside = _hidden(spots, boxes) / area
        cost += _ON_BOX * inside.sum(1) + _ON_OTHER * (inside.sum(1) - inside[:, index])
        cost += _distance(spots, box, height)
        best = spots[int(cost.argmin())]
        placed = np.concatenate([placed, best[None]])
        corners.append((int(best[0]), int(best[1])))
    return corners


def _candidates(box: np.ndarray, width: int, height: int, frame: tuple[int, int]) -> np.ndarray:
    """Places to try ``[C, 4]``, the nicest first."""
    left, top, right, bottom = box
    rows = [top - height, bottom + 1, bottom - height, top]
    y = np.concatenate([row + _ROWS * height for row in rows])
    x = np.array([left, right - width + 1])
    spots = np.stack(np.broadcast_arrays(x[None, :], y[:, None]), -1).reshape(-1, 2)
    most = np.maximum(np.array(frame) - [width, height], 0)
    spots = np.clip(spots, 0, most).round()
    return np.concatenate([spots, spots + [width, height]], 1)


def _hidden(spots: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Pixels that each place hides of each rectangle, ``[C, P]``."""
    low = np.maximum(spots[:, None, :2], others[None, :, :2])
    high = np.minimum(spots[:, None, 2:], others[None, :, 2:])
    return (high - low).clip(min=0).prod(-1)


def _distance(spots: np.ndarray, box: np.ndarray, height: int) -> np.ndarray:
    """Gap between each place and its box, in heights of the label; a little more at the right and below."""
    gap_x = np.maximum(box[0] - spots[:, 2], spots[:, 0] - box[2]).clip(min=0)
    gap_y = np.maximum(box[1] - spots[:, 3], spots[:, 1] - box[3]).clip(min=0)
    shift = 0.1 * (spots[:, 0] > box[0] + 1) + 0.15 * (spots[:, 1] > box[1])
    return (gap_x + gap_y) / height + shift
