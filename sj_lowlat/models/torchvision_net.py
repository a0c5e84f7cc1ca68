"""Torchvision's one-stage detectors, RetinaNet and SSDLite, as networks that can be converted."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNet_ResNet50_FPN_Weights
from torchvision.models.detection.ssd import SSD
from torchvision.ops import FrozenBatchNorm2d

from sj_lowlat.detect import AnchorGrid, AnchorHead
from sj_lowlat.errors import InputError
from sj_lowlat.models.detector import names_of_classes
from sj_lowlat.network import NetworkInfo, WithInfo

_COCO = RetinaNet_ResNet50_FPN_Weights.COCO_V1.meta["categories"]  # 91 names, the first of the background


class TorchvisionDetector(WithInfo, nn.Module):
    """What :func:`from_torchvision` returns.

    :param detector: its backbone and head are taken over
    :param info: its metadata
    """

    mean: Tensor
    std: Tensor

    def __init__(self, detector: Any, info: NetworkInfo) -> None:
        super().__init__()
        self.backbone, self.head, self.info = detector.backbone, detector.head, info
        for name, values in (("mean", detector.transform.image_mean), ("std", detector.transform.image_std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1))

    def features(self, images: Tensor) -> list[Tensor]:
        """The maps that the heads read."""
        found = self.backbone((images - self.mean) / self.std)
        return [found] if isinstance(found, Tensor) else list(found.values())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Class values ``[N, M, K]`` and offsets ``[N, M, 4]`` of images ``[N, 3, H, W]`` in [0, 1]."""
        found = self.head(self.features(images))
        return found["cls_logits"], found["bbox_regression"]


def from_torchvision(
    detector: nn.Module, size: int | tuple[int, int], *, class_names: Sequence[str] | None = None
) -> TorchvisionDetector:
    """A detector of torchvision as a network that can be converted, its weights as they are.

    :param detector: a ``RetinaNet`` or ``SSD`` (SSDLite); left as it is. Layers without a spiking form (the
        group norms of RetinaNet v2 and FCOS, the L2 norm of SSD300 with VGG) are refused by ``prepare``
    :param size: of the images that it is meant for: a side, or (height, width), in pixels
    :param class_names: one name per class without the background; if ``None``, torchvision's for COCO, or
        numbers
    :return: the network in eval mode; frozen batch norms are ordinary ones
    :raises InputError: for another network, or anchors that lie on no regular grid
    """
    if not isinstance(detector, (RetinaNet, SSD)):
        raise InputError(
            f"{type(detector).__name__} came; from_torchvision takes RetinaNet and SSD: give other networks "
            "to prepare as they are, with head_specs"
        )
    height, width = (size, size) if isinstance(size, int) else size
    softmax = isinstance(detector, SSD)
    generator: Any = detector.anchor_generator
    network = TorchvisionDetector(_thawed(copy.deepcopy(detector)), NetworkInfo()).eval()
    images = torch.zeros(1, 3, height, width)
    with torch.no_grad():
        maps = network.features(images)
        boxes: Tensor = generator(ImageList(images, [(height, width)]), maps)[0]
        classes = network(images)[0].shape[-1] - softmax
    sides = [(found.shape[2], found.shape[3]) for found in maps]
    per_cell = len(boxes) // sum(rows * columns for rows, columns in sides)
    counts = getattr(generator, "num_anchors_per_location", lambda: [per_cell] * len(sides))()
    parts = boxes.split([rows * columns * a for (rows, columns), a in zip(sides, counts, strict=True)])
    grids = [_grid(*side, part, (width, height)) for side, part in zip(sides, parts, strict=True)]
    head = AnchorHead(
        classes, tuple(grids), "softmax" if softmax else "sigmoid", softmax, tuple(detector.box_coder.weights)
    )
    coco = _COCO[softmax:]
    if class_names is None and classes == len(coco):
        class_names = coco
    names = names_of_classes(class_names, [classes])
    network.info = NetworkInfo((head,), names, (3, height, width))
    return network


def _grid(rows: int, columns: int, boxes: Tensor, image: tuple[int, int]) -> AnchorGrid:
    """The regular grid that anchors ``[rows * columns * A, 4]`` lie on."""
    cells = boxes.double().view(rows, columns, -1, 4)
    centres, sizes = (cells[..., :2] + cells[..., 2:]) / 2, cells[0, 0, :, 2:] - cells[0, 0, :, :2]
    across = float(centres[0, 1, 0, 0] - centres[0, 0, 0, 0]) if columns > 1 else image[0]
    down = float(centres[1, 0, 0, 1] - centres[0, 0, 0, 1]) if rows > 1 else image[1]
    offset = round(float(centres[0, 0, 0, 0]) / across, 6)
    grid = AnchorGrid(rows, columns, (across, down), tuple(map(tuple, sizes.tolist())), offset)
    again = grid.boxes(boxes.device)
    again = torch.cat((again[:, :2] - again[:, 2:] / 2, again[:, :2] + again[:, 2:] / 2), -1)
    if not torch.allclose(again, boxes.float(), rtol=1e-4, atol=1e-2):
        raise InputError("the detector's anchors lie on no regular grid: give heads of sj_lowlat.detect")
    return grid


def _thawed(module: Any) -> Any:
    """Ordinary batch norms in the place of frozen ones, in place."""
    for name, child in module.named_children():
        if isinstance(child, FrozenBatchNorm2d):
            norm = nn.BatchNorm2d(len(child.weight), child.eps)
            norm.load_state_dict(child.state_dict(), strict=False)
            setattr(module, name, norm)
        else:
            _thawed(child)
    return module
