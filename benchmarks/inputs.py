"""Photos and networks of the benchmark scripts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import public
import torch
from torch import Tensor, nn
from torch.utils.data import Subset

from sj_lowlat import zoo
from sj_lowlat.data import (
    CocoDataset,
    DetectionDataset,
    ImageFolderDataset,
    Target,
    VocDataset,
    batches,
    ground_truth,
    letterbox,
)
from sj_lowlat.data.sample import make_target
from sj_lowlat.evaluation.predict import predict
from sj_lowlat.models import grey_input
from sj_lowlat.network import info_of

NEURONS = {
    "if": "plain IF", "residual-fix": "residual fix", "signed": "signed",
    "hard-reset": "hard reset", "srp": "SRP", "cos": "COS",
}  # fmt: skip
USUAL = ("if", "residual-fix", "signed")
PHOTOS = ("coco", "in-darknet-5k", "voc")


class Part(Subset):
    """Some images of a data set."""

    def __init__(self, whole: DetectionDataset, indices: list[int]) -> None:
        super().__init__(whole, indices)
        self.class_names, targets = whole.class_names, ground_truth(whole)
        self.targets = [targets[index] for index in indices]

    def target(self, index: int) -> Target:
        return self.targets[index]


@dataclass(frozen=True)
class Photos:
    """Images with boxes, what they are in words, and the protocol they are scored by."""

    label: str
    dataset: DetectionDataset
    protocol: str

    def __len__(self) -> int:
        return len(self.dataset)

    def spaced(self, count: int | None) -> Photos:
        """So many of the images, evenly spaced; all of them where that is not fewer."""
        whole = len(self)
        if count is None or count >= whole:
            return self
        part = Part(self.dataset, spaced(whole, count))
        return Photos(f"{self.label}, {count} of {whole} evenly spaced", part, self.protocol)


class Agreement(Part):
    """The photos with people of a data set; the boxes are what a detector finds there with a score of 0.5 or
    more, so that another one is scored by how far it agrees."""

    def __init__(self, whole: DetectionDataset, detector: nn.Module, size: int) -> None:
        person = whole.class_names.index("person")
        people = [i for i, target in enumerate(ground_truth(whole)) if person in target.labels.tolist()]
        super().__init__(whole, people)
        self.class_names = tuple(info_of(detector).class_names)
        found = [
            next(predict(detector, images, boxes)).detections[0].filter(0.5)
            for images, boxes, _ in batches(Part(whole, people), 1, size)
        ]
        self.targets = [
            make_target(new.boxes, new.labels.tolist(), old.image_id)
            for old, new in zip(self.targets, found, strict=True)
        ]


def spaced(whole: int, count: int) -> list[int]:
    """``count`` evenly spaced numbers from 0 to ``whole - 1``."""
    return torch.linspace(0, whole - 1, count, dtype=torch.float64).round().long().tolist()


def open_photos(name: str, data: Path) -> Photos:
    """Photos by name.

    :param name: of ``PHOTOS``: the validation part of the COCO subset; the part of it that the darknet
        weights were not trained on; the test part of the VOC subset
    :param data: folder with coco-subset and voc-subset
    """
    if name == "voc":
        return Photos("VOC subset, test", VocDataset(data / "voc-subset"), "voc")
    folder = data / "coco-subset"
    coco = CocoDataset(folder / "annotations" / "instances_val2017.json", folder / "val2017")
    if name == "coco":
        return Photos("COCO subset", coco, "coco")
    return Photos("COCO subset, in_darknet_5k", coco.select(lambda image: image["in_darknet_5k"]), "coco")


def stacked(dataset: Any, count: int, size: int) -> Tensor:
    """Evenly spaced images of a data set, ``[N, 3, S, S]``."""
    chosen = torch.linspace(0, len(dataset) - 1, count).long().tolist()
    return torch.stack([letterbox(dataset[index].image, size)[0] for index in chosen])


@cache
def calibration_images(data: Path, count: int, size: int) -> Tensor:
    """Training photos of the COCO subset, ``[N, 3, S, S]``."""
    return stacked(ImageFolderDataset(data / "coco-subset" / "train2017"), count, size)


def named(text: str) -> tuple[str, str]:
    """Split ``name=what``; ``what`` alone is named by its last part."""
    name, equals, what = text.partition("=")
    return (name, what) if equals else (Path(text).stem, text)


@cache
def open_network(spec: str) -> nn.Module:
    """The network that a word names; also ``FOLDER@NAME``, one of ``public.py``, and ``WORD::CLASS``, which
    names its only class. Do not change it in place."""
    word, _, only = spec.partition("::")
    folder, at, name = word.rpartition("@")
    network: Any = public.NETWORKS[name](Path(folder)).eval() if at else zoo.open_network(word)
    if only:
        network.class_names = (only,)
    return network


def levels_of(spec: str) -> int | None:
    """L of a quantised network; ``None`` for one with ReLUs."""
    return info_of(open_network(spec)).levels


def neurons_for(spec: str, wanted: Sequence[str]) -> list[str]:
    """Which of these neurons (None: no spikes) a network can have: only signed ones stand for leaky ReLUs."""
    modules = open_network(spec).modules()
    leaky = any(getattr(module, "negative_slope", 0) or getattr(module, "slope", 0) for module in modules)
    return [name for name in wanted if name in (None, "signed") or not leaky]


@cache
def open_grey(spec: str) -> nn.Module:
    """The network for grey pictures: one channel."""
    network: Any = open_network(spec)
    return network if network.input_shape[0] == 1 else grey_input(network)


@cache
def fingerprint(spec: str) -> str:
    """Tell apart networks that were trained anew in the same place."""
    digest = hashlib.sha256()
    for name, tensor in open_network(spec).state_dict().items():
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
