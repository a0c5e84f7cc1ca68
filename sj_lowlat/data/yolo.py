"""Data in YOLO's format: a text file of normalised boxes beside each picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sj_lowlat.data.images import image_size, read_image
from sj_lowlat.data.sample import Sample, Target, make_target
from sj_lowlat.data.yolo_labels import Boxes, read_labels
from sj_lowlat.data.yolo_layout import find_layout
from sj_lowlat.errors import InputError

__all__ = ["YoloDataset"]

_CLIPPED = "boxes clipped to the picture"
_DROPPED = "empty boxes dropped"
_REPEATED = "repeated lines dropped"
_ROUNDING = 1e-4  # of a side: what six decimals or less may put outside


class YoloDataset:
    """Images with boxes in YOLO's format.

    The labels of ``images/val/a.jpg`` are in ``labels/val/a.txt`` (the last ``images`` or ``JPEGImages`` on
    the way is exchanged), else beside the picture in ``a.txt``; without either, and with an empty one, the
    picture has no objects. A line is ``class cx cy w h``, in shares of the picture's width W and height H::

        x1, y1, x2, y2 = (cx - w / 2) W, (cy - h / 2) H, (cx + w / 2) W, (cy + h / 2) H

    or ``class`` and the x y of three or more points, whose enclosing box is taken. Coordinates belong to the
    upright picture, as its EXIF mark says. Boxes are clipped to the picture, and dropped if nothing is left,
    lines that stand there twice are dropped once; ``notes`` counts these.

    :param source: a ``data.yaml`` (keys names, nc, path, train, val, test; each set a folder, a text file
        with a picture on each line, or a list of these), a ``.data`` file of darknet, a folder with one of
        them, or a folder with ``images``, ``labels`` and ``classes.txt``, a class on each line
    :param image_set: "train", "val" or "test"; may be left out where there is only one
    :raises FileNotFoundError: if pictures are missing, or not one has a label file
    :raises InputError: if a file is damaged, a label is not possible, or a name leaves the folder of
        ``source``. A ``path`` outside it (where the data lay when the file was written) is not followed
    """

    #: in the order of their numbers in label files
    class_names: tuple[str, ...]
    #: what was changed while reading -> how often
    notes: dict[str, int]
    #: the pictures' files
    images: list[Path]
    #: the folder in which all files lie
    root: Path

    def __init__(self, source: str | Path, image_set: str | None = None) -> None:
        layout = find_layout(source)
        self.class_names, self.root = layout.class_names, layout.root
        chosen = layout.choose(image_set)
        self.images = layout.pictures(chosen)
        files = [_label_file(picture, self.root) for picture in self.images]
        if not any(files):
            first = self.images[0].relative_to(self.root)
            raise FileNotFoundError(
                f"none of the {len(files)} pictures in the set {chosen} of {layout.source} has a label file: "
                f"for {first} it would be {_places(first)[0]}, or lie beside it"
            )
        self.notes = {_CLIPPED: 0, _DROPPED: 0, _REPEATED: 0}
        nothing: tuple[Boxes, list[int]] = np.zeros((0, 4)), []
        self._objects = [
            self._clean(*read_labels(file, len(self.class_names))) if file else nothing for file in files
        ]

    def _clean(self, boxes: Boxes, labels: list[int]) -> tuple[Boxes, list[int]]:
        """Boxes that are inside the picture and not empty, each once."""
        first: dict[tuple[float, ...], int] = {}
        for place, (box, label) in enumerate(zip(boxes.tolist(), labels, strict=True)):
            first.setdefault((*box, label), place)
        kept = list(first.values())
        self.notes[_REPEATED] += len(labels) - len(kept)
        whole, labels = boxes[kept], [labels[place] for place in kept]
        inside = whole.clip(0, 1)
        full = np.flatnonzero((inside[:, 2:] > inside[:, :2]).all(axis=1))
        self.notes[_DROPPED] += len(inside) - len(full)
        self.notes[_CLIPPED] += int((abs(whole - inside)[full] > _ROUNDING).any(axis=1).sum())
        return inside[full], [labels[place] for place in full]

    def __len__(self) -> int:
        return len(self.images)

    def target(self, index: int) -> Target:
        """What is in a picture, whose size is read from its header.

        Where the header cannot be read, boxes stay in shares of the sides: an evaluation counts the objects,
        and finds none of them.
        """
        try:
            size = image_size(self.images[index])
        except InputError:
            size = 1, 1
        return self._target(index, *size)

    def __getitem__(self, index: int) -> Sample:
        """Read one sample; raises as :func:`read_image`."""
        image = read_image(self.images[index])
        height, width = image.shape[-2:]
        return Sample.of(image, self._target(index, width, height))

    def _target(self, index: int, width: int, height: int) -> Target:
        boxes, labels = self._objects[index]
        name = self.images[index].relative_to(self.root).as_posix()
        return make_target((boxes * ([width, height] * 2)).tolist(), labels, name)


def _label_file(picture: Path, root: Path) -> Path | None:
    places = [root / place for place in _places(picture.relative_to(root))]
    return next((place for place in places if place.is_file()), None)


def _places(picture: Path) -> list[Path]:
    """Where the labels of a picture may be, below the same folder."""
    parts = list(picture.with_suffix(".txt").parts)
    beside = Path(*parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] in ("images", "JPEGImages"):
            return [Path(*parts[:place], "labels", *parts[place + 1 :]), beside]
    return [beside]
