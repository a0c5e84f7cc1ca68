"""Options of ``sj-lowlat detect`` for videos."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VideoOptions:
    """How videos are run.

    :param steps_per_frame: time steps of a frame of a video, whose state is carried over; 1 to 4 are usual
    :param dead_zone: changes of a video below this grey value, in [0, 1), wait until they have grown; 0.02
        keeps the noise of most cameras out
    :param block: side in pixels of the blocks in which the dead zone looks at mean changes; 1 for pixels
    :param gif: whether videos are written as GIF, not as MP4
    :param track: whether detections in videos get ids that stay from frame to frame (extra tracking)
    """

    steps_per_frame: int = 2
    dead_zone: float = 0.0
    block: int = 1
    gif: bool = False
    track: bool = False
