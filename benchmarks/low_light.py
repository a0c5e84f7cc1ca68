"""Train the traffic network of Table 3 for low light: on means of few frames, down to rates of 2 %.

``finetune -> prepare -> finetune`` from the network that was trained in daylight, as the plan says; the same
scenes, each seen in many lights and through windows of many lengths. Stages that are done are skipped and an
interrupted one resumes.

    python benchmarks/low_light.py --network runs/spikes/ann --output runs/spikes
"""

from __future__ import annotations

import argparse
import copy
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from spike_clips import HOLD, TRAFFIC_SIZE

from sj_lowlat import checkpoint
from sj_lowlat.conversion import prepare
from sj_lowlat.data import Sample, Target, letterbox, moving_sequence
from sj_lowlat.spike_camera import SPIKE_CLASSES, to_grey, to_image
from sj_lowlat.spike_camera.dataset import as_traffic
from sj_lowlat.training import FinetuneConfig, finetune

Light = NDArray[np.floating]


def count_spikes(
    charge: Light, rate: float, photons: float, frames: int, random: np.random.Generator
) -> NDArray[np.int64]:
    r"""Spikes that a pixel of a noisy spike camera fires in some frames, without going through them.

    :math:`\lfloor V(0) + \mathrm{Poisson}(p\, r \sum_t I_t) / p \rfloor`, the sum of what
    :class:`~sj_lowlat.spike_camera.SpikeEncoder` adds up: sums of Poisson numbers are Poisson numbers.

    :param charge: the light summed over the frames, ``[H, W]``
    :param rate: r, spikes a frame of a white pixel
    :param photons: p, to the threshold
    :param frames: a pixel fires at most once in each
    """
    gathered = random.poisson(photons * rate * charge) / photons
    return np.minimum(np.floor(random.random(charge.shape) + gathered), frames).astype(np.int64)


@dataclass
class DimTraffic:
    """Generated traffic as the mean of few frames of a spike camera, in many lights.

    Item ``i`` depends on (seed, i) alone: scene ``i % scenes``, at a rate and through a window of its own,
    both drawn evenly on a logarithmic scale. Things stand still for :data:`HOLD` frames, as in the clips.

    :param scenes: how many; those of ``sj-lowlat encode --data traffic``
    :param draws: pictures of each scene
    :param rates: least and highest spikes a frame of a white pixel
    :param windows: fewest and most frames around the labelled moment
    :param photons: to the threshold
    """

    scenes: int = 400
    draws: int = 60
    size: int = TRAFFIC_SIZE
    rates: tuple[float, float] = (0.04, 0.6)
    windows: tuple[int, int] = (8, 256)
    photons: float = 50.0
    seed: int = 0
    class_names: tuple[str, ...] = SPIKE_CLASSES
    drawn: dict[int, tuple[NDArray[np.uint8], Target]] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.scenes * self.draws

    def __getitem__(self, index: int) -> Sample:
        random = np.random.default_rng([self.seed, index])
        rate, window = (_between(random, *limits) for limits in (self.rates, self.windows))
        frames = round(window)
        light, target = self._scene(index % self.scenes)
        counts = count_spikes(self._charge(light, frames), rate, self.photons, frames, random)
        return Sample.of(torch.from_numpy(to_image(counts / frames, 1 / rate)), target)

    def _scene(self, number: int) -> tuple[NDArray[np.uint8], Target]:
        """A scene's drawn frames, grey ``[F, H, W]``, and its boxes at the beginning of the middle one."""
        if number not in self.drawn:
            middle = -(-self.windows[1] // 2 // HOLD)
            sequence = moving_sequence(number, 2 * middle, self.size)
            boxes, labels = sequence.boxes[middle], sequence.labels[middle]
            none = torch.zeros(len(labels), dtype=torch.bool)
            target = as_traffic(Target(boxes, labels, none, none.clone(), number), sequence.class_names)
            grey = np.rint(255 * to_grey(sequence.frames)).astype(np.uint8)  # kept: 0.2 MB a scene
            self.drawn[number] = grey, target
        return self.drawn[number]

    def _charge(self, light: NDArray[np.uint8], frames: int) -> Light:
        """The light of the window's frames, summed up, ``[H, W]``."""
        start = len(light) * HOLD // 2 - frames // 2
        shown = np.bincount(np.arange(start, start + frames) // HOLD, minlength=len(light))
        return np.tensordot(shown / 255, light, 1)


def _between(random: np.random.Generator, low: float, high: float) -> float:
    """A number, even on a logarithmic scale."""
    return math.exp(random.uniform(math.log(low), math.log(high)))


def main(argv: Sequence[str] | None = None) -> None:
    """Run all stages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", required=True, help="folder of the network that was trained in daylight")
    parser.add_argument("--output", type=Path, default=Path("runs/spikes"), help="gets a folder a stage")
    parser.add_argument("--plan", type=Path, default=Path(__file__).parent / "configs" / "low_light.json")
    parser.add_argument("--shorten", type=int, default=1, help="a trial: every stage's iterations over N")
    args = parser.parse_args(argv)
    plan = json.loads(args.plan.read_text())
    data = DimTraffic(**plan["data"])

    network, teacher = checkpoint.load(args.network), None
    for stage in plan["stages"]:
        options = dict(stage)
        options["iterations"] = max(1, options["iterations"] // args.shorten)
        folder, levels = args.output / options.pop("name"), options.pop("levels")
        if (folder / checkpoint.CONFIG).exists():
            print(f"{folder}: done before", flush=True)
            network = checkpoint.load(folder)
            continue
        if levels is not None:  # the network before rounding is the best teacher there is
            chosen = torch.linspace(0, len(data) - 1, plan["calibration_images"]).long().tolist()
            calibration = torch.stack([letterbox(data[i].image, data.size)[0] for i in chosen])
            teacher = copy.deepcopy(network)
            network = prepare(network, levels, calibration, **plan["prepare"])
        config = FinetuneConfig(**{**plan["finetune"], "size": data.size, **options})
        print(f"{folder}: {config}", flush=True)
        finetune(network, data, teacher, config, output=folder)
        checkpoint.save(network, folder)


if __name__ == "__main__":
    main()
