"""Detections with ids that stay the same from frame to frame, by an existing tracker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sj_lowlat.errors import InputError
from sj_lowlat.video.detect import FrameDetections

__all__ = ["TrackedFrame", "track"]


@dataclass(frozen=True)
class TrackedFrame:
    """A frame's detections and whose they are.

    :param answer: what was found in the frame
    :param ids: id of each detection, int64 ``[M]``; -1 where none is known (yet)
    """

    answer: FrameDetections
    ids: Tensor


def track(
    answers: Iterable[FrameDetections], frame_rate: float | None = None, tracker: Any = None
) -> Iterator[TrackedFrame]:
    """Give the detections of a video ids, by ByteTrack (Zhang et al., ECCV 2022) of the package ``trackers``.

    ByteTrack uses detections of low scores, too: give :func:`~sj_lowlat.video.detect_video` a low
    ``score_threshold``, such as 0.1. Ids do not outlast a frame that started anew because of a cut.

    :param answers: of :func:`~sj_lowlat.video.detect_video`, in turn
    :param frame_rate: frames per second, 30 where it is not known
    :param tracker: instead of ByteTrack: another tracker of that package, such as ``OCSORTTracker()``
    :return: one record an answer, as soon as it is known
    :raises InputError: if the package is not installed, or for a frame rate that is not positive
    """
    if frame_rate is not None and not frame_rate > 0:
        raise InputError(f"frame_rate is {frame_rate}; give frames per second above 0, or None")
    try:
        import supervision
        from trackers import ByteTrackTracker
    except ImportError as error:
        raise InputError(
            "ids come from the package trackers, which is not installed: pip install sj-lowlat[tracking]"
        ) from error
    chosen = ByteTrackTracker(frame_rate=frame_rate or 30.0) if tracker is None else tracker

    def tracked() -> Iterator[TrackedFrame]:
        for answer in answers:
            if answer.fresh:
                chosen.reset()
            found = answer.detections
            given = supervision.Detections(
                xyxy=found.boxes.numpy(),
                confidence=found.scores.numpy(),
                class_id=found.labels.numpy(),
                data={"place": np.arange(len(found))},  # trackers change the order
            )
            known = chosen.update(given)
            ids = torch.full((len(found),), -1, dtype=torch.int64)
            if len(known):
                places = torch.from_numpy(np.asarray(known.data["place"], dtype=np.int64))
                ids[places] = torch.from_numpy(np.asarray(known.tracker_id, dtype=np.int64))
            yield TrackedFrame(answer, ids)

    return tracked()
