"""Which pictures: files and folders, and parts of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from sj_lowlat.data import DetectionDataset, ImageFolderDataset, Sample, Target, letterbox, read_image
from sj_lowlat.data.sample import no_boxes
from sj_lowlat.errors import InputError


class Pictures:
    """A list of picture files as a data set without boxes.

    :param paths: the files
    """

    class_names: tuple[str, ...] = ()

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def target(self, index: int) -> Target:
        """The empty target that carries the picture's path."""
        return no_boxes(str(self.paths[index]))

    def __getitem__(self, index: int) -> Sample:
        return Sample.of(read_image(self.paths[index]), self.target(index))


class Part:
    """Some images of a data set.

    :param dataset: the whole
    :param indices: their places in it
    """

    def __init__(self, dataset: DetectionDataset, indices: Sequence[int]) -> None:
        self.dataset, self.indices, self.class_names = dataset, list(indices), dataset.class_names

    def __len__(self) -> int:
        return len(self.indices)

    def target(self, index: int) -> Target:
        """What is in a picture."""
        target = getattr(self.dataset, "target", None)
        return target(self.indices[index]) if callable(target) else self[index].target

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[self.indices[index]]


def first_images(dataset: DetectionDataset, limit: int | None) -> DetectionDataset:
    """The first ``limit`` images, or all.

    :raises InputError: if ``limit`` is not positive
    """
    if limit is None:
        return dataset
    if limit < 1:
        raise InputError(f"limit is {limit}; give at least 1 image, or leave it out for all")
    return Part(dataset, range(min(limit, len(dataset))))


def calibration_images(dataset: DetectionDataset, count: int, size: int) -> Tensor:
    """Images from all over a data set, letterboxed: ``[count, 3, size, size]``, fewer where it has fewer.

    :raises InputError: if ``count`` is not positive
    """
    if count < 1:
        raise InputError(f"calibration_images is {count}; give at least 1")
    places = torch.linspace(0, len(dataset) - 1, min(count, len(dataset))).long().tolist()
    return torch.stack([letterbox(dataset[place].image, size)[0] for place in places])


def find_pictures(paths: Sequence[Path]) -> list[tuple[Path, Path]]:
    """All pictures of some files and folders.

    :return: (file, the name that results get, relative and unique)
    :raises FileNotFoundError: if one of the paths does not exist
    :raises InputError: if a folder holds no pictures
    """
    found: list[tuple[Path, Path]] = []
    for path in paths:
        if path.is_dir():
            found += [(file, file.relative_to(path)) for file in ImageFolderDataset(path).images]
        elif path.is_file():
            found.append((path, Path(path.name)))
        else:
            raise FileNotFoundError(f"no picture or folder at {path}: check the path")
    taken: set[Path] = set()
    return [(file, _unique(name, taken)) for file, name in found]


def _unique(name: Path, taken: set[Path]) -> Path:
    """The name of the drawn picture: PNG or JPEG, with a number where the name is taken."""
    if name.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        name = name.with_suffix(".png")
    new, number = name, 1
    while new in taken:
        number += 1
        new = name.with_stem(f"{name.stem}-{number}")
    taken.add(new)
    return new
