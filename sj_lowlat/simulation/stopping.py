"""Early stopping: runs that end when the detections no longer change."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import replace

from torch import nn

from sj_lowlat.detect import StableDetections
from sj_lowlat.errors import InputError
from sj_lowlat.network import heads_of
from sj_lowlat.simulation.result import Readout


def stopping(
    run: Generator[Readout, None, None], snn: nn.Module, stop: str, reads: int
) -> Generator[Readout, None, None]:
    """Early stopping: a run that ends when the detections of all its images are stable.

    :param run: the read-outs
    :param snn: the detector
    :param stop: ``"stable"``
    :param reads: read-outs without a change
    :return: the read-outs, with ``done``
    :raises InputError: for another ``stop``, or a network whose maps cannot be decoded
    """
    if stop != "stable":
        raise InputError(f"stop is {stop!r}, it must be 'stable', or None to run to the end")
    return _until(run, StableDetections(heads_of(snn), reads))


def _until(
    run: Generator[Readout, None, None], detections: StableDetections
) -> Generator[Readout, None, None]:
    with closing(run):
        for read in run:
            stable = detections.update(read.step, read.outputs)
            yield replace(read, done=tuple(step is not None for step in detections.stopped))
            if stable:
                return
