"""Batches as a pure function of the seed and the step, so that a resumed run sees the same ones, and so do
several processes, each of which makes a part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from sj_lowlat import distributed
from sj_lowlat.class_names import match_classes
from sj_lowlat.data.augment import AugmentedDataset
from sj_lowlat.data.sample import DetectionDataset
from sj_lowlat.errors import InputError
from sj_lowlat.network import info_of
from sj_lowlat.training.config import FinetuneConfig


class Batch(NamedTuple):
    """One step's pictures and objects, or this process's part of them.

    :param images: ``[N, C, S, S]`` in [0, 1]
    :param boxes: and ``labels``, ``image``: as in :class:`~sj_lowlat.training.losses.Targets`
    """

    images: Tensor
    boxes: Tensor
    labels: Tensor
    image: Tensor


class BatchMaker(Dataset[Batch]):
    """``[step]`` is the batch of that step, or this process's part of it.

    Every epoch has its own order and views of the pictures; a batch may reach into the next epoch.

    :param data: a detection dataset, or an ``AugmentedDataset``, whose size then must be the config's
    :param labels: class index of the data -> of the network; objects of other classes are left out
    :raises InputError: if there are no pictures, or sizes differ
    """

    def __init__(
        self, data: DetectionDataset | AugmentedDataset, config: FinetuneConfig, labels: Mapping[int, int]
    ) -> None:
        if len(data) == 0:
            raise InputError("the dataset has no images; finetune needs at least one")
        self.length, self.config, self.labels = len(data), config, dict(labels)
        self.places = places(config)
        if isinstance(data, AugmentedDataset):
            if config.sizes != (data.size,):
                raise InputError(
                    f"the AugmentedDataset makes {data.size} px images and config.size is {config.size}: give"
                    " both the same, or pass the plain dataset, which is then augmented at each size"
                )
            self.views = {data.size: data}
        else:
            self.views = {size: AugmentedDataset(data, size, config.seed) for size in config.sizes}

    def __getitem__(self, step: int) -> Batch:
        sizes = self.config.sizes
        view = self.views[sizes[generator(self.config.seed, "size", step).integers(len(sizes))]]
        images, boxes, labels, image = [], [], [], []
        picked = picks(self.length, self.config.batch_size, self.config.seed, step)
        for i, place in enumerate(self.places):
            epoch, index = picked[place]
            view.set_epoch(epoch)
            picture, found, classes = view[index]
            known = torch.tensor([self.labels.get(int(c), -1) for c in classes], dtype=torch.int64)
            images.append(picture)
            boxes.append(found[known >= 0])
            labels.append(known[known >= 0])
            image.append(torch.full((len(labels[-1]),), i))
        batch = Batch(torch.stack(images), torch.cat(boxes), torch.cat(labels), torch.cat(image))
        return mixed(batch, self.config, step, self.places)

    def load(self, first: int, device: torch.device) -> Iterator[Batch]:
        """The batches from step ``first`` on, made ahead by ``config.workers`` processes, on a device."""
        loader: DataLoader[Batch] = DataLoader(
            self,
            batch_size=None,
            sampler=range(first, self.config.iterations),
            num_workers=self.config.workers,
            prefetch_factor=2 if self.config.workers else None,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # its own: it would advance torch's
        )
        for batch in loader:
            moved = Batch(*(value.to(device, non_blocking=True) for value in batch))
            yield moved._replace(images=moved.images.contiguous(memory_format=torch.channels_last))


def places(config: FinetuneConfig) -> list[int]:
    """Places in the batch whose pictures this process makes: its share, and with mix-up the one before.

    :raises InputError: if there are more processes than pictures
    """
    own = distributed.share(config.batch_size)
    if config.mix == 0 or len(own) == config.batch_size:
        return list(own)
    return [(own.start - 1) % config.batch_size, *own]


def mixed(batch: Batch, config: FinetuneConfig, step: int, made: Sequence[int]) -> Batch:
    """Mix-up: blend pictures, each with the probability ``config.mix``, with the one before, with a weight of
    1/2 to 1 for the picture itself; objects of both count.

    :param made: which pictures of the whole batch these are (:func:`places`)
    :return: the share of this process
    """
    draw, size, count = generator(config.seed, "mix", step), config.batch_size, len(made)
    chosen = torch.from_numpy(draw.random(size) < config.mix)[made]
    if size > 1 and chosen.any():
        device = batch.images.device
        weight = torch.from_numpy(draw.uniform(0.5, 1, size)).float()[made]
        own = torch.where(chosen, weight, 1.0).view(-1, 1, 1, 1).to(device)
        images = batch.images * own + batch.images.roll(1, 0) * (1 - own)
        after = (batch.image + 1) % count  # the picture that an object is blended into
        added = chosen.to(device)[after]
        more = batch.boxes[added], batch.labels[added], after[added]
        batch = Batch(images, *(torch.cat(pair) for pair in zip(batch[1:], more, strict=True)))
    first = count - len(distributed.share(size))
    kept = batch.image >= first
    return Batch(batch.images[first:], batch.boxes[kept], batch.labels[kept], batch.image[kept] - first)


def picks(length: int, batch_size: int, seed: int, step: int) -> list[tuple[int, int]]:
    """The (epoch, index) of each picture of a step: every epoch is one permutation of all pictures."""
    places = [divmod(place, length) for place in range(step * batch_size, (step + 1) * batch_size)]
    orders = {e: generator(seed, "order", e).permutation(length) for e in {epoch for epoch, _ in places}}
    return [(epoch, int(orders[epoch][place])) for epoch, place in places]


def label_map(data: DetectionDataset | AugmentedDataset, model: nn.Module) -> dict[int, int]:
    """Class index of the data -> of the network: by name where the network has names, else index = index.

    :raises InputError: if no class of the data is one of the network's, or the network has too few
    """
    info = info_of(model)
    if info.class_names:
        return match_classes(data.class_names, info.class_names)
    room = min(spec.num_classes for spec in info.heads)
    if len(data.class_names) > room:
        raise InputError(
            f"the data has {len(data.class_names)} classes and the network's heads {room}: give the network"
            " class_names, so that the classes they share can be found"
        )
    return {i: i for i in range(len(data.class_names))}


def generator(seed: int, purpose: str, number: int) -> np.random.Generator:
    """The generator of one purpose at one step or epoch."""
    return np.random.default_rng([seed, *purpose.encode(), number])
