"""Average precision at every read-out, from one simulation."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from sj_lowlat import distributed
from sj_lowlat.class_names import match_classes
from sj_lowlat.data import DetectionDataset, Part, Sample, collate, ground_truth
from sj_lowlat.detect import Detections
from sj_lowlat.encoders import Encoder
from sj_lowlat.errors import InputError
from sj_lowlat.evaluation.ap import APResult, scored_labels
from sj_lowlat.evaluation.coco_ap import coco_ap
from sj_lowlat.evaluation.energy import EnergyReport
from sj_lowlat.evaluation.gather import data_hash, gather, network_hash
from sj_lowlat.evaluation.predict import each_at_its_end, predict
from sj_lowlat.evaluation.shares import in_order, own_images
from sj_lowlat.evaluation.voc_ap import voc_ap
from sj_lowlat.layers import is_spiking
from sj_lowlat.monitors import FiringRateMonitor, SynOpMonitor
from sj_lowlat.network import heads_of, info_of, schedule_for
from sj_lowlat.progress import Progress, one_run
from sj_lowlat.record import provenance, versions
from sj_lowlat.schedule import Schedule
from sj_lowlat.simulation import check_readout

PROTOCOLS: dict[str, Callable[..., APResult]] = {
    "coco": coco_ap,
    "voc07": partial(voc_ap, method="11-point"),
    "voc": partial(voc_ap, method="all-point"),
}


@dataclass(frozen=True)
class CurvePoint:
    """Average precision at one latency.

    :param steps: every step until the read-out, flush included; ``None`` for a network that is not spiking
    """

    steps: int | None
    ap: APResult

    @property
    def name(self) -> str:
        """Kind of the network and steps, in words."""
        return "ANN" if self.steps is None else f"SNN, {self.steps} steps"


@dataclass(frozen=True)
class Evaluation:
    """Accuracy of a detector on a data set.

    :param points: one per read-out, ascending
    :param ann: accuracy of the network given for comparison, or ``None``
    :param energy: energy per image on the monitored images, for a spiking network
    :param rates: firing rates per layer on the same images (``FiringRateMonitor.to_json``)
    :param mean_steps: steps per image with early stopping (``stop``); ``points`` then holds one point, each
        image at its own last step
    :param settings: image size, thresholds, protocol, seed, versions, command, seconds
    :param failed: ``image`` (place in the data set) and ``error`` of each picture that cannot be read
    """

    points: tuple[CurvePoint, ...]
    ann: APResult | None
    energy: EnergyReport | None
    rates: dict[str, Any] | None
    settings: dict[str, Any]
    mean_steps: float | None = None
    failed: tuple[dict[str, Any], ...] = ()

    @property
    def final(self) -> APResult:
        """Average precision at the last read-out."""
        return self.points[-1].ap

    def curve(self) -> list[tuple[int, float]]:
        """``(steps, mAP50)`` of every read-out."""
        return [(point.steps or 0, point.ap.map50) for point in self.points]

    def to_json(self) -> dict[str, Any]:
        """A dict that ``json`` can write."""
        return {
            "points": [{"steps": point.steps, **point.ap.to_json()} for point in self.points],
            "ann": self.ann.to_json() if self.ann else None,
            "energy": self.energy.to_json() if self.energy else None,
            "rates": self.rates,
            "mean_steps": self.mean_steps,
            "failed": list(self.failed),
            "settings": self.settings,
        }

    def __str__(self) -> str:
        lines = [f"{point.name}: {point.ap}" for point in self.points]
        if self.mean_steps is not None:
            lines.append(f"steps per image: {self.mean_steps:.2f}")
        if self.ann:
            lines.append(f"ANN beside it: {self.ann}")
        if self.energy:
            lines.append(str(self.energy))
        if self.failed:
            lines.append(f"{len(self.failed)} pictures cannot be read, and count as nothing found in them")
        return "\n".join(lines)


def score(
    dataset: DetectionDataset,
    detections: Sequence[Detections],
    protocol: str = "coco",
    class_map: Mapping[int, int] | None = None,
) -> APResult:
    """Average precision by name of the protocol.

    :param dataset: its boxes are the truth
    :param detections: one record an image, in pixels of the original image
    :param protocol: ``"coco"`` (pycocotools), ``"voc07"`` (11-point) or ``"voc"`` (all-point)
    :param class_map: model label -> data set label
    :raises InputError: for an unknown protocol
    """
    _check_protocol(protocol)
    return PROTOCOLS[protocol](dataset, detections, class_map=class_map)


def _check_protocol(protocol: str) -> None:
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol is {protocol!r}, it must be one of {', '.join(PROTOCOLS)}")


def evaluate(
    model: nn.Module,
    dataset: DetectionDataset,
    schedule: Schedule | str | int | None = None,
    *,
    readout: Sequence[int] | None = None,
    ann: nn.Module | None = None,
    size: int | None = None,
    resize: str = "letterbox",
    batch_size: int = 1,
    protocol: str = "coco",
    score_threshold: float = 0.005,
    iou_threshold: float = 0.45,
    max_detections: int = 100,
    encoder: str | Encoder = "constant",
    seed: int = 0,
    monitored: int = 16,
    mode: str = "steps",
    stop: str | None = None,
    stop_reads: int = 2,
    progress: str | Path | None = None,
    **changes: int | None,
) -> Evaluation:
    """Score a detector, spiking or not, on a data set.

    A spiking network runs once and is scored at every read-out. Classes are matched by name; only shared ones
    count. Pictures that cannot be read count as pictures in which nothing is found, so that scores are those
    of the whole data set; ``failed`` lists them.

    Called by all processes of ``torchrun``, each looks at some of the batches (process 0 at those that are
    monitored), and all return the result of a single process.

    :param model: a detector of :mod:`sj_lowlat.models`, or what ``convert`` made of one
    :param schedule: of a spiking network, as for :func:`~sj_lowlat.simulation.simulate`; by default its own
    :param readout: steps at which to score, by default the last one
    :param ann: a network to score for comparison, on the same images
    :param size: side of the network's input in pixels, by default the model's
    :param resize: ``"stretch"`` for networks trained on stretched pictures, as AlexeyAB's darknet does it
    :param protocol: as for :func:`score`
    :param score_threshold: as for :func:`~sj_lowlat.detect.nms`, like the next two
    :param encoder: as for :func:`~sj_lowlat.simulation.simulate`, like ``seed``
    :param monitored: number of images, from the first, to count firing rates and energy on; 0 for none
    :param mode: ``"counts"`` scores the settled network in one pass
    :param stop: ``"stable"`` ends each image when its detections no longer change
    :param stop_reads: read-outs without a change that ``stop`` waits for
    :param progress: a file for what was found so far, from which the same call goes on after an interruption,
        with the result of an uninterrupted run; one call at a time. It stays
    :param changes: overrides of single fields of the schedule, such as ``flush=4``
    :raises InputError: for arguments that are not possible, data without a box to find or a picture to read,
        and a ``progress`` that is of another call
    :raises OSError: if ``progress`` cannot be written
    """
    spiking, info = is_spiking(model), info_of(model)
    heads_of(model)
    steps: tuple[int | None, ...] = (None,)
    run: dict[str, Any] = {}
    latency: dict[str, int | None] = {}
    if spiking:
        schedule = schedule_for(model, schedule, **changes)
        latency = {**schedule.to_json(), "steps": schedule.total, "unit_steps": schedule.unit_steps}
        steps = check_readout(schedule, readout)
        run = {"schedule": schedule, "readout": readout, "encoder": encoder, "seed": seed, "mode": mode}
        run |= {"stop": stop, "stop_reads": stop_reads}
        if stop is not None:
            steps = steps[-1:]
    elif any(v is not None for v in (schedule, readout, stop, *changes.values())) or mode != "steps":
        raise InputError("schedule, readout, mode and stop are for spiking networks: call convert first")
    _check_protocol(protocol)
    size = int(size if size is not None else info.size or 416)
    if batch_size < 1 or size < 1:
        raise InputError(f"batch_size {batch_size} and size {size} came: both must be at least 1")
    targets = ground_truth(dataset)
    for network in (model, *([] if ann is None else [ann])):  # what cannot be scored is told before the run
        scored_labels(targets, len(dataset.class_names), _class_map(network, dataset))
    distributed.check_same({"number of images": len(dataset), "batch_size": batch_size, "size": size})
    places = own_images(len(dataset), batch_size, monitored)
    monitored = monitored if distributed.is_main() else 0
    settings = {
        "images": len(dataset),
        "processes": distributed.processes(),
        "size": size,
        "resize": resize,
        "schedule": str(schedule) if spiking else None,
        **latency,
        "encoder": encoder if isinstance(encoder, str) else type(encoder).__name__,
        "batch_size": batch_size,
        "score_threshold": score_threshold,
        "iou_threshold": iou_threshold,
        "max_detections": max_detections,
        "mode": mode,
        "stop": None if stop is None else {"what": stop, "reads": stop_reads},
        "precision": info.precision,
    }
    thresholds = (score_threshold, iou_threshold, max_detections)

    def look(samples: list[Sample]) -> tuple[dict[str, list[Detections]], list[int]]:
        images, boxes, _ = collate(samples, size, resize)
        reads = predict(model, images, boxes, thresholds, **run)
        ends: list[int] = []
        if stop is None:
            found = {str(read.step): read.detections for read in reads}
        else:
            records, ends = each_at_its_end(reads)
            found = {str(steps[-1]): records}
        if ann is not None:
            found["beside"] = next(predict(ann, images, boxes, thresholds)).detections
        return found, ends

    started = time.perf_counter()
    watched = (SynOpMonitor(model), FiringRateMonitor(model)) if spiking and monitored > 0 else None
    names = [*map(str, steps), *([] if ann is None else ["beside"])]
    with ExitStack() as running:
        request: dict[str, Any] = {}
        if progress is not None:
            progress = Path(progress)
            running.enter_context(one_run(progress.parent, progress.name))
            request = {
                **settings,
                "readout": steps,
                "monitored": monitored,
                "process": distributed.rank(),
                "data": data_hash(dataset, targets),
            }
            request |= {"network": network_hash(model), "ann": None if ann is None else network_hash(ann)}
            request |= {"seed": seed, "device": str(next(model.parameters()).device), "versions": versions()}
        kept = Progress(progress, request)
        own = gather(Part(dataset, places), batch_size, look, names, kept, watched, monitored)
        parts = distributed.gathered((places, own))
    found = {name: in_order([(places, part.found[name]) for places, part in parts]) for name in names}
    ends = [end for _, part in parts for end in part.ends]
    failed = [{**each, "image": places[each["image"]]} for places, part in parts for each in part.failed]
    failed.sort(key=lambda each: each["image"])
    if len(failed) == len(dataset):
        raise InputError(f"none of {len(dataset)} pictures can be read; the first: {failed[0]['error']}")
    return Evaluation(
        points=tuple(
            CurvePoint(step, score(dataset, found[str(step)], protocol, _class_map(model, dataset)))
            for step in steps
        ),
        ann=None if ann is None else score(dataset, found["beside"], protocol, _class_map(ann, dataset)),
        energy=parts[0][1].energy,
        rates=parts[0][1].rates,
        settings={**settings, "seconds": round(time.perf_counter() - started, 1), **provenance(seed)},
        mean_steps=sum(ends) / len(ends) if ends else None,
        failed=tuple(failed),
    )


def _class_map(model: nn.Module, dataset: DetectionDataset) -> dict[int, int] | None:
    names = info_of(model).class_names
    same = not names or names == tuple(dataset.class_names)
    return None if same else match_classes(names, dataset.class_names)
