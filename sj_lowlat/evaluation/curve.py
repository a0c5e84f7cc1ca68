"""Average precision at every read-out, from one simulation."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import nn

from sj_lowlat import distributed
from sj_lowlat.data import DetectionDataset, Part, Sample, collate, ground_truth
from sj_lowlat.detect import Detections
from sj_lowlat.encoders import Encoder
from sj_lowlat.errors import InputError
from sj_lowlat.evaluation.ap import scored_labels
from sj_lowlat.evaluation.bootstrap import Difference, Interval, intervals
from sj_lowlat.evaluation.gather import data_hash, gather, network_hash
from sj_lowlat.evaluation.per_class import class_scores
from sj_lowlat.evaluation.predict import each_at_its_end, predict
from sj_lowlat.evaluation.protocols import check_protocol, class_map_of, score, score_and_match
from sj_lowlat.evaluation.result import CurvePoint, Evaluation
from sj_lowlat.evaluation.shares import in_order, own_images
from sj_lowlat.layers import is_spiking
from sj_lowlat.monitors import FiringRateMonitor, SynOpMonitor
from sj_lowlat.network import heads_of, info_of, schedule_for
from sj_lowlat.progress import Progress, one_run
from sj_lowlat.record import provenance, versions
from sj_lowlat.schedule import Schedule
from sj_lowlat.simulation import check_readout


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
    confidence: int = 0,
    keep_detections: bool = False,
    min_score: float = 0.25,
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
    :param confidence: resamples for the bootstrap intervals of mAP50 and of the differences to ``ann``, as
        :func:`~sj_lowlat.evaluation.paired_difference` gives them; 0 for none
    :param keep_detections: whether the result holds the detections, to compare them later
    :param min_score: score above which detections count for precision, recall and F1 of
        :func:`~sj_lowlat.evaluation.class_scores`; average precision is of all
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
    check_protocol(protocol)
    size = int(size if size is not None else info.size or 416)
    if batch_size < 1 or size < 1:
        raise InputError(f"batch_size {batch_size} and size {size} came: both must be at least 1")
    if isinstance(confidence, bool) or not isinstance(confidence, int) or confidence < 0:
        raise InputError(
            f"confidence is {confidence!r}: give a number of resamples such as 1000, or 0 for none"
        )
    if not 0 <= min_score <= 1:
        raise InputError(f"min_score is {min_score}; give a score in [0, 1]")
    targets = ground_truth(dataset)
    for network in (model, *([] if ann is None else [ann])):  # what cannot be scored is told before the run
        scored_labels(targets, len(dataset.class_names), class_map_of(network, dataset))
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
    maps = {name: class_map_of(model, dataset) for name in names}
    if ann is not None:
        maps["beside"] = class_map_of(ann, dataset)
    last = str(steps[-1])
    scores, matches = {}, {}
    for name in names:
        if confidence or name == last:
            scores[name], matches[name] = score_and_match(dataset, found[name], protocol, maps[name])
        else:
            scores[name] = score(dataset, found[name], protocol, maps[name])
    ranges: dict[str, Interval] = {}
    differences: dict[str, Difference] = {}
    if confidence:
        sets = [matches[name] for name in names]
        beside = None if ann is None else sets.pop()
        each, more = intervals(sets, beside, resamples=confidence)
        ranges, differences = dict(zip(names, each, strict=True)), dict(zip(names, more, strict=False))
    return Evaluation(
        points=tuple(
            CurvePoint(step, scores[name], ranges.get(name), differences.get(name))
            for step, name in zip(steps, names, strict=False)
        ),
        ann=scores.get("beside"),
        energy=parts[0][1].energy,
        rates=parts[0][1].rates,
        settings={**settings, "seconds": round(time.perf_counter() - started, 1), **provenance(seed)},
        mean_steps=sum(ends) / len(ends) if ends else None,
        failed=tuple(failed),
        ann_interval=ranges.get("beside"),
        detections=found if keep_detections else None,
        classes=class_scores(matches[last], dataset.class_names, min_score),
        matches=matches[last],
    )
