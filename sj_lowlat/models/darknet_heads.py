"""What the [yolo] and [region] sections of a darknet cfg say about the maps that reach them."""

from __future__ import annotations

import warnings

from sj_lowlat.detect import HeadSpec
from sj_lowlat.models.darknet_cfg import Section

_MOST_CLASSES, _MOST_ANCHORS = 10_000, 1000  # YOLO9000 has 9418, and 3


def yolo_spec(section: Section, stride: int) -> HeadSpec:
    """The head of YOLOv3 and later.

    :param stride: pixels of the network input per cell
    :raises InputError: for options out of range
    """
    pairs, count = _pairs(section)
    mask = section.integers("mask", tuple(range(count)))
    if not mask or not all(0 <= index < len(pairs) for index in mask):
        raise section.error(f": mask {mask} must choose among the {len(pairs)} anchors, counted from 0")
    scales = section.floats("scale_x_y", (1.0,))
    if len(scales) != 1:
        raise section.error(f": option scale_x_y must be one number; got {section.options['scale_x_y']!r}")
    return HeadSpec(
        tuple(pairs[index] for index in mask),
        stride,
        _at_most(_MOST_CLASSES, section, "classes", 20),
        scale_xy=scales[0],
        new_coords=bool(section.integer("new_coords", 0)),
    )


def region_spec(section: Section, stride: int) -> HeadSpec:
    """The head of YOLOv2, as :func:`yolo_spec`; the cfg gives its anchors in cells."""
    if section.integer("softmax", 0) != 1:
        raise section.error(": option softmax=0 is not supported, only softmax=1")
    pairs, count = _pairs(section)
    anchors = tuple((width * stride, height * stride) for width, height in pairs[:count])
    return HeadSpec(anchors, stride, _at_most(_MOST_CLASSES, section, "classes", 20), "region")


def _pairs(section: Section) -> tuple[list[tuple[float, float]], int]:
    """The anchors, and how many ``num`` says there are. Darknet takes 0.5 for numbers that are missing."""
    numbers = section.floats("anchors")
    if not numbers or ("num" not in section.options and len(numbers) % 2):
        raise section.error(f": anchors must be pairs width,height; got {len(numbers)} numbers")
    count = _at_most(_MOST_ANCHORS, section, "num", len(numbers) // 2)
    if len(numbers) < 2 * count:
        warnings.warn(
            f"{section}: num={count} anchors are {2 * count} numbers, there are {len(numbers)}; the others "
            "are 0.5, as in darknet: is a comma missing?",
            stacklevel=2,
        )
        numbers += (0.5,) * (2 * count - len(numbers))
    return list(zip(numbers[::2], numbers[1::2], strict=False)), count


def _at_most(most: int, section: Section, key: str, default: int) -> int:
    number = section.positive(key, default)
    if number > most:
        raise section.error(f": option {key} must be at most {most}; got {number}")
    return number
