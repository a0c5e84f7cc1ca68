"""COCO and everything stored like it: one instances JSON and a folder of images."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from copy import copy
from pathlib import Path
from typing import Any

from sj_lowlat.data.images import image_size, read_image
from sj_lowlat.data.sample import Sample, Target, make_target
from sj_lowlat.errors import FOREIGN, InputError
from sj_lowlat.files import inside, read_json

__all__ = ["CocoDataset"]

_CLIPPED = "boxes clipped to the picture"
_DROPPED = "empty boxes dropped"
_ORPHANS = "boxes of unlisted images ignored"
_NUMBERS = ("id", "width", "height")
_MOST_PIXELS = 2**31  # of a side


class CocoDataset:
    """Images with boxes from a COCO instances JSON.

    Labels are indices of the JSON's ``categories`` list, not category ids. Boxes are clipped to the picture,
    and dropped if nothing is left; ``notes`` counts both, for the whole JSON.

    :param images: the folder in which the JSON's ``file_name`` entries lie
    :raises FileNotFoundError: if the JSON, the folder or any listed image is missing
    :raises InputError: if the JSON is not an instances JSON, or names a file outside the folder
    """

    #: names of the JSON's categories, in its order
    class_names: tuple[str, ...]
    #: ids of the JSON's categories, in its order
    category_ids: tuple[int, ...]
    #: what was changed while reading -> how often
    notes: dict[str, int]

    def __init__(self, annotations: str | Path, images: str | Path) -> None:
        self.folder = Path(images)
        record = _read(Path(annotations))
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f"no image folder at {images}: give the folder that holds the JSON's images"
            )
        try:
            self.class_names = tuple(str(category["name"]) for category in record["categories"])
            self.category_ids = tuple(int(_by_value(category["id"])) for category in record["categories"])
            #: the JSON's image records, extra fields included
            self.images: list[dict[str, Any]] = [
                {**image, **{key: _by_value(image[key]) for key in _NUMBERS if key in image}}
                for image in record["images"]
            ]
            self._check_images(annotations)
            self._targets = self._make_targets(record["annotations"])
        except InputError:
            raise
        except FOREIGN as error:
            raise InputError(
                f"{annotations} is not an instances JSON ({type(error).__name__}: {error}): every image "
                "needs id and file_name, every annotation image_id, category_id and bbox, every category "
                "id and name"
            ) from error

    def _check_images(self, annotations: str | Path) -> None:
        if not self.images:
            raise InputError(f"{annotations} lists no images: give a JSON with at least one")
        names = [image["file_name"] for image in self.images]
        missing = [name for name in names if not os.path.isfile(inside(self.folder, name, annotations))]
        if missing:
            some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            raise FileNotFoundError(
                f"{len(missing)} of the {len(self.images)} images named in {annotations} are not in "
                f"{self.folder} ({some}): fetch them or take them out of the JSON"
            )
        if len({image["id"] for image in self.images}) < len(self.images):
            raise InputError(f"{annotations} gives several images the same id: make the ids unique")
        for image in self.images:
            if "width" not in image or "height" not in image:
                image["width"], image["height"] = image_size(self.file(image))
            sides = image["width"], image["height"]
            if not all(0 < float(side) < _MOST_PIXELS for side in sides):
                raise InputError(
                    f"{annotations}: image {image['id']} is {sides[0]} x {sides[1]} px: correct it"
                )

    def _make_targets(self, annotations: list[dict[str, Any]]) -> list[Target]:
        self.notes = {_CLIPPED: 0, _DROPPED: 0, _ORPHANS: 0}
        labels = {number: place for place, number in enumerate(self.category_ids)}
        # an image's boxes, labels and crowd flags
        rows: dict[Any, tuple[list[Any], ...]] = {image["id"]: ([], [], []) for image in self.images}
        sizes = {image["id"]: (float(image["width"]), float(image["height"])) for image in self.images}
        for annotation in annotations:
            number, category = _by_value(annotation["image_id"]), _by_value(annotation["category_id"])
            if category not in labels:
                raise InputError(
                    f"annotation of image {number}: category {category} is not in the JSON's categories"
                )
            if number not in rows:
                self.notes[_ORPHANS] += 1
            elif box := self._clip(annotation["bbox"], *sizes[number]):
                boxes, found, crowd = rows[number]
                boxes.append(box)
                found.append(labels[category])
                crowd.append(bool(_by_value(annotation.get("iscrowd", 0))))
        return [make_target(boxes, found, number, crowd) for number, (boxes, found, crowd) in rows.items()]

    def _clip(self, bbox: list[float], width: float, height: float) -> list[float] | None:
        """COCO's x, y, w, h -> x1, y1, x2, y2 inside the picture, or None if nothing is left."""
        x, y, w, h = map(float, bbox)
        whole = [x, y, x + w, y + h]
        box = [min(max(value, 0.0), limit) for value, limit in zip(whole, (width, height) * 2, strict=True)]
        # written so that NaN counts as empty
        if not (w > 0 and h > 0 and box[2] > box[0] and box[3] > box[1]):
            self.notes[_DROPPED] += 1
            return None
        # COCO's own boxes leave the picture by rounding errors, which are not worth a note
        self.notes[_CLIPPED] += any(abs(a - b) > 0.01 for a, b in zip(whole, box, strict=True))
        return box

    def __len__(self) -> int:
        return len(self.images)

    def file(self, record: dict[str, Any]) -> Path:
        """The picture of a record of :attr:`images`."""
        return inside(self.folder, record["file_name"], "the JSON")

    def target(self, index: int) -> Target:
        """What is in a picture, without reading the picture."""
        return self._targets[index]

    def __getitem__(self, index: int) -> Sample:
        """Read one sample; raises as :func:`read_image`, and InputError for another size than the JSON's."""
        record, target = self.images[index], self._targets[index]
        path = self.file(record)
        image = read_image(path, (record["width"], record["height"]))
        height, width = image.shape[-2:]
        if (width, height) != (record["width"], record["height"]):
            raise InputError(
                f"{path} is {width} x {height} px, but its JSON entry says "
                f"{record['width']} x {record['height']}: the boxes belong to "
                "another version of the image; use that one or correct the JSON"
            )
        return Sample.of(image, target)

    def subset(self, indices: Iterable[int]) -> CocoDataset:
        """The same data set with only the images at ``indices``."""
        chosen = list(indices)
        part = copy(self)
        part.images = [self.images[index] for index in chosen]
        part._targets = [self._targets[index] for index in chosen]
        return part

    def select(self, predicate: Callable[[dict[str, Any]], bool]) -> CocoDataset:
        """The same data set with only the images whose JSON record satisfies ``predicate``."""
        return self.subset(index for index, image in enumerate(self.images) if predicate(image))


def _by_value(value: Any) -> Any:
    """A number that a tool wrote as text, as a number."""
    if not isinstance(value, str):
        return value
    try:
        return int(value)
    except ValueError:
        pass
    try:
        number = float(value)
    except ValueError:
        return value
    return number if math.isfinite(number) else value


def _read(path: Path) -> dict[str, Any]:
    record = read_json(path, "an instances JSON")
    needed = ("images", "annotations", "categories")
    if not isinstance(record, dict) or any(not isinstance(record.get(key), list) for key in needed):
        raise InputError(f"{path} is not an instances JSON: it must hold the lists {', '.join(needed)}")
    return record
