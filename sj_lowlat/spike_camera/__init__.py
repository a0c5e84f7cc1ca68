"""Streams of a spike camera, whose pixels each fire one bit a frame."""

from sj_lowlat.spike_camera.files import open_stream, write_stream
from sj_lowlat.spike_camera.stream import SpikeStream

__all__ = ["SpikeStream", "open_stream", "write_stream"]
