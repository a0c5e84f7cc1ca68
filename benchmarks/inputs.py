"""Photos and networks of the benchmark scripts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sj_lowlat import checkpoint, pretrained
from sj_lowlat.conversion import convert
from sj_lowlat.conversion.spike import negative_slope
from sj_lowlat.data import CocoDataset, DetectionDataset, ImageFolderDataset, Sample, VocDataset, letterbox
from sj_lowlat.data.sample import Target, ground_truth
from sj_lowlat.layers import LowLatencyIFNode
from sj_lowlat.models import grey_input, tiny_yolov3

STATISTIC = "99.9%"  # scale of a network that has no trained clips, as in the paper


class Part:
    """Some images of a data set that has no ``subset`` of its own."""

    def __init__(self, whole: DetectionDataset, indices: list[int]) -> None:
        self.whole, self.indices, self.class_names = whole, indices, whole.class_names
        targets = ground_truth(whole)
        self.targets = [targets[index] for index in indices]

    def __len__(self) -> int:
        return len(self.indices)

    def target(self, index: int) -> Target:
        return self.targets[index]

    def __getitem__(self, index: int) -> Sample:
        return self.whole[self.indices[index]]


@dataclass(frozen=True)
class Photos:
    """Images with boxes, what they are in words, and the rules they are scored by."""

    label: str
    dataset: DetectionDataset
    protocol: str

    def __len__(self) -> int:
        return len(self.dataset)

    def spaced(self, count: int | None) -> Photos:
        """So many of the images, evenly spaced; all of them where that is not fewer."""
        whole = len(self.dataset)
        if count is None or count >= whole:
            return self
        chosen = torch.linspace(0, whole - 1, count, dtype=torch.float64).round().long().tolist()
        subset = getattr(self.dataset, "subset", None)
        dataset = subset(chosen) if callable(subset) else Part(self.dataset, chosen)
        return Photos(f"{self.label}, {count} of {whole} evenly spaced", dataset, self.protocol)


def coco_photos(data: Path, in_darknet_5k: bool = False) -> Photos:
    """The validation part of the COCO subset.

    :param in_darknet_5k: only the images that the darknet weights were not trained on
    """
    folder = data / "coco-subset"
    dataset = CocoDataset(folder / "annotations" / "instances_val2017.json", folder / "val2017")
    if in_darknet_5k:
        return Photos("COCO subset, in_darknet_5k", dataset.select(lambda i: i["in_darknet_5k"]), "coco")
    return Photos("COCO subset", dataset, "coco")


def voc_photos(data: Path) -> Photos:
    """The test part of the VOC subset."""
    return Photos("VOC subset, test", VocDataset(data / "voc-subset"), "voc")


@cache
def calibration_images(data: Path, count: int, size: int) -> Tensor:
    """Training photos of the COCO subset, evenly spaced, ``[N, 3, S, S]``."""
    photos = ImageFolderDataset(data / "coco-subset" / "train2017")
    chosen = torch.linspace(0, len(photos) - 1, count).long().tolist()
    return torch.stack([letterbox(photos[index].image, size)[0] for index in chosen])


def named(text: str) -> tuple[str, str]:
    """Split ``name=what``; ``what`` alone is named by its last part."""
    name, equals, what = text.partition("=")
    return (name, what) if equals else (Path(text).stem, text)


@cache
def open_network(spec: str) -> nn.Module:
    """Open a network; do not change it in place.

    :param spec: a folder of ``checkpoint.save``, a darknet ``.weights`` file, a file of ``pretrained.pack``,
        or the name of a shipped network
    """
    if Path(spec).is_dir():
        return checkpoint.load(spec)
    if spec.endswith(".weights"):
        return tiny_yolov3(weights=spec).eval()
    return pretrained.unpack(spec) if spec.endswith(".safetensors") else pretrained.load(spec, spiking=False)


def levels_of(spec: str) -> int | None:
    """L of a quantised network; ``None`` for one with ReLUs."""
    return getattr(open_network(spec), "levels", None)


def is_leaky(spec: str) -> bool:
    """Whether a network has activations with a negative slope, which only signed neurons stand for."""
    return any(negative_slope(module) for module in open_network(spec).modules())


@cache
def open_grey(spec: str) -> nn.Module:
    """:func:`open_network` for grey pictures: one channel."""
    network: Any = open_network(spec)
    return network if network.input_shape[0] == 1 else grey_input(network)


def spiking(
    spec: str, neuron: str, data: Path, calibration: int, size: int, kernel: str, grey: bool = False
) -> nn.Module:
    """Convert a network: trained clips where it has them, else a percentile on calibration photos.

    :param spec: see :func:`open_network`
    :param neuron: of ``convert``
    :param data: where the calibration photos are
    :param calibration: how many of them
    :param size: their side in pixels
    :param kernel: of the neurons
    :param grey: convert :func:`open_grey`
    """
    options: dict[str, Any] = {"neuron": neuron}
    if levels_of(spec) is None:
        images = calibration_images(data, calibration, size)
        images = images.mean(1, keepdim=True) if grey else images
        options |= {"scale": STATISTIC, "calibration": images}
    snn = convert(open_grey(spec) if grey else open_network(spec), **options)
    for module in snn.modules():
        if isinstance(module, LowLatencyIFNode):
            module.kernel = kernel
    return snn


@cache
def fingerprint(spec: str) -> str:
    """Tell apart networks that were trained anew in the same place."""
    digest = hashlib.sha256()
    for name, tensor in open_network(spec).state_dict().items():
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
