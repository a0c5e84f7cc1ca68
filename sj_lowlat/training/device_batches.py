"""Batches from pictures that are decoded once onto a device and augmented there, all at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2.functional import resize

from sj_lowlat.data.augment import GREY, JITTER, SCALE, AugmentedDataset, visible
from sj_lowlat.data.sample import DetectionDataset, Sample
from sj_lowlat.errors import InputError
from sj_lowlat.training.batches import Batch, generator, mixed, picks, places
from sj_lowlat.training.config import FinetuneConfig

_LUMA = (0.2989, 0.587, 0.114)
_FINER = 2  # views are drawn at twice their size and averaged, against aliasing


class Window(NamedTuple):
    """Where pictures lie in square views.

    :param extents: height and width of the pictures, ``[N, 2]``
    :param factor: pixels of the view per pixel of the picture, ``[N]``
    :param corner: of the picture in the view, y and x in pixels, ``[N, 2]``
    :param flip: which are mirrored, bool ``[N]``
    """

    extents: Tensor
    factor: Tensor
    corner: Tensor
    flip: Tensor


class DeviceBatches:
    """``[step]`` is the batch of that step, or this process's part of it, made by the device that trains.

    The views are those of :func:`~sj_lowlat.data.augment.train_transform` (flip, colours, scale, place),
    with colours changed in one order and pixels interpolated once. One picture takes
    ``3 (1.5 S)^2`` bytes, S being the largest training size: 1.2 MB at 416 px. Of several processes each
    holds all pictures, because any of them can be in its part of a batch.

    :param labels: class index of the data -> of the network; objects of other classes are left out
    :raises InputError: if there are no pictures, or more than the GPU holds
    """

    def __init__(
        self,
        data: DetectionDataset | AugmentedDataset,
        config: FinetuneConfig,
        labels: Mapping[int, int],
        device: torch.device,
    ) -> None:
        if len(data) == 0:
            raise InputError("the dataset has no images; finetune needs at least one")
        if isinstance(data, AugmentedDataset):
            raise InputError("augment_on_device augments by itself: pass the plain dataset")
        self.config, self.device, self.length = config, device, len(data)
        self.places = places(config)
        side = max(config.sizes) * 3 // 2
        size = 3 * side * side * len(data)
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else size
        if size > 0.8 * free and device.type == "cuda":
            raise InputError(
                f"{len(data)} pictures at {side} px take {size / 1e9:.1f} GB and {device} has"
                f" {free / 1e9:.1f} GB free: set augment_on_device to False, or take fewer pictures"
            )
        self.pictures = torch.zeros(len(data), 3, side, side, dtype=torch.uint8, device=device)
        self.extents, self.means = torch.zeros(len(data), 2), torch.zeros(len(data))
        samples: DataLoader[Sample] = DataLoader(
            cast("Dataset[Sample]", data), None, num_workers=config.workers, generator=torch.Generator()
        )
        self.objects = [self._keep(index, sample, labels) for index, sample in enumerate(samples)]

    def _keep(self, index: int, sample: Sample, labels: Mapping[int, int]) -> tuple[Tensor, Tensor]:
        """Put a picture in its place, not larger than that; gives boxes in its pixels, and labels."""
        side, image = self.pictures.shape[-1], sample.image
        factor = min(1.0, side / max(image.shape[-2:]))
        height, width = (max(1, round(length * factor)) for length in image.shape[-2:])
        image = resize(image, [height, width], antialias=True)
        self.extents[index] = torch.tensor([height, width])
        self.means[index] = _luma(image[None] / 255).mean()
        # one pixel more beside it: what is interpolated at its edge mixes nothing foreign in
        image = F.pad(image[None].float(), (0, 1, 0, 1), mode="replicate")[0, :, :side, :side].byte()
        self.pictures[index, :, : image.shape[1], : image.shape[2]] = image.to(self.device)
        known = torch.tensor([labels.get(int(c), -1) for c in sample.labels], dtype=torch.int64)
        kept = (known >= 0) & ~sample.crowd
        return sample.boxes[kept] * factor, known[kept]

    def load(self, first: int, _device: torch.device) -> Iterator[Batch]:
        """The batches of the steps from ``first`` on."""
        return (self[step] for step in range(first, self.config.iterations))

    def __getitem__(self, step: int) -> Batch:
        config, count = self.config, self.config.batch_size
        size = config.sizes[generator(config.seed, "size", step).integers(len(config.sizes))]
        picked = picks(self.length, count, config.seed, step)
        chosen = [picked[place][1] for place in self.places]
        drawn = generator(config.seed, "view", step).random((count, 7)).astype(np.float32)
        draws = torch.from_numpy(drawn)[self.places]
        extents = self.extents[chosen]
        scale = torch.lerp(torch.tensor(SCALE[0]), torch.tensor(SCALE[1]), draws[:, 0])
        factor = scale * size / extents.amax(1)
        corner = (size - factor[:, None] * extents) * draws[:, 1:3]  # of the picture in the view, y and x
        flip = draws[:, 3] < 0.5
        window = Window(*(value.to(self.device) for value in (extents, factor, corner, flip)))
        means, colours = self.means[chosen].to(self.device), draws[:, 4:].to(self.device)
        images = views(self.pictures[chosen], window, means, colours, size)
        boxes, labels, image = [], [], []
        for i, index in enumerate(chosen):
            own, known = self.objects[index]
            if flip[i]:
                own = torch.stack(
                    (extents[i, 1] - own[:, 2], own[:, 1], extents[i, 1] - own[:, 0], own[:, 3]), 1
                )
            inside, keep = visible(own * factor[i] + corner[i].flip(0).repeat(2), size)
            boxes.append(inside[keep])
            labels.append(known[keep])
            image.append(torch.full((len(labels[-1]),), i))
        objects = (torch.cat(part).to(self.device) for part in (boxes, labels, image))
        return mixed(Batch(images, *objects), config, step, self.places)


def views(pictures: Tensor, window: Window, means: Tensor, draws: Tensor, size: int) -> Tensor:
    """Pictures seen through square windows in other colours, grey where a window shows nothing.

    :param pictures: uint8 ``[N, 3, S, S]``, each in the upper left corner
    :param means: brightness of each picture, in [0, 1], ``[N]``
    :param draws: brightness, contrast and saturation of each view, in [0, 1), ``[N, 3]``
    :return: float32 ``[N, 3, size, size]`` in [0, 1], channels last
    """
    extents, factor, corner, flip = window
    fine = _FINER * size
    centres = (torch.arange(fine, device=pictures.device) + 0.5) / _FINER
    at = (centres - corner[:, :, None]) / factor[:, None, None]  # [N, 2, fine], in pixels of the picture
    inside = (at > 0) & (at < extents[:, :, None])
    y, x = at[:, 0], torch.where(flip[:, None], extents[:, 1:] - at[:, 1], at[:, 1])
    shape = len(pictures), fine, fine
    grid = (
        torch.stack((x[:, None].expand(shape), y[:, :, None].expand(shape)), -1) * (2 / pictures.shape[-1])
        - 1
    )
    light = pictures.contiguous(memory_format=torch.channels_last).float() / 255
    seen = F.grid_sample(light, grid, padding_mode="border", align_corners=False)
    shown = (inside[:, 0, :, None] & inside[:, 1, None, :])[:, None]
    seen = torch.where(shown, _colours(seen, means, draws), GREY)
    return F.avg_pool2d(seen, _FINER).contiguous(memory_format=torch.channels_last)


def _colours(images: Tensor, means: Tensor, draws: Tensor) -> Tensor:
    """Brightness, contrast about the picture's mean, saturation, as torchvision's ``ColorJitter``."""
    brightness, contrast, saturation = (
        (low + (high - low) * draws[:, i]).view(-1, 1, 1, 1) for i, (low, high) in enumerate(JITTER)
    )
    images = (images * brightness).clamp(0, 1)
    mean = (means.view(-1, 1, 1, 1) * brightness).clamp(max=1)
    images = (mean + contrast * (images - mean)).clamp(0, 1)
    grey = _luma(images)
    return (grey + saturation * (images - grey)).clamp(0, 1)


def _luma(images: Tensor) -> Tensor:
    weights = torch.tensor(_LUMA, device=images.device).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True)
