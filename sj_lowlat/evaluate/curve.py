"""Average precision at every read-out, from one simulation."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from torch import nn
from tqdm import tqdm

from sj_lowlat.class_names import match_classes
from sj_lowlat.data import DetectionDataset, batches, ground_truth
from sj_lowlat.detect import Detections, HeadSpec
from sj_lowlat.encoders import Encoder
from sj_lowlat.errors import InputError
from sj_lowlat.evaluate.ap import APResult
from sj_lowlat.evaluate.coco_ap import coco_ap
from sj_lowlat.evaluate.energy import EnergyReport
from sj_lowlat.evaluate.monitored import FirstImages
from sj_lowlat.evaluate.reading import back, each_at_its_end, run_ann
from sj_lowlat.evaluate.voc_ap import voc_ap
from sj_lowlat.layers import LowLatencyIFNode
from sj_lowlat.simulate import check_steps, simulate_steps

PROTOCOLS = ("coco", "voc07", "voc")
_RECORDED = ("torch", "torchvision", "spikingjelly", "sj_lowlat")


@dataclass(frozen=True)
class CurvePoint:
    """Accuracy at one latency.

    :param steps: every step until the read-out, flush included; ``None`` for a network that is not spiking
    :param ap: average precision there
    """

    steps: int | None
    ap: APResult


@dataclass(frozen=True)
class Evaluation:
    """Accuracy of a detector on a data set.

    :param points: one per read-out, ascending
    :param ann: accuracy of the network beside it, if one was given
    :param energy: energy per image on the monitored images, for a spiking network
    :param rates: firing rates per layer on the same images (``FiringRateMonitor.to_json``)
    :param mean_steps: steps per image where ``stop`` ended them early; the only point is that of all images,
        each at its own last step
    :param settings: image size, thresholds, protocol, seed, versions, command, seconds
    """

    points: tuple[CurvePoint, ...]
    ann: APResult | None
    energy: EnergyReport | None
    rates: dict[str, Any] | None
    settings: dict[str, Any]
    mean_steps: float | None = None

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
            "settings": self.settings,
        }

    def __str__(self) -> str:
        lines = [
            f"{'ANN' if point.steps is None else f'SNN, {point.steps} steps'}: {point.ap}"
            for point in self.points
        ]
        lines += [f"steps per image: {self.mean_steps:.2f}"] if self.mean_steps is not None else []
        lines += [f"ANN beside it: {self.ann}"] if self.ann else []
        return "\n".join([*lines, *([str(self.energy)] if self.energy else [])])


def score(
    dataset: DetectionDataset,
    detections: Sequence[Detections],
    protocol: str = "coco",
    class_map: Mapping[int, int] | None = None,
) -> APResult:
    """Average precision by name of the protocol.

    :param dataset: the data set, whose boxes are the truth
    :param detections: one record an image, in pixels of the original image
    :param protocol: ``"coco"`` (pycocotools), ``"voc07"`` (11-point) or ``"voc"`` (all-point)
    :param class_map: model label -> data set label
    :raises InputError: for an unknown protocol
    """
    _check_protocol(protocol)
    if protocol == "coco":
        return coco_ap(dataset, detections, class_map)
    return voc_ap(dataset, detections, "11-point" if protocol == "voc07" else "all-point", class_map)


def _check_protocol(protocol: str) -> None:
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol is {protocol!r}, it must be one of {', '.join(PROTOCOLS)}")


def evaluate(
    model: nn.Module,
    dataset: DetectionDataset,
    time_steps: int | None = None,
    *,
    flush: int = 0,
    levels: int | None = None,
    burst: int = 1,
    readout: Sequence[int] | None = None,
    ann: nn.Module | None = None,
    size: int | None = None,
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
) -> Evaluation:
    """Score a detector, spiking or not, on a data set.

    A spiking network runs once; its accuracy is given at every read-out. Classes are matched by name, and
    only the shared ones count.

    :param model: a detector of :mod:`sj_lowlat.models`, or what ``convert`` made of one
    :param dataset: images with boxes
    :param time_steps: T of a spiking network; by default the levels it was trained for
    :param flush: further steps without input
    :param levels: charge that the steps with input bring, see :func:`~sj_lowlat.simulate.simulate`
    :param burst: most spikes per neuron and step
    :param readout: steps at which to score, by default the last one
    :param ann: a network to score beside it
    :param size: side of the network's input in pixels, by default the model's
    :param batch_size: images per pass
    :param protocol: ``"coco"``, ``"voc07"`` or ``"voc"``
    :param score_threshold: detections score more than this
    :param iou_threshold: of the non-maximum suppression
    :param max_detections: per image
    :param encoder: see :func:`~sj_lowlat.simulate.simulate`
    :param seed: of the Poisson encoder
    :param monitored: firing rates and energy are counted on the first so many images; 0 for none
    :param mode: ``"counts"`` scores the settled network in one pass, see
        :func:`~sj_lowlat.simulate.simulate`
    :param stop: ``"stable"`` ends each image when its detections no longer change, see there
    :param stop_reads: read-outs without a change that ``stop`` waits for
    :raises InputError: for arguments that cannot be
    """
    spiking = any(isinstance(module, LowLatencyIFNode) for module in model.modules())
    specs = _specs(model)
    steps: tuple[int | None, ...] = (None,)
    if spiking:
        time_steps = time_steps if time_steps is not None else getattr(model, "levels", None)
        if time_steps is None:
            raise InputError("the network does not know its levels: give time_steps, for instance 16")
        steps = check_steps(time_steps, flush, readout)
        if stop is not None:
            steps = steps[-1:]
    elif time_steps is not None or flush or readout is not None or stop is not None or mode != "steps":
        raise InputError(
            "time_steps, flush, readout, mode and stop are for spiking networks: call convert first"
        )
    _check_protocol(protocol)
    class_map = _class_map(model, dataset)
    size = int(size if size is not None else getattr(model, "input_size", 416))
    ground_truth(dataset)  # a data set that cannot be read should say so before the long run
    started = time.perf_counter()
    found: dict[int | None, list[Detections]] = {step: [] for step in steps}
    beside: list[Detections] = []
    ends: list[int] = []
    monitors = FirstImages(model, monitored if spiking else 0)
    thresholds = (score_threshold, iou_threshold, max_detections)
    parameter = next(model.parameters())
    with monitors:
        for images, boxes, _ in tqdm(batches(dataset, batch_size, size), desc="evaluate", disable=None):
            images = images.to(device=parameter.device, dtype=parameter.dtype)
            if spiking:
                assert time_steps is not None
                run = simulate_steps(
                    model,
                    images,
                    time_steps,
                    flush=flush,
                    levels=levels,
                    burst=burst,
                    readout=readout,
                    encoder=encoder,
                    seed=seed,
                    mode=mode,
                    stop=stop,
                    stop_reads=stop_reads,
                )
                if stop is None:
                    for read in run:
                        found[read.step] += back(read.outputs, specs, boxes, thresholds)
                else:
                    records, ended = each_at_its_end(run, specs, boxes, thresholds)
                    found[steps[-1]] += records
                    ends += ended
            else:
                found[None] += back(run_ann(model, images), specs, boxes, thresholds)
            if ann is not None:
                beside += back(run_ann(ann, images), _specs(ann), boxes, thresholds)
            monitors.seen(len(images))
    return Evaluation(
        points=tuple(CurvePoint(step, score(dataset, found[step], protocol, class_map)) for step in steps),
        ann=score(dataset, beside, protocol, _class_map(ann, dataset)) if ann is not None else None,
        energy=monitors.energy,
        rates=monitors.rates,
        settings={
            "images": len(dataset),
            "size": size,
            "time_steps": time_steps,
            "flush": flush,
            "levels": levels if levels is not None else time_steps,
            "burst": burst,
            "encoder": encoder if isinstance(encoder, str) else type(encoder).__name__,
            "batch_size": batch_size,
            "score_threshold": score_threshold,
            "iou_threshold": iou_threshold,
            "max_detections": max_detections,
            "seed": seed,
            "seconds": round(time.perf_counter() - started, 1),
            "command": sys.argv,
            "mode": mode,
            "stop": None if stop is None else {"what": stop, "reads": stop_reads},
            "precision": getattr(model, "precision", "fp32"),
            "versions": {name: version(name) for name in _RECORDED},
        },
        mean_steps=sum(ends) / len(ends) if ends else None,
    )


def _specs(model: nn.Module) -> Sequence[HeadSpec]:
    specs = getattr(model, "head_specs", None)
    if not specs:
        raise InputError(
            f"{type(model).__name__} has no head_specs, so its maps cannot be decoded: "
            "set model.head_specs to a tuple of sj_lowlat.detect.HeadSpec, one per map"
        )
    return specs


def _class_map(model: nn.Module, dataset: DetectionDataset) -> dict[int, int] | None:
    names = tuple(getattr(model, "class_names", ()))
    same = not names or names == tuple(dataset.class_names)
    return None if same else match_classes(names, dataset.class_names)
