"""Videos: state carried over from frame to frame, beside a reset for every frame and the Quant ANN.

Clips of DATA/video have no boxes: there the detections of the Quant ANN on the same frame are the truth.
Generated traffic in motion has exact boxes; a panning camera sees a window that moves over a larger scene.
Frames with which a run starts are left out of spikes and energy, not of the scores.

    python benchmarks/video.py --data DATA
    python benchmarks/video.py --data DATA --frames 100 --scenes 20      # the whole table: hours
    python benchmarks/video.py --data DATA --dead-zone 0.01 0.02 0.04 0.08 --block 1 4 8
    python benchmarks/video.py --drift 100000                            # rounding over an endless stream
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from runner import arguments, markdown, save_results
from torch import Tensor, nn

from sj_lowlat.conversion import convert, prepare
from sj_lowlat.data import Target, letterbox, moving_sequence
from sj_lowlat.data.sample import make_target
from sj_lowlat.detect import Detections
from sj_lowlat.errors import InputError
from sj_lowlat.evaluation.predict import predict
from sj_lowlat.evaluation.protocols import class_map_of, score
from sj_lowlat.layers import SignedIFNode
from sj_lowlat.network import info_of
from sj_lowlat.pretrained import load
from sj_lowlat.schedule import Schedule
from sj_lowlat.video import CarriedRun, DeadZone, detect_video, open_frames

NOISE = (0.0, 2.0, 6.0)  # standard deviation of a grey value, of 255
STEPS = (1, 2, 3)
LEAST = 0.005  # score of detections that are scored
SURE = 0.25  # and of those of the Quant ANN that are the truth
PAN = 4  # pixels a frame


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


def quantised(network: nn.Module, frames: Sequence[Tensor]) -> list[Detections]:
    """What the Quant ANN finds in each frame by itself."""
    size, found = info_of(network).size or 416, []
    for frame in frames:
        image, box = letterbox(frame, size)
        (read,) = predict(network, image[None], [box], (LEAST, 0.45, 100))
        found += read.detections
    return found


def as_truth(frames: list[Tensor], found: Sequence[Detections], names: tuple[str, ...]) -> Clip:
    """A clip whose boxes are sure detections."""
    sure = [each.filter(SURE) for each in found]
    targets = [make_target(each.boxes, each.labels.tolist(), number) for number, each in enumerate(sure)]
    return Clip(frames, names, targets)


def joined(clips: Sequence[Clip]) -> Clip:
    """One data set of several clips."""
    return Clip(
        [frame for clip in clips for frame in clip.frames],
        clips[0].class_names,
        [target for clip in clips for target in clip.targets],
    )


def rows_of(
    label: str, clips: list[Clip], quant: nn.Module, snn: nn.Module, zones: Sequence[DeadZone], burst: int
) -> Iterator[dict[str, Any]]:
    """One row for each way to run the clips."""
    plain = [quantised(quant, clip.frames) for clip in clips]
    names = info_of(quant).class_names
    if not any(len(target) for clip in clips for target in clip.targets):
        clips = [as_truth(c.frames, found, names) for c, found in zip(clips, plain, strict=True)]
    truth = joined(clips)
    classes = class_map_of(quant, truth)

    def scored(found: list[Detections]) -> float | None:
        something = any(len(target) for clip in clips for target in clip.targets)
        return 100 * score(truth, found, class_map=classes).map50 if something else None

    yield {"clip": label, "run": "Quant ANN", "ap50": scored([one for clip in plain for one in clip])}
    runs = [("carried over", steps, DeadZone()) for steps in STEPS]
    runs += [(f"carried over, dead zone {z.threshold:g}, blocks of {z.block}", 2, z) for z in zones]
    runs += [("reset", steps, DeadZone()) for steps in STEPS]
    for name, steps, dead_zone in runs:
        found, cost = [], []
        for clip in clips:
            answers = detect_video(
                snn,
                clip.frames,
                steps_per_frame=steps,
                carry=name != "reset",
                dead_zone=dead_zone,
                score_threshold=LEAST,
                burst=burst,
            )
            for number, answer in enumerate(answers):
                found.append(answer.detections)
                if number:
                    cost.append((answer.spikes, answer.events, answer.energy, answer.fresh))
        spikes, events, energy, fresh = (fmean(values) for values in zip(*cost, strict=True))
        row = {"clip": label, "run": name, "steps": steps, "ap50": scored(found)}
        yield {**row, "spikes": spikes, "events": events, "energy": energy, "fresh": fresh}


def drift(frames: int, every: int) -> list[tuple[int, float]]:
    """Largest error of a potential, in thresholds, of a small float32 network along noise.

    :return: (frame, error), at ten places
    """
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU(),
        nn.Conv2d(8, 4, 1),
    )  # fmt: skip
    snn = convert(prepare(net.eval(), 8, torch.rand(8, 3, 8, 8)).eval())
    exact = copy.deepcopy(snn).double()
    nodes, exact_nodes = (
        [module for module in network.modules() if isinstance(module, SignedIFNode)]
        for network in (snn, exact)
    )
    plan, generator, errors = Schedule(1, burst=8, charge=8), torch.Generator().manual_seed(1), []
    with CarriedRun(snn, plan, count=False) as run, CarriedRun(exact, plan, count=False) as other:
        for number in range(1, frames + 1):
            picture = torch.rand(1, 3, 8, 8, generator=generator)
            run.show(picture, 1)
            if number % max(frames // 10, 1) == 0:
                other.show(picture, 1)
                for node, twin in zip(nodes, exact_nodes, strict=True):
                    if bool((node.count != node.count.round()).any()):
                        raise InputError(f"a count is not whole after {number} frames")
                    twin.count.copy_(node.count)
                other.rederive()  # potentials of these counts, in float64
                pairs = zip(nodes, exact_nodes, strict=True)
                errors.append((number, max(float((one.v - two.v).abs().max()) for one, two in pairs)))
            if number % every == 0:
                run.rederive()
    return errors


def main() -> None:
    parser = arguments(__doc__, "video", data=False, figure=False)
    parser.add_argument("--data", type=Path, help="folder with video; without it generated traffic alone")
    parser.add_argument("--frames", type=int, default=5, help="of each clip, from its middle on")
    parser.add_argument("--scenes", type=int, default=1, help="of generated traffic, for each camera")
    add = parser.add_argument
    add("--dead-zone", type=float, nargs="+", default=[0.02], help="thresholds of the runs with one")
    add("--block", type=int, nargs="+", default=[4], help="sides of its blocks")
    parser.add_argument("--burst", type=int, default=32)
    parser.add_argument("--drift", type=int, metavar="FRAMES", help="only the rounding, over so many frames")
    args = parser.parse_args()
    if args.drift:
        for every in (1000, args.drift + 1):
            table = [[str(frame), f"{error:.2e}"] for frame, error in drift(args.drift, every)]
            print(f"\npotentials computed anew every {every} frames\n")
            print(markdown(("frame", "largest error in thresholds"), table))
        return
    quant, snn = load("snn-tiny-yolov3-coco", spiking=False), load("snn-tiny-yolov3-coco")
    zones = [DeadZone(threshold, block) for block in args.block for threshold in args.dead_zone]
    rows: list[dict[str, Any]] = []
    sources: list[tuple[str, list[Clip]]] = []
    for path in sorted((args.data / "video").iterdir()) if args.data else []:
        source = open_frames(path)
        middle = (source.count or 0) // 2
        frames = [frame for frame in islice(source, middle, middle + args.frames) if frame is not None]
        sources.append((path.stem, [Clip(frames, (), [make_target([], [], 0)] * len(frames))]))
    for panning in (False, True):
        for noise in NOISE:
            label = f"traffic, {'panning' if panning else 'fixed'}, noise {noise:g}"
            sources.append((label, traffic(range(args.scenes), args.frames, 416, noise, panning)))
    header = "clip", "run", "steps", "AP50", "spikes", "events", "energy, % of the ANN", "started anew, %"
    table = []
    for label, clips in sources:
        for row in rows_of(label, clips, quant, snn, zones, args.burst):
            rows.append(row)
            cost = [f"{row[key]:.3f}" for key in ("spikes", "events")] if "spikes" in row else ["", ""]
            shares = [f"{100 * row[key]:.1f}" for key in ("energy", "fresh")] if "spikes" in row else ["", ""]
            ap50 = "-" if row["ap50"] is None else f"{row['ap50']:.1f}"  # where there is nothing to find
            table.append([label, row["run"], str(row.get("steps", "")), ap50, *cost, *shares])
            print(" | ".join(table[-1]), flush=True)
    print(markdown(header, table))
    save_results(args.results, {"rows": rows, "frames": args.frames, "scenes": args.scenes})


if __name__ == "__main__":
    main()
