"""Clips with boxes for video.py: generated traffic in motion, and films whose truth is the Quant ANN's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sj_lowlat.data import Target, moving_sequence
from sj_lowlat.data.sample import make_target
from sj_lowlat.detect import Detections
from sj_lowlat.video import open_frames

NOISE = (0.0, 2.0, 6.0)  # standard deviation of a grey value, of 255
SURE = 0.25  # score of detections of the Quant ANN that are the truth
PAN = 4  # pixels a frame
SIDE = 416


@dataclass
class Clip:
    """Frames with boxes, as a data set; without boxes for a clip of nobody knows what."""

    frames: list[Tensor]
    class_names: tuple[str, ...]
    targets: list[Target]

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError("scores need boxes alone")

    def target(self, index: int) -> Target:
        return self.targets[index]


@dataclass(frozen=True)
class Source:
    """Where clips come from; they are made when they are needed.

    :param film: a file, or None for generated traffic
    :param noise: of traffic, standard deviation of a grey value
    :param panning: whether traffic is seen through a window that moves over a larger scene
    """

    label: str
    film: Path | None = None
    noise: float = 0.0
    panning: bool = False

    def clips(self, scenes: int, frames: int) -> list[Clip]:
        """Of a film the frames in its middle; of traffic so many scenes."""
        if self.film is None:
            return traffic(range(scenes), frames, SIDE, self.noise, self.panning)
        whole = open_frames(self.film)
        middle = (whole.count or 0) // 2
        shown = [frame for frame in islice(whole, middle, middle + frames) if frame is not None]
        return [Clip(shown, (), [make_target([], [], 0)] * len(shown))]


def sources(films: Path | None) -> Iterator[Source]:
    """Films of a folder, and traffic before a fixed and a panning camera at three levels of noise."""
    for path in sorted(films.iterdir()) if films else []:
        yield Source(path.stem, path)
    for panning in (False, True):
        for noise in NOISE:
            label = f"traffic, {'panning' if panning else 'fixed'}, noise {noise:g}"
            yield Source(label, None, noise, panning)


def traffic(seeds: Sequence[int], frames: int, size: int, noise: float, panning: bool) -> list[Clip]:
    """Scenes of generated traffic in motion."""
    clips = []
    for seed in seeds:
        side = size + (PAN * frames if panning else 0)
        scene = moving_sequence(seed, frames, side)
        random = torch.Generator().manual_seed(seed)
        pictures, targets = [], []
        for number in range(frames):
            left, top = (PAN * number, (side - size) // 2) if panning else (0, 0)
            picture = scene.frames[number, :, top : top + size, left : left + size].float()
            picture = picture + noise * torch.randn(picture.shape, generator=random)
            pictures.append(picture.round().clamp(0, 255).to(torch.uint8))
            moved = scene.boxes[number] - torch.tensor([left, top] * 2)
            seen = moved.clamp(0, size)
            area = (moved[:, 2:] - moved[:, :2]).prod(1)
            kept = (seen[:, 2:] - seen[:, :2]).prod(1) >= 0.3 * area
            labels = scene.labels[number][kept].tolist()
            targets.append(make_target(seen[kept], labels, f"{seed}-{number}"))
        clips.append(Clip(pictures, scene.class_names, targets))
    return clips


def as_truth(frames: list[Tensor], found: Sequence[Detections], names: tuple[str, ...]) -> Clip:
    """A clip whose boxes are sure detections."""
    sure = [each.filter(SURE) for each in found]
    targets = [make_target(each.boxes, each.labels.tolist(), str(number)) for number, each in enumerate(sure)]
    return Clip(frames, names, targets)


def joined(clips: Sequence[Clip]) -> tuple[Clip, list[int]]:
    """One data set of several clips, and which clip each frame is of."""
    whole = Clip(
        [frame for clip in clips for frame in clip.frames],
        clips[0].class_names,
        [target for clip in clips for target in clip.targets],
    )
    return whole, [number for number, clip in enumerate(clips) for _ in clip.frames]
