"""Data from one word of the command line."""

from __future__ import annotations

import re
from pathlib import Path

from sj_lowlat.data import (
    CocoDataset,
    DetectionDataset,
    ImageFolderDataset,
    TrafficDataset,
    VocDataset,
    YoloDataset,
)
from sj_lowlat.data.images import image_size
from sj_lowlat.data.yolo_layout import find_layout
from sj_lowlat.errors import InputError
from sj_lowlat.spike_camera import SpikeDataset

DATA_FORMS = (
    "give coco:ANNOTATIONS.json:IMAGE_FOLDER, voc:FOLDER_ABOVE_VOCdevkit[:IMAGE_SET], "
    "yolo:DATA.yaml_OR_FOLDER[:IMAGE_SET], traffic[:COUNT[:SEED]], "
    "spikes:INSTANCES.json[:WINDOW] (of sj-lowlat encode), or a picture or folder of pictures"
)
_NUMBER = re.compile("[0-9]{1,9}")
_VOC_SETS = ("train", "val", "trainval", "test")


def open_data(spec: str, usual_set: str = "val") -> DetectionDataset:
    """Open the data set that a word names, see ``DATA_FORMS``.

    :param usual_set: of data in YOLO's format, where the word names none
    """
    kind, colon, rest = spec.partition(":")
    if kind == "yolo" and colon:
        return _yolo(rest, usual_set)
    if kind in _OPEN and (colon or kind == "traffic"):
        return _OPEN[kind](rest)
    path = Path(spec)
    if not path.exists():
        raise FileNotFoundError(f"no data {spec!r}: {DATA_FORMS}")
    if path.is_file():
        try:
            image_size(path)
        except InputError as error:
            raise InputError(f"{spec} is not a picture: {DATA_FORMS}") from error
    return ImageFolderDataset(path)


def _coco(rest: str) -> DetectionDataset:
    words = rest.split(":")
    splits = [(":".join(words[:i]), ":".join(words[i:])) for i in range(1, len(words))]
    if not splits:
        raise InputError(f"coco:{rest} names no image folder: {DATA_FORMS}")
    # a path may hold a colon: take the split whose halves exist
    whole = [split for split in splits if Path(split[0]).is_file() and Path(split[1]).is_dir()]
    half = [split for split in splits if Path(split[0]).is_file() or Path(split[1]).is_dir()]
    return CocoDataset(*(whole + half + splits)[0])


def _voc(rest: str) -> DetectionDataset:
    root, colon, image_set = rest.rpartition(":")
    if colon and (image_set in _VOC_SETS or (Path(root).is_dir() and not Path(rest).is_dir())):
        return VocDataset(root, image_set)
    return VocDataset(rest)


def _yolo(rest: str, usual_set: str) -> DetectionDataset:
    path, colon, image_set = rest.rpartition(":")
    if colon and Path(path).exists() and not Path(rest).exists():
        return YoloDataset(path, image_set)
    return YoloDataset(rest, usual_set if usual_set in find_layout(rest).sets else None)


def _traffic(rest: str) -> DetectionDataset:
    words = rest.split(":") if rest else []
    if len(words) > 2 or not all(_NUMBER.fullmatch(word) for word in words):
        raise InputError(f"traffic:{rest:.50} must hold whole numbers, as in traffic:100:1: {DATA_FORMS}")
    length, seed = (*map(int, words), *(100, 0)[len(words) :])
    return TrafficDataset(length, seed=seed)


def _spikes(rest: str) -> DetectionDataset:
    path, colon, window = rest.rpartition(":")
    if colon and _NUMBER.fullmatch(window):
        return SpikeDataset(path, window=int(window))
    return SpikeDataset(rest)


_OPEN = {"coco": _coco, "voc": _voc, "traffic": _traffic, "spikes": _spikes}
