"""Class names of COCO and PASCAL VOC, and how the names of two data sets meet."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sj_lowlat.errors import InputError

__all__ = ["COCO_CLASSES", "COCO_IDS", "VOC_CLASSES", "match_classes"]

# The official category ids of COCO run from 1 to 90 with ten holes.
_COCO = """
1 person, 2 bicycle, 3 car, 4 motorcycle, 5 airplane, 6 bus, 7 train, 8 truck, 9 boat, 10 traffic light,
11 fire hydrant, 13 stop sign, 14 parking meter, 15 bench, 16 bird, 17 cat, 18 dog, 19 horse, 20 sheep,
21 cow, 22 elephant, 23 bear, 24 zebra, 25 giraffe, 27 backpack, 28 umbrella, 31 handbag, 32 tie,
33 suitcase, 34 frisbee, 35 skis, 36 snowboard, 37 sports ball, 38 kite, 39 baseball bat,
40 baseball glove, 41 skateboard, 42 surfboard, 43 tennis racket, 44 bottle, 46 wine glass, 47 cup,
48 fork, 49 knife, 50 spoon, 51 bowl, 52 banana, 53 apple, 54 sandwich, 55 orange, 56 broccoli,
57 carrot, 58 hot dog, 59 pizza, 60 donut, 61 cake, 62 chair, 63 couch, 64 potted plant, 65 bed,
67 dining table, 70 toilet, 72 tv, 73 laptop, 74 mouse, 75 remote, 76 keyboard, 77 cell phone,
78 microwave, 79 oven, 80 toaster, 81 sink, 82 refrigerator, 84 book, 85 clock, 86 vase, 87 scissors,
88 teddy bear, 89 hair drier, 90 toothbrush
"""
_VOC = """
aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant
sheep sofa train tvmonitor
"""
_COCO_ROWS = tuple(entry.strip().split(" ", 1) for entry in _COCO.split(","))

#: the 80 names of COCO in the official order
COCO_CLASSES: tuple[str, ...] = tuple(name for _, name in _COCO_ROWS)
#: the official category id of each name in :data:`COCO_CLASSES`
COCO_IDS: tuple[int, ...] = tuple(int(number) for number, _ in _COCO_ROWS)

#: the 20 names of PASCAL VOC in alphabetic order
VOC_CLASSES: tuple[str, ...] = tuple(_VOC.split())

_ALIASES = {"aeroplane": "airplane", "motorbike": "motorcycle", "sofa": "couch", "tvmonitor": "tv"}


def _key(name: str) -> str:
    """What two spellings of one class have in common."""
    plain = re.sub("[ _-]", "", name.lower())
    return _ALIASES.get(plain, plain)


def match_classes(source: Sequence[str], target: Sequence[str]) -> dict[int, int]:
    """Pair the classes of two lists by name.

    Case, spaces, ``_`` and ``-`` do not count, and the spellings of VOC, COCO and darknet are one
    (aeroplane/airplane, motorbike/motorcycle, sofa/couch, tvmonitor/tv).

    :return: index in ``source`` -> index in ``target``; classes without a partner are absent
    :raises InputError: if no class of ``source`` is in ``target``
    """
    places: dict[str, int] = {}
    for index, name in enumerate(target):
        places.setdefault(_key(name), index)
    pairs = {index: places[_key(name)] for index, name in enumerate(source) if _key(name) in places}
    if not pairs:
        raise InputError(
            f"none of the {len(source)} source classes ({_some(source)}) is among the {len(target)} "
            f"target classes ({_some(target)}): give lists that share at least one name"
        )
    return pairs


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
