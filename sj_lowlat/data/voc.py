"""PASCAL VOC in its own folder layout."""

from __future__ import annotations

import os
from pathlib import Path
from xml.etree import ElementTree

import torch
from torchvision.datasets import VOCDetection

from sj_lowlat.class_names import VOC_CLASSES
from sj_lowlat.data.images import read_image
from sj_lowlat.data.sample import Sample, Target, make_target
from sj_lowlat.errors import FOREIGN, InputError
from sj_lowlat.files import inside, read_text

__all__ = ["VocDataset"]

_LARGEST = 4 * 2**20  # bytes of an annotation: some ten thousand objects


class VocDataset:
    """Images with boxes from a folder that holds ``VOCdevkit/VOC<year>``.

    VOC counts pixels from 1 and names the first and the last pixel inside a box; here boxes are edges, from
    (0, 0): x1 = xmin - 1, y1 = ymin - 1, x2 = xmax, y2 = ymax, so that x2 - x1 is the number of pixel
    columns. Objects marked difficult are kept and flagged.

    :param root: the folder above ``VOCdevkit``
    :param image_set: "train", "val", "trainval" or, for 2007, "test"
    :param year: "2007" to "2012"
    :raises FileNotFoundError: if the layout or a listed file is missing
    :raises InputError: if the set or year is unknown, or an XML file cannot be used
    """

    class_names: tuple[str, ...] = VOC_CLASSES

    def __init__(self, root: str | Path, image_set: str = "test", year: str = "2007") -> None:
        try:
            listing = VOCDetection(root, year=year, image_set=image_set, download=False)
        except ValueError as error:
            raise InputError(f"{error} (VOC has a test set with boxes only for 2007)") from error
        except (RuntimeError, FileNotFoundError) as error:
            raise FileNotFoundError(
                f"no VOC {year} {image_set} set under {root}: there must be VOCdevkit/VOC{year} with "
                f"JPEGImages, Annotations and ImageSets/Main/{image_set}.txt"
            ) from error
        self.images = [_within(name, root) for name in listing.images]
        if not self.images:
            raise InputError(f"the VOC {year} {image_set} list under {root} is empty: give a set with images")
        annotations = [_within(name, root) for name in listing.annotations]
        files = [*self.images, *annotations]
        missing = [path for path in files if not path.is_file()]
        if missing:
            some = ", ".join(str(path) for path in missing[:3]) + (", ..." if len(missing) > 3 else "")
            raise FileNotFoundError(
                f"{len(missing)} files of the VOC {year} {image_set} set are missing ({some}): "
                "unpack the whole archive"
            )
        read = [_read_target(path) for path in annotations]
        self._targets, self._sizes = [target for target, _ in read], [size for _, size in read]

    def __len__(self) -> int:
        return len(self.images)

    def target(self, index: int) -> Target:
        """What is in a picture, without reading the picture."""
        return self._targets[index]

    def __getitem__(self, index: int) -> Sample:
        """Read one sample; raises as :func:`read_image`."""
        return Sample.of(read_image(self.images[index], self._sizes[index]), self._targets[index])


def _within(name: str, root: str | Path) -> Path:
    """A file of a listing, whose names must not leave the folder."""
    return inside(Path(root), os.path.relpath(name, root), f"the VOC list under {root}")


def _read_target(path: Path) -> tuple[Target, tuple[float, float]]:
    """What is in a picture, and the width and height that the file gives it."""
    if path.stat().st_size > _LARGEST:
        raise InputError(f"{path} has more than {_LARGEST} bytes, it is not a VOC annotation: replace it")
    text = read_text(path, "a VOC annotation")
    if "<!DOCTYPE" in text:
        raise InputError(f"{path} defines XML entities, which no VOC annotation needs: replace it")
    try:
        root = ElementTree.fromstring(text)
        if root.tag != "annotation":
            raise ValueError(f"its root is {root.tag!r}")
        limits = [_number(root, f"size/{side}") for side in ("width", "height")] * 2
        objects = root.findall("object")
        names = [thing.findtext("name", "") for thing in objects]
        corners = [
            [_number(thing, f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")] for thing in objects
        ]
        difficult = [float(thing.findtext("difficult", "0")) != 0 for thing in objects]
    except FOREIGN as error:  # a ParseError is a SyntaxError
        raise InputError(
            f"{path} is not a VOC annotation ({type(error).__name__}: {error}): replace it"
        ) from error
    unknown = sorted(set(names) - set(VOC_CLASSES))
    if unknown:
        raise InputError(
            f"{path} names {', '.join(unknown)}, which VOC does not have: the classes are {VOC_CLASSES}"
        )
    boxes = torch.tensor(corners, dtype=torch.float32).reshape(-1, 4) - torch.tensor([1.0, 1.0, 0.0, 0.0])
    boxes = boxes.clamp(min=torch.zeros(4), max=torch.tensor(limits))
    if not (boxes[:, 2:] > boxes[:, :2]).all():
        raise InputError(f"{path} has a box without area inside the picture: correct the file")
    labels = [VOC_CLASSES.index(name) for name in names]
    return make_target(boxes, labels, path.stem, difficult=difficult), (limits[0], limits[1])


def _number(thing: ElementTree.Element, key: str) -> float:
    text = thing.findtext(key)
    if text is None:
        raise KeyError(key)
    number = float(text)
    if not abs(number) < 2**31:
        raise ValueError(f"{key} is {text}")
    return number
