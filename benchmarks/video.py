"""Videos: state carried over from frame to frame, beside a reset for every frame and the Quant ANN.

Clips of DATA/video have no boxes: there the detections of the Quant ANN on the same frame are the truth.
Generated traffic in motion has exact boxes; a panning camera sees a window that moves over a larger scene.
Frames with which a run starts are left out of spikes and energy, not of the scores. Intervals resample whole
scenes, because frames of one are alike.

    python benchmarks/video.py --data DATA
    python benchmarks/video.py --data DATA --frames 40 --scenes 12       # scores with intervals: hours
    python benchmarks/video.py --data DATA --dead-zone 0.01 0.02 0.04 0.08 --block 1 4 8
    python benchmarks/video.py --drift 100000                            # rounding over an endless stream
    python benchmarks/video.py --memory 10000                            # and the memory that it takes

Every run is kept under --output and not done again, so an interrupted script goes on where it was; --shard
0/2 and 1/2, started side by side, do half of the clips each.
"""

from __future__ import annotations

import argparse
import copy
import resource
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from statistics import fmean
from typing import Any

import paired
import torch
from inputs import fingerprint
from moving import Clip, Source, as_truth, joined, sources, traffic
from runner import Runs, arguments, markdown, save_results
from torch import nn

from sj_lowlat.conversion import convert, prepare
from sj_lowlat.data import letterbox
from sj_lowlat.detect import Detections
from sj_lowlat.errors import InputError
from sj_lowlat.evaluation import paired_difference
from sj_lowlat.evaluation.predict import predict
from sj_lowlat.evaluation.protocols import class_map_of, score
from sj_lowlat.layers import SignedIFNode
from sj_lowlat.network import info_of
from sj_lowlat.pretrained import load
from sj_lowlat.schedule import Schedule
from sj_lowlat.video import CarriedRun, DeadZone, detect_video

SHIPPED = "snn-tiny-yolov3-coco"
STEPS = (1, 2, 3)
LEAST = 0.005  # score of detections that are scored


def quantised(network: nn.Module, clips: Sequence[Clip]) -> list[Detections]:
    """What the Quant ANN finds in each frame by itself."""
    size, found = info_of(network).size or 416, []
    for clip in clips:
        for frame in clip.frames:
            image, box = letterbox(frame, size)
            (read,) = predict(network, image[None], [box], (LEAST, 0.45, 100))
            found += read.detections
    return found


def spiking(
    network: nn.Module, clips: Sequence[Clip], **options: Any
) -> tuple[list[Detections], dict[str, float]]:
    """What the spiking network finds, and what a frame costs on average."""
    found, cost = [], []
    for clip in clips:
        for number, answer in enumerate(detect_video(network, clip.frames, score_threshold=LEAST, **options)):
            found.append(answer.detections)
            if number:
                cost.append((answer.spikes, answer.events, answer.energy, answer.fresh))
    means = map(fmean, zip(*cost, strict=True))
    return found, dict(zip(("spikes", "events", "energy", "fresh"), means, strict=True))


class Videos:
    """The runs of the table.

    :param runs: where they are kept
    :param args: what the script was asked
    """

    def __init__(self, runs: Runs, args: argparse.Namespace) -> None:
        self.runs, self.args = runs, args
        self.quant, self.snn = load(SHIPPED, spiking=False), load(SHIPPED)
        zones = [DeadZone(threshold, block) for block in args.block for threshold in args.dead_zone]
        self.ways: list[tuple[str, int, bool, DeadZone]] = [
            *(("carried over", steps, True, DeadZone()) for steps in STEPS),
            *((f"carried over, dead zone {z.threshold:g}, blocks of {z.block}", 2, True, z) for z in zones),
            *(("reset", steps, False, DeadZone()) for steps in STEPS),
        ]

    def rows(self, source: Source) -> Iterator[dict[str, Any]]:
        """One row for each way to run the clips of a source."""
        base = {"clips": source.label, "scenes": self.args.scenes, "frames": self.args.frames}
        base |= {"network": SHIPPED, "weights": fingerprint(SHIPPED), "burst": self.args.burst}
        made: list[list[Clip]] = []

        def clips() -> list[Clip]:  # only where a run is missing
            made.extend([source.clips(self.args.scenes, self.args.frames)] if not made else [])
            return made[0]

        def kept(name: str, request: dict[str, Any], work: Any) -> tuple[dict[str, Any], Path]:
            path = self.runs.path(name, request).with_suffix(".npz")

            def whole() -> dict[str, Any]:
                found, cost = work()
                data, groups = joined(clips())
                if source.film is not None:  # sure detections of the Quant ANN are the truth
                    plain = found if name == first else paired.load(beside).found["None"]
                    data = as_truth(data.frames, plain, tuple(info_of(self.quant).class_names))
                classes = class_map_of(self.quant, data)
                paired.save(path, data, "coco", classes, {"None": found})
                boxes = any(len(target) for target in data.targets)
                ap50 = 100 * score(data, found, class_map=classes).map50 if boxes else None
                return {"ap50": ap50, "groups": groups, "cost": cost}

            return self.runs.once(name, request, whole, again=not path.exists()), path

        first = f"{source.label}, Quant ANN"
        record, beside = kept(first, base, lambda: (quantised(self.quant, clips()), None))
        yield {"clip": source.label, "run": "Quant ANN", "ap50": record["ap50"]}
        for name, steps, carry, zone in self.ways:
            options = {"steps_per_frame": steps, "carry": carry, "burst": self.args.burst}
            request = {**base, **options, "dead_zone": [zone.threshold, zone.block]}
            record, path = kept(
                f"{source.label}, {name}, {steps}",
                request,
                lambda options=options, zone=zone: spiking(self.snn, clips(), dead_zone=zone, **options),
            )
            row = {"clip": source.label, "run": name, "steps": steps, "ap50": record["ap50"]}
            if len(set(record["groups"])) > 1:
                row["less"] = less(path, beside, record["groups"])
            yield {**row, **record["cost"]}


def less(path: Path, beside: Path, groups: Sequence[int]) -> str:
    """What a run scores more than another one, with the interval of whole scenes drawn anew."""
    one, other = (paired.load(each).matches("None").grouped(groups) for each in (path, beside))
    more = paired_difference(one, other)
    return f"{100 * more.estimate:+.1f} ({more.range})"


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


def memory(frames: int) -> list[tuple[int, float]]:
    """(frame, peak memory of this process in MiB) at ten places of traffic that goes to and fro for ever."""
    (clip,) = traffic([0], 40, 416, 2.0, panning=False)
    there_and_back = cycle([*clip.frames, *reversed(clip.frames)])
    points = []
    for answer in detect_video(load(SHIPPED), islice(there_and_back, frames), steps_per_frame=1, burst=32):
        if (answer.frame + 1) % max(frames // 10, 1) == 0:
            points.append((answer.frame + 1, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
    return points


def main() -> None:
    parser = arguments(__doc__, "video", data=False, figure=False)
    parser.add_argument("--data", type=Path, help="folder with video; without it generated traffic alone")
    parser.add_argument("--output", type=Path, default=Path("runs/video"), help="gets files for each run")
    parser.add_argument("--frames", type=int, default=5, help="of each clip, from its middle on")
    parser.add_argument("--scenes", type=int, default=1, help="of generated traffic, for each camera")
    add = parser.add_argument
    add("--dead-zone", type=float, nargs="+", default=[0.02], help="thresholds of the runs with one")
    add("--block", type=int, nargs="+", default=[4], help="sides of its blocks")
    parser.add_argument("--burst", type=int, default=32)
    parser.add_argument("--shard", default="0/1", help="I/N: every N-th clip, from the I-th on")
    parser.add_argument("--drift", type=int, metavar="FRAMES", help="only the rounding, over so many frames")
    parser.add_argument("--memory", type=int, metavar="FRAMES", help="only the memory, over so many frames")
    args = parser.parse_args()
    if args.memory:
        cells = [[str(frame), f"{peak:.0f}"] for frame, peak in memory(args.memory)]
        print(markdown(("frame", "peak memory, MiB"), cells))
        return
    if args.drift:
        for every in (1000, args.drift + 1):
            table = [[str(frame), f"{error:.2e}"] for frame, error in drift(args.drift, every)]
            print(f"\npotentials computed anew every {every} frames\n")
            print(markdown(("frame", "largest error in thresholds"), table))
        return
    videos, rows, table = Videos(Runs(args), args), [], []
    own, of = map(int, args.shard.split("/"))
    for source in list(sources(args.data and args.data / "video"))[own::of]:
        for row in videos.rows(source):
            rows.append(row)
            cost = [f"{row[key]:.3f}" for key in ("spikes", "events")] if "spikes" in row else ["", ""]
            shares = [f"{100 * row[key]:.1f}" for key in ("energy", "fresh")] if "spikes" in row else ["", ""]
            ap50 = "-" if row["ap50"] is None else f"{row['ap50']:.1f}"  # where there is nothing to find
            start = [row["clip"], row["run"], str(row.get("steps", "")), ap50, row.get("less", "")]
            table.append([*start, *cost, *shares])
            print(" | ".join(table[-1]), flush=True)
    if of == 1:
        names = "clip", "run", "steps", "AP50", "less the Quant ANN (95 %)", "spikes", "events"
        print(markdown((*names, "energy, % of the ANN", "started anew, %"), table))
        save_results(args.results, {"rows": rows, "frames": args.frames, "scenes": args.scenes})


if __name__ == "__main__":
    main()
