"""What earlier commands wrote: a folder of ``sj-lowlat detect``, a score of ``sj-lowlat evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from sj_lowlat.errors import FOREIGN, InputError
from sj_lowlat.files import read_json
from sj_lowlat.schedule import Schedule

_DETECT = "a folder that sj-lowlat detect wrote"
_EVALUATE = "the JSON file that sj-lowlat evaluate --output wrote"


class RecordedRun(NamedTuple):
    """A run of ``sj-lowlat detect``.

    :param model: the word that named its network
    :param pictures: that it could read, in its order
    :param settings: of the command
    :param schedule: of the run, if the network was a spiking one
    """

    model: str
    pictures: list[Path]
    settings: dict[str, Any]
    schedule: Schedule | None


class RecordedScores(NamedTuple):
    """The curve of an evaluation.

    :param points: (steps, mAP50 from 0 to 1) of every read-out, ascending
    :param source: which network was evaluated how, on what, in words
    :param schedule: in its written form
    """

    points: list[tuple[int, float]]
    source: str
    schedule: str


def recorded_run(folder: str | Path) -> RecordedRun:
    """Read which network saw which pictures from the ``detections.json`` of a folder.

    :raises FileNotFoundError: if there is no such file
    :raises InputError: if it is not of ``sj-lowlat detect``
    """
    path = Path(folder) / "detections.json"
    record = read_json(path, _DETECT)
    try:
        settings = dict(record["settings"])
        pictures = [Path(row["path"]) for row in record["images"]]
        fields = {name: settings[name] for name in Schedule.__dataclass_fields__ if name in settings}
        schedule = None if settings["time_steps"] is None else Schedule(**fields)
        return RecordedRun(str(settings["model"]), pictures, settings, schedule)
    except FOREIGN as error:
        raise InputError(f"{path} holds no pictures and settings ({error}): give {_DETECT}") from error


def recorded_scores(path: str | Path) -> RecordedScores:
    """Read the scores of every read-out from an evaluation of a spiking network.

    :raises FileNotFoundError: if there is no such file
    :raises InputError: if it is no evaluation, or not one of a spiking network
    """
    record = read_json(path, _EVALUATE)
    try:
        points = [(row["steps"], float(row["map50"])) for row in record["points"]]
        if not points or any(
            type(steps) is not int or steps < 1 or not 0 <= score <= 1 for steps, score in points
        ):
            raise ValueError("no scores of a spiking network at given steps")
        schedule, images = str(record["settings"]["schedule"]), record["settings"]["images"]
        source = f"{record['model']} with the schedule {schedule} on {images} images of {record['data']}"
        return RecordedScores(sorted(points), source, schedule)
    except FOREIGN as error:
        raise InputError(f"{path} holds no mAP curve ({error}): give {_EVALUATE}") from error
