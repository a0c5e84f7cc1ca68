"""Detections for other libraries: rows of pandas, results of COCO, the record of supervision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sj_lowlat.class_names import COCO_CLASSES, COCO_IDS
from sj_lowlat.detect.detections import Detections
from sj_lowlat.errors import InputError

if TYPE_CHECKING:
    import pandas
    import supervision

_INSTALL = "to_{0} needs {0}, which is not installed: pip install {0} (or 'sj-lowlat[results]')"


def to_pandas(found: Detections) -> pandas.DataFrame:
    """See :meth:`Detections.to_pandas`."""
    try:
        import pandas
    except ImportError as error:
        raise InputError(_INSTALL.format("pandas")) from error
    boxes = found.boxes.cpu().numpy()
    columns: dict[str, Any] = {"name": [one.name for one in found], "score": found.scores.cpu().numpy()}
    columns |= {side: boxes[:, place] for place, side in enumerate(("x1", "y1", "x2", "y2"))}
    return pandas.DataFrame({**columns, "label": found.labels.cpu().numpy()})


def to_coco(
    found: Detections, image_id: int | str, category_ids: Sequence[int] | None
) -> list[dict[str, Any]]:
    """See :meth:`Detections.to_coco`."""
    if category_ids is None and found.names == COCO_CLASSES:
        category_ids = COCO_IDS
    most = max(found.labels.tolist(), default=-1)
    if category_ids is not None and most >= len(category_ids):
        raise InputError(f"label {most} has no id: category_ids has {len(category_ids)}, give one a class")
    return [
        {
            "image_id": image_id,
            "category_id": one.label + 1 if category_ids is None else int(category_ids[one.label]),
            "bbox": [one.box[0], one.box[1], one.box[2] - one.box[0], one.box[3] - one.box[1]],
            "score": one.score,
        }
        for one in found
    ]


def to_supervision(found: Detections) -> supervision.Detections:
    """See :meth:`Detections.to_supervision`."""
    try:
        import supervision
    except ImportError as error:
        raise InputError(_INSTALL.format("supervision")) from error
    import numpy as np

    return supervision.Detections(
        xyxy=found.boxes.cpu().numpy(),
        confidence=found.scores.cpu().numpy(),
        class_id=found.labels.cpu().numpy(),
        data={"class_name": np.array([one.name for one in found], dtype=str)},
    )
