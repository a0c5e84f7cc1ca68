"""Spike cameras, whose pixels each fire one bit a frame: streams, encoders, reconstruction, data sets.

Reading a stream needs no torch, which takes more memory than the scan of a long recording: whatever needs it
is imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sj_lowlat.spike_camera.files import open_stream, write_stream
from sj_lowlat.spike_camera.stream import SpikeStream

if TYPE_CHECKING:
    from sj_lowlat.spike_camera.dataset import SPIKE_CLASSES, SpikeDataset, SpikeSample, traffic_class
    from sj_lowlat.spike_camera.encode import SpikeEncoder, encode_frames, to_grey
    from sj_lowlat.spike_camera.generate import Camera, encode_dataset, encode_traffic
    from sj_lowlat.spike_camera.motion import Motion, MovingView, moving_views, sequence_frames
    from sj_lowlat.spike_camera.plasticity import tfstp
    from sj_lowlat.spike_camera.reconstruct import adaptive, tfi, tfp, to_image
    from sj_lowlat.spike_camera.video import Video, interpolate, video_frames

_LAZY = ("encode", "dataset", "generate", "motion", "plasticity", "reconstruct", "video")

__all__ = [
    "SPIKE_CLASSES",
    "Camera",
    "Motion",
    "MovingView",
    "SpikeDataset",
    "SpikeEncoder",
    "SpikeSample",
    "SpikeStream",
    "Video",
    "adaptive",
    "encode_dataset",
    "encode_frames",
    "encode_traffic",
    "interpolate",
    "moving_views",
    "open_stream",
    "sequence_frames",
    "tfi",
    "tfp",
    "tfstp",
    "to_grey",
    "to_image",
    "traffic_class",
    "video_frames",
    "write_stream",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    homes = (vars(importlib.import_module(f"{__name__}.{home}")) for home in _LAZY)
    globals()[name] = next(home[name] for home in homes if name in home)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
