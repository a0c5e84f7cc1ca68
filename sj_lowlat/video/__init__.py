"""Detection in videos: state carried over from frame to frame, so that only what changes is sent."""

from sj_lowlat.video.carry import CarriedRun, Usage
from sj_lowlat.video.changes import DeadZone, is_cut
from sj_lowlat.video.detect import FrameDetections, detect_video
from sj_lowlat.video.frames import VIDEO_SUFFIXES, Frames, is_video, open_frames
from sj_lowlat.video.tracking import TrackedFrame, track
from sj_lowlat.video.writer import VideoWriter

__all__ = [
    "VIDEO_SUFFIXES",
    "CarriedRun",
    "DeadZone",
    "FrameDetections",
    "Frames",
    "TrackedFrame",
    "Usage",
    "VideoWriter",
    "detect_video",
    "is_cut",
    "is_video",
    "open_frames",
    "track",
]
