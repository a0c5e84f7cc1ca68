"""Which pictures: files and folders, and parts of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from sj_lowlat.data import DetectionDataset, ImageFolderDataset, Part, letterbox, spaced
from sj_lowlat.errors import InputError


def first_images(dataset: DetectionDataset, limit: int | None) -> DetectionDataset:
    """The first ``limit`` images, or all."""
    if limit is None:
        return dataset
    if limit < 1:
        raise InputError(f"limit is {limit}; give at least 1 image, or leave it out for all")
    return Part(dataset, range(min(limit, len(dataset))))


def calibration_images(dataset: DetectionDataset, count: int, size: int) -> Tensor:
    """Images from all over a data set, letterboxed: ``[count, 3, size, size]``, fewer where it has fewer."""
    if count < 1:
        raise InputError(f"calibration_images is {count}; give at least 1")
    return torch.stack([letterbox(dataset[place].image, size)[0] for place in spaced(len(dataset), count)])


def find_pictures(paths: Sequence[Path]) -> list[tuple[Path, Path]]:
    """All pictures of some files and folders.

    :return: (file, name of the drawn picture: relative, PNG or JPEG, with a number where a name is taken)
    """
    found: list[tuple[Path, Path]] = []
    for path in paths:
        if path.is_dir():
            found += [(file, file.relative_to(path)) for file in ImageFolderDataset(path).images]
        elif path.is_file() or path.is_char_device():  # a camera
            found.append((path, Path(path.name)))
        else:
            raise FileNotFoundError(f"no picture or folder at {path}: check the path")
    named: dict[Path, Path] = {}  # name -> file
    for file, name in found:
        if name.suffix.lower() not in (".png", ".jpg", ".jpeg"):
            name = name.with_suffix(".png")
        new, number = name, 1
        while new in named:
            number += 1
            new = name.with_stem(f"{name.stem}-{number}")
        named[new] = file
    return [(file, name) for name, file in named.items()]
