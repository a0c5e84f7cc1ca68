"""The page: everything that was watched, in one HTML file that loads nothing."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

from torch import nn

from sj_lowlat.data import read_image
from sj_lowlat.errors import InputError
from sj_lowlat.evaluation import energy
from sj_lowlat.evaluation.energy import AC_PJ, MAC_PJ
from sj_lowlat.files import atomic_write
from sj_lowlat.monitors import FiringRateMonitor, RemainderMonitor, SynOpMonitor
from sj_lowlat.network import heads_of, info_of, schedule_for
from sj_lowlat.progress import writing
from sj_lowlat.record import provenance
from sj_lowlat.report.images import photo
from sj_lowlat.report.layers import layer_views
from sj_lowlat.report.picture import PictureRun, watch_picture
from sj_lowlat.report.rows import layer_rows
from sj_lowlat.report.shapes import WIDTH, boxes, curve, label_size
from sj_lowlat.schedule import Schedule

MOST_PICTURES = 4
MOST_BYTES = 5_000_000
_CURVE_HEIGHT = 240


def write_report(
    path: str | Path,
    snn: nn.Module,
    pictures: Sequence[str | Path],
    schedule: Schedule | str | int | None = None,
    *,
    title: str = "Spiking detector",
    scores: Sequence[tuple[int, float]] = (),
    scores_source: str = "",
    encoder: str = "constant",
    seed: int = 0,
    min_score: float = 0.25,
    resize: str = "letterbox",
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Run a spiking detector on pictures and write what it did as one HTML file of less than 5 MB.

    The page loads nothing from elsewhere. It shows detections, spikes and feature maps at each step, the
    figures of every layer, what the conversion did, and how the page was made.

    :param path: the file, returned
    :param snn: a spiking detector of :func:`~sj_lowlat.conversion.convert`
    :param pictures: 1 to 4 files
    :param schedule: how it is run; by default the network's own
    :param title: head of the page
    :param scores: (steps, mAP50 from 0 to 1) pairs, if known
    :param scores_source: which network they are of, and on which data, in words (:func:`recorded_scores`)
    :param encoder: as of :func:`~sj_lowlat.simulation.simulate`, like ``seed``
    :param min_score: detections below this score are left out
    :param resize: as of :func:`~sj_lowlat.data.letterbox`
    :param settings: more to tell about how the page was made
    :raises FileNotFoundError: if there is no such picture
    :raises InputError: for another number of pictures, one that cannot be read, a network that is no spiking
        detector or whose remainders cannot be told (pre-steps, hard reset), or if jinja2 is not installed
    :raises OSError: if the file cannot be written
    """
    jinja2 = _jinja2()
    if not 1 <= len(pictures) <= MOST_PICTURES:
        raise InputError(f"{len(pictures)} pictures came for one page; give 1 to {MOST_PICTURES}")
    if not 0 <= min_score <= 1:
        raise InputError(f"min_score is {min_score}; give a score in [0, 1]")
    heads_of(snn)  # checks them
    plan = schedule_for(snn, schedule)
    images = [(Path(picture).name, read_image(picture)) for picture in pictures]
    watching: dict[str, Any] = {"encoder": encoder, "seed": seed, "min_score": min_score, "resize": resize}
    with ExitStack() as monitors:
        rates = monitors.enter_context(FiringRateMonitor(snn))
        rest = monitors.enter_context(RemainderMonitor(snn, max_count=plan.charge))
        operations = monitors.enter_context(SynOpMonitor(snn))
        runs = [watch_picture(snn, image, plan, name=name, **watching) for name, image in images]
    spent = energy(operations, rates)
    information = info_of(snn)
    known = {**(settings or {}), "schedule": str(plan), **watching, **provenance()}
    known["command"] = shlex.join(map(str, known["command"]))
    known["versions"] = ", ".join(f"{name} {number}" for name, number in known["versions"].items())
    script, style = _part("page.js"), _part("page.css")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = environment.from_string(_part("page.html")).render(
        title=title,
        style=style,
        script=script,
        script_hash=base64.b64encode(sha256(script.encode()).digest()).decode(),
        plan=plan,
        steps=[reading.step for reading in runs[0].readings],
        pictures=[_picture_view(run, spent.ann_macs) for run in runs],
        layers=layer_views(runs),
        activity=_activity(runs),
        rows=layer_rows(information.report, rates, rest, operations),
        energy=spent,
        verdict=rest.verdict(),
        curve=curve(sorted(scores), _CURVE_HEIGHT) if scores else None,
        scores_source=scores_source,
        curve_height=_CURVE_HEIGHT,
        width=WIDTH,
        conversion=information.report,
        known=known,
    )
    size = len(text.encode())
    if size >= MOST_BYTES:
        raise InputError(f"the page would have {size / 1e6:.1f} MB, 5 are allowed: give fewer pictures")
    path = Path(path)
    with writing(path), atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _picture_view(run: PictureRun, ann_macs: int) -> dict[str, Any]:
    """What the page says of one picture: boxes and figures of every reading."""
    height, width = run.image.shape[1:]
    neurons = sum(layer.neurons for layer in run.spikes.layers())
    readings = []
    for reading in run.readings:
        found = reading.detections.to_dict(run.class_names)
        picojoules = reading.macs * MAC_PJ + reading.synops * AC_PJ
        readings.append(
            {
                "step": reading.step,
                "boxes": boxes(reading.detections, run.class_names, width, height),
                "found": list(zip(found["names"], found["scores"], found["boxes"], strict=True)),
                "spikes": reading.spikes,
                "per_neuron": reading.spikes / neurons,
                "acs": reading.synops,
                "millijoules": picojoules / 1e9,
                "share": picojoules / (ann_macs * MAC_PJ),
            }
        )
    return {
        "name": run.name,
        "photo": photo(run.image),
        "width": width,
        "height": height,
        "letters": label_size(width, height),
        "readings": readings,
    }


def _activity(runs: Sequence[PictureRun]) -> list[tuple[str, list[tuple[int, float, float]]]]:
    """Spikes per neuron, the mean of the pictures, at the steps read: (step, rate, share of most)."""
    steps = [reading.step for reading in runs[0].readings]
    names = [layer.name for layer in runs[0].spikes.layers()]
    mean = {
        name: [sum(run.spikes[name].rates[step - 1] for run in runs) / len(runs) for step in steps]
        for name in names
    }
    most = max((rate for rates in mean.values() for rate in rates), default=0.0) or 1.0
    return [
        (name, [(step, rate, rate / most) for step, rate in zip(steps, rates, strict=True)])
        for name, rates in mean.items()
    ]


def _part(name: str) -> str:
    return (resources.files("sj_lowlat.report") / name).read_text(encoding="utf-8")


def _jinja2() -> Any:
    try:
        import jinja2
    except ImportError as error:
        raise InputError(
            "reports are written through jinja2, which is not installed: pip install jinja2"
        ) from error
    return jinja2
