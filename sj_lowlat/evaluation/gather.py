"""What a detector finds in a data set, batch by batch; each batch is kept, so that a run can go on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from sj_lowlat import checkpoint, distributed
from sj_lowlat.data import DetectionDataset, Sample, Target
from sj_lowlat.detect import Detections
from sj_lowlat.errors import InputError
from sj_lowlat.evaluation.energy import EnergyReport, energy
from sj_lowlat.monitors import FiringRateMonitor, SynOpMonitor
from sj_lowlat.network import info_of, unwrapped
from sj_lowlat.progress import Progress


@dataclass
class Gathered:
    """What was found, one record an image in the data set's order.

    :param found: by the name of what found it; nothing in pictures that cannot be read
    :param ends: steps of each image that was read, where a run may stop early
    :param failed: place in the data set and error of each picture that cannot be read
    :param energy: and ``rates``: of the images that were watched
    """

    found: dict[str, list[Detections]]
    ends: list[int] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)
    energy: EnergyReport | None = None
    rates: dict[str, Any] | None = None


def gather(
    dataset: DetectionDataset,
    batch_size: int,
    look: Callable[[list[Sample]], tuple[dict[str, list[Detections]], list[int]]],
    names: Sequence[str],
    progress: Progress,
    watched: tuple[SynOpMonitor, FiringRateMonitor] | None = None,
    monitored: int = 0,
) -> Gathered:
    """Look at every image of a data set.

    :param look: detections of a batch by name, and the steps of each image
    :param names: that ``look`` gives
    :param progress: has the batches that were done before and gets the new ones, but for those with a picture
        that cannot be read
    :param watched: monitors of the first images, whole batches
    :param monitored: how many these are
    :raises InputError: if the pictures that were done are other ones
    """
    result = Gathered({name: [] for name in names})
    done = {record["first"]: record for record in progress.records}
    for first in list(done)[:1]:
        if [_picture_hash(dataset[first])] != done[first]["picture"]:
            raise InputError(
                f"{progress.path} is of other pictures: give the same, another output, or remove the file"
            )
    counts = []
    hidden = None if distributed.is_main() else True
    with ExitStack() as watching:
        for monitor in watched or ():
            watching.enter_context(monitor)
        for first in tqdm(range(0, len(dataset), batch_size), desc="evaluate", disable=hidden):
            count = min(batch_size, len(dataset) - first)
            watch = watched is not None and monitored > 0
            if not watch:
                watching.close()
            record = done.pop(first, None)
            if record is None or (watch and record["counts"] is None):
                samples, failed = _read(dataset, range(first, first + count))
                found, ends = look(list(samples.values())) if samples else ({}, [])
                record = {"first": first, "read": list(samples), "ends": ends, "counts": None}
                record["picture"] = [_picture_hash(sample) for sample in samples.values()][:1]
                record["found"] = {name: list(map(_lists, each)) for name, each in found.items()}
                if watch and watched:
                    record["counts"] = [watched[0].to_json(), watched[1].sums()]
                    for monitor in watched:
                        monitor.clear_recorded_data()
                result.failed += failed
                if not failed:
                    progress.add(record)
            if watch:
                counts.append(record["counts"])
            monitored -= len(record["read"])
            for name, records in result.found.items():
                new = dict(zip(record["read"], record["found"].get(name, []), strict=True))
                records += [_detections(new.get(i, _NOTHING)) for i in range(first, first + count)]
            result.ends += record["ends"]
    if watched and len(result.failed) < len(dataset):
        for synops, rates in counts:
            watched[0].add(synops)
            watched[1].add(rates)
        result.energy, result.rates = energy(*watched), watched[1].to_json()
    return result


def network_hash(network: nn.Module) -> str:
    """A hash of a network's structure and weights."""
    network = unwrapped(network)
    try:
        structure = checkpoint.describe(network)
    except InputError:  # of layers that no checkpoint can hold
        structure = {"text": str(network)}
    about = {**structure, "versions": None, "info": info_of(network).to_json()}
    digest = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def data_hash(dataset: DetectionDataset, targets: Sequence[Target]) -> str:
    """A hash of a data set's classes and boxes."""
    rows = [(t.image_id, t.boxes, t.labels, t.crowd, t.difficult) for t in targets]
    plain = [[part.tolist() if isinstance(part, torch.Tensor) else part for part in row] for row in rows]
    return hashlib.sha256(json.dumps([dataset.class_names, plain]).encode()).hexdigest()[:16]


def _picture_hash(sample: Sample) -> str:
    return hashlib.sha256(sample.image.contiguous().numpy().tobytes()).hexdigest()[:16]


def _read(dataset: DetectionDataset, places: Sequence[int]) -> tuple[dict[int, Sample], list[dict[str, Any]]]:
    """Samples by place, and what is wrong with the pictures of the others."""
    samples: dict[int, Sample] = {}
    failed = []
    for place in places:
        try:
            samples[place] = dataset[place]
        except (InputError, OSError) as error:
            failed.append({"image": place, "error": str(error)})
    return samples, failed


_NOTHING: tuple[list[Any], ...] = ([], [], [])


def _lists(found: Detections) -> tuple[list[Any], ...]:
    return found.boxes.tolist(), found.scores.tolist(), found.labels.tolist()


def _detections(lists: Sequence[list[Any]]) -> Detections:
    boxes, scores, labels = lists
    found = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Detections(found, torch.tensor(scores), torch.tensor(labels, dtype=torch.int64))
