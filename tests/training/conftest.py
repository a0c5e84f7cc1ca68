"""A small detector and a few drawn pictures."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sj_lowlat.data import Sample
from sj_lowlat.detect import HeadSpec

NAMES = ("red", "green", "blue")


class TinyDetector(nn.Module):
    """Two heads (strides 32 and 16), BN, dropout, and a parameter named like QuantReLU's."""

    def __init__(self, num_classes: int = 3, channels: int = 16) -> None:
        super().__init__()
        self.head_specs = (
            HeadSpec(((40.0, 40.0), (60.0, 30.0)), 32, num_classes),
            HeadSpec(((12.0, 12.0), (20.0, 24.0)), 16, num_classes),
        )
        self.class_names = NAMES[:num_classes]
        widths = (3, channels, channels, channels, channels)
        blocks = [self._block(before, after) for before, after in zip(widths, widths[1:], strict=False)]
        self.fine = nn.Sequential(*blocks)
        self.coarse = nn.Sequential(self._block(channels, channels), nn.Dropout(0.1))
        self.clip_raw = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.heads = nn.ModuleList(nn.Conv2d(channels, spec.channels, 1) for spec in self.head_specs)

    @staticmethod
    def _block(before: int, after: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.fine(x) * self.clip_raw
        return self.heads[0](self.coarse(fine)), self.heads[1](fine)


class Squares:
    """Pictures of one or two squares in the colour of their class.

    :param count: number of pictures
    :param names: class names; empty: the same pictures without labels
    :param broken: (read from 1, what to do to its image): e.g. stop the run there
    """

    def __init__(
        self,
        count: int = 4,
        names: tuple[str, ...] = NAMES,
        broken: tuple[int, Callable[[Tensor], Tensor]] | None = None,
    ) -> None:
        self.class_names, self.count, self.broken, self.reads = names, count, broken, 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        self.reads += 1
        generator = torch.Generator().manual_seed(index)
        image = torch.full((3, 64, 64), 128, dtype=torch.uint8)
        boxes, labels = [], []
        for i in range(1 + index % 2):
            side = int(torch.randint(10, 28, (), generator=generator))
            x, y = (int(v) for v in torch.randint(2, 62 - side, (2,), generator=generator))
            label = (index + i) % 3
            image[:, y : y + side, x : x + side] = 0
            image[label, y : y + side, x : x + side] = 255
            boxes.append([x, y, x + side, y + side])
            labels.append(label)
        if self.broken and self.reads == self.broken[0]:
            image = self.broken[1](image)
        count = len(boxes) if self.class_names else 0
        none = torch.zeros(count, dtype=torch.bool)
        found = torch.tensor(boxes[:count], dtype=torch.float32).reshape(-1, 4)
        return Sample(image, found, torch.tensor(labels[:count], dtype=torch.int64), none, none, index)


@pytest.fixture
def make_detector() -> Callable[..., TinyDetector]:
    """Detectors with the same weights at each call."""

    def make(seed: int = 0, **kwargs: int) -> TinyDetector:
        torch.manual_seed(seed)
        return TinyDetector(**kwargs)

    return make


@pytest.fixture
def make_data() -> type[Squares]:
    return Squares
