"""Milliseconds of a frame of a video: state carried over, with and without leaving out where nothing is sent.

Each source is run in turn through the Quant ANN (fp32), through the carried run as it is, and through one
that computes convolutions everywhere; medians over the frames behind the first, operations not counted.

    python benchmarks/video_speed.py --data ../shared/data [--frames 12] [--precision fp32 int8]
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from moving import Clip, sources
from runner import arguments, markdown, save_results
from torch import Tensor, nn

from sj_lowlat.conversion import set_precision
from sj_lowlat.data import letterbox
from sj_lowlat.detect import detections_from_maps
from sj_lowlat.layers import window
from sj_lowlat.network import info_of
from sj_lowlat.pretrained import load
from sj_lowlat.video import detect_video

SHIPPED = "snn-tiny-yolov3-coco"


@contextmanager
def everywhere() -> Iterator[None]:
    """Convolutions leave nothing out."""
    usual, window.WORTH = window.WORTH, -1.0
    try:
        yield
    finally:
        window.WORTH = usual


def ann_frames(network: nn.Module, frames: Sequence[Tensor]) -> list[float]:
    """Milliseconds of each frame, from the picture to boxes."""
    info, took = info_of(network), []
    for frame in frames:
        began = time.perf_counter()
        image, _ = letterbox(frame, info.size or 416)
        with torch.no_grad():
            detections_from_maps(network(image[None]), info.heads, 0.25)
        took.append(1000 * (time.perf_counter() - began))
    return took


def carried_frames(network: nn.Module, frames: Sequence[Tensor], **options: Any) -> list[float]:
    """The same of a run whose state is carried over; decoding of the video is left out."""
    return [answer.milliseconds for answer in detect_video(network, frames, operations=False, **options)]


def measure(
    clip: Clip, quant: nn.Module, networks: Mapping[str, nn.Module], **options: Any
) -> dict[str, float]:
    """Median milliseconds of a frame, by way."""

    def run(network: nn.Module, whole: bool) -> list[float]:
        with everywhere() if whole else nullcontext():
            return carried_frames(network, clip.frames, **options)

    ways: dict[str, Callable[[], list[float]]] = {"Quant ANN": partial(ann_frames, quant, clip.frames)}
    for name, network in networks.items():
        ways |= {f"{name}, everywhere": partial(run, network, True), name: partial(run, network, False)}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(3):
        for name, way in ways.items():
            took = way()[1:]
            times[name] += took if turn else []  # the first turn warms up
    return {name: median(values) for name, values in times.items()}


def main() -> None:
    parser = arguments(__doc__, "video_speed", data=False, figure=False)
    parser.add_argument("--data", type=Path, help="folder with video; without it generated traffic alone")
    parser.add_argument("--frames", type=int, default=12, help="of each clip, from its middle on")
    parser.add_argument("--precision", nargs="+", default=["fp32", "int8"])
    parser.add_argument("--steps", type=int, default=2, help="a frame")
    parser.add_argument("--dead-zone", type=float, default=0.0)
    args = parser.parse_args()
    quant = load(SHIPPED, spiking=False)
    networks = {name: set_precision(load(SHIPPED), name) for name in args.precision}
    options = {"steps_per_frame": args.steps, "dead_zone": args.dead_zone}
    table, rows = [], []
    for source in sources(args.data and args.data / "video"):
        (clip,) = source.clips(1, args.frames)
        medians = measure(clip, quant, networks, **options)
        rows.append({"clip": source.label, "milliseconds": medians})
        ratios = [f"{medians[name] / medians[f'{name}, everywhere']:.2f}" for name in networks]
        table.append([source.label, *(f"{value:.0f}" for value in medians.values()), *ratios])
        print(" | ".join(table[-1]), flush=True)
    print(markdown(("clip", *medians, *(f"{name} over everywhere" for name in networks)), table))
    save_results(args.results, {"rows": rows, "threads": torch.get_num_threads(), **options})


if __name__ == "__main__":
    main()
