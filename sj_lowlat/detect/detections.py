"""The record of what a detector found in one image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import torch
from torch import Tensor

from sj_lowlat.errors import InputError

if TYPE_CHECKING:
    import pandas
    import supervision
    from PIL import Image


class Detection(NamedTuple):
    """One object that was found.

    :param name: of its class; ``"class 3"`` where the record knows no names
    :param score: in [0, 1]
    :param box: x1, y1, x2, y2 in pixels
    :param label: class index
    """

    name: str
    score: float
    box: tuple[float, float, float, float]
    label: int


@dataclass(eq=False)
class Detections:
    """Boxes found in one image; checked once, when made.

    It is read like a list: ``len(found)``, ``for name, score, box, label in found``, and ``found[0]`` is a
    :class:`Detection`; ``found[:3]``, ``found[found.scores > 0.5]`` and ``found["person"]`` are records of a
    part. A notebook shows the picture with its boxes.

    To move boxes elsewhere (letterbox to image, say) use ``dataclasses.replace(detections, boxes=...)``.

    :param boxes: ``[M, 4]`` x1, y1, x2, y2 in pixels; kept as float32
    :param scores: ``[M]`` in [0, 1]; kept as float32
    :param labels: ``[M]`` class indices, 0 or more; kept as int64
    :param names: class names, indexed by label; empty where they are not known
    :param image: the picture, uint8 ``[3, H, W]``, if it is kept
    :param path: file of the picture, if it came from one
    :param steps: time steps of the run, flush included; ``None`` for a network that is not spiking
    :param milliseconds: of the network's run, for this image (of a batch: the batch's share)
    :param spikes: of all neurons for this image, whatever their sign, where they were counted
    :raises InputError: if shapes, types or values are wrong
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    names: tuple[str, ...] = ()
    image: Tensor | None = field(default=None, repr=False)
    path: str | None = None
    steps: int | None = None
    milliseconds: float | None = None
    spikes: int | None = None

    def __post_init__(self) -> None:
        count = self.boxes.shape[0] if self.boxes.ndim else 0
        shapes = [tuple(part.shape) for part in (self.boxes, self.scores, self.labels)]
        if shapes != [(count, 4), (count,), (count,)]:
            raise InputError(f"boxes, scores, labels must be [M, 4], [M], [M]; got {shapes}")
        if self.labels.is_floating_point() or self.labels.is_complex() or self.labels.dtype == torch.bool:
            raise InputError(f"labels must be class indices of an integer type; got {self.labels.dtype}")
        self.boxes, self.scores, self.labels = self.boxes.float(), self.scores.float(), self.labels.long()
        if not torch.isfinite(self.boxes).all() or not (self.boxes[:, 2:] >= self.boxes[:, :2]).all():
            raise InputError("boxes must be finite with x2 >= x1 and y2 >= y1 (xyxy, not xywh)")
        if not ((self.scores >= 0) & (self.scores <= 1)).all() or not (self.labels >= 0).all():
            raise InputError("scores must lie in [0, 1] and labels be 0 or more")

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Detection]:
        for box, score, label in zip(
            self.boxes.tolist(), self.scores.tolist(), self.labels.tolist(), strict=True
        ):
            yield Detection(self.name_of(label), score, tuple(box), label)

    @overload
    def __getitem__(self, key: int) -> Detection: ...

    @overload
    def __getitem__(self, key: str | slice | Tensor | Sequence[int] | Sequence[bool]) -> Detections: ...

    def __getitem__(self, key: Any) -> Detection | Detections:
        """One detection by its place, or a record of some: a slice, a mask, places, or a class name.

        :raises IndexError: if there is no such place
        :raises InputError: if there is no class of that name
        """
        if isinstance(key, str):
            return self.filter(classes=[key])
        if isinstance(key, slice):
            return self._at(key)
        chosen = torch.as_tensor(key, device=self.scores.device)
        if not chosen.ndim:
            return next(iter(self._at(slice(None))._at(chosen[None])))
        return self._at(chosen if chosen.numel() else chosen.long())

    def _at(self, chosen: Tensor | slice) -> Detections:
        return replace(self, boxes=self.boxes[chosen], scores=self.scores[chosen], labels=self.labels[chosen])

    def __str__(self) -> str:
        lines = [f"{len(self)} detection" + ("" if len(self) == 1 else "s")]
        words = [one.name if self.names else f"class {one.label:3d}" for one in self]
        width = max(map(len, words), default=0)
        for word, one in zip(words, self, strict=True):
            sides = " ".join(f"{side:.1f}" for side in one.box)
            lines.append(f"  {word:{width}}  score {one.score:.3f}  box {sides}")
        return "\n".join(lines)

    def name_of(self, label: int) -> str:
        """The name of a class; ``"class 3"`` where it is not known."""
        return self.names[label] if label < len(self.names) else f"class {label}"

    def filter(
        self, min_score: float = 0.0, classes: str | int | Sequence[str | int] | None = None
    ) -> Detections:
        """Only the detections with a score of at least ``min_score``, in the same order.

        :param classes: and of these classes only, by name or index
        :raises InputError: if there is no class of a name
        """
        chosen = self.scores >= min_score
        if classes is not None:
            labels = class_indices(classes, self.names)
            chosen &= torch.isin(self.labels, torch.tensor(labels, device=chosen.device, dtype=torch.int64))
        return self._at(chosen)

    def scaled(self, x: float, y: float | None = None) -> Detections:
        """Boxes multiplied by ``x`` across and ``y`` down (``x`` where not given), without the picture.

        :raises InputError: if a factor is not positive
        """
        y = x if y is None else y
        if not (x > 0 and y > 0):
            raise InputError(f"boxes can be scaled by positive factors only; got {x} and {y}")
        return replace(self, boxes=self.boxes * self.boxes.new_tensor([x, y, x, y]), image=None)

    def to(self, device: torch.device | str) -> Detections:
        """The same record on another device."""
        return replace(
            self, boxes=self.boxes.to(device), scores=self.scores.to(device), labels=self.labels.to(device)
        )

    def plot(self, image: Tensor | None = None) -> Image.Image:
        """The picture with boxes, names and scores; a notebook shows it.

        :param image: uint8 ``[3, H, W]``; by default the record's own
        :raises InputError: if the record holds no picture, and none is given
        """
        from sj_lowlat.detect.show import plot

        return plot(self, image)

    def save(self, path: str | Path) -> Path:
        """Write the picture with its boxes as PNG or JPEG, by the name's ending.

        :return: the file
        :raises InputError: if the record holds no picture, or for another ending
        """
        from sj_lowlat.detect.show import save

        return save(self, path)

    def to_dict(self, names: Sequence[str] | None = None) -> dict[str, list[Any]]:
        """The record as lists that JSON can hold: ``boxes``, ``scores``, ``labels`` and the class ``names``.

        :param names: class names, indexed by label; by default the record's own
        :raises InputError: if a label has no name
        """
        labels = self.labels.tolist()
        boxes, scores = self.boxes.tolist(), self.scores.tolist()
        named = class_names_of(labels, self.names if names is None else names)
        return {"boxes": boxes, "scores": scores, "labels": labels, "names": named}

    def to_pandas(self) -> pandas.DataFrame:
        """A data frame with a row per detection: name, score, x1, y1, x2, y2, label.

        :raises InputError: if pandas is not installed
        """
        from sj_lowlat.detect.export import to_pandas

        return to_pandas(self)

    def to_coco(
        self, image_id: int | str = 0, category_ids: Sequence[int] | None = None
    ) -> list[dict[str, Any]]:
        """Results as COCO's tools read them: image_id, category_id, bbox (x, y, width, height), score.

        :param category_ids: COCO's id of each label; by default the official ones (1 to 90, with holes) where
            the names are those of COCO, else label + 1
        :raises InputError: if a label has no id
        """
        from sj_lowlat.detect.export import to_coco

        return to_coco(self, image_id, category_ids)

    def to_supervision(self) -> supervision.Detections:
        """The record as ``supervision.Detections``, with ``data["class_name"]``.

        :raises InputError: if supervision is not installed
        """
        from sj_lowlat.detect.export import to_supervision

        return to_supervision(self)

    def _repr_html_(self) -> str:
        from sj_lowlat.detect.show import to_html

        return to_html(self)

    def _repr_png_(self) -> bytes | None:
        from sj_lowlat.detect.show import to_png

        return None if self.image is None else to_png(self)


def class_names_of(labels: Sequence[int], names: Sequence[str]) -> list[str]:
    """The name of each label; a label without one is refused."""
    if labels and max(labels) >= len(names):
        raise InputError(f"label {max(labels)} has no name: only {len(names)} class names were given")
    return [names[label] for label in labels]


def class_indices(classes: str | int | Sequence[str | int], names: Sequence[str]) -> list[int]:
    """Class indices of names and indices.

    :param classes: one or several; a number may be written as text
    :param names: class names, indexed by label
    :raises InputError: for a name that is not there
    """
    from difflib import get_close_matches

    wanted = [classes] if isinstance(classes, (str, int)) else list(classes)
    found = []
    for one in wanted:
        word = str(one).strip()
        if word in names:
            found.append(names.index(word))
        elif word.isdecimal() and (not names or int(word) < len(names)):
            found.append(int(word))
        else:
            near = get_close_matches(word, names, 3) or names[:5]
            some = f"such as {', '.join(near)}" if near else "by index: the names are not known"
            raise InputError(f"no class {word!r}: give one of the network's {len(names)} classes, {some}")
    return found
