"""Table 3 of Qiu & Zhu: a detector on grey pictures rebuilt from a spike camera, and on its spikes.

Clips are recorded by the package's simulated spike camera (clips.py): generated traffic, whose persons and
vehicles move by themselves, and photos of the COCO and VOC subsets that move as a whole; in daylight, in
little light with shot noise, and fast. The ANN reads a picture made of the T frames around the labelled one;
the SNN reads these frames one a step. AP50 by pycocotools, classes person and vehicle.

    python benchmarks/spike_camera.py --data ../shared/data \
      --conditions traffic traffic-dark traffic-fast \
      --traffic-networks daylight=runs/spikes/quant16 "low light=runs/spikes/dark16"
    python benchmarks/spike_camera.py --data ../shared/data \
      --conditions coco coco-dark coco-fast voc --images 30 --size 256 --steps 8 16 32 64 128

Networks are told apart by the last part of their path. Photos are read by the shipped network unless
``--networks`` names others; all of them through ``models.grey_input``. ``--images`` bounds the clips of every
condition, ``--size`` is the longer side of photos (traffic has 160 px, as its networks were trained on).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from clips import CONDITIONS, mean_rate, record
from inputs import NEURONS, USUAL, fingerprint, levels_of, named, neurons_for, open_grey, open_network
from runner import Runs, arguments, markdown, save_figure
from torch import Tensor
from torchvision.ops import batched_nms

from sj_lowlat.detect import Detections, detections_from_maps
from sj_lowlat.encoders import SpikePlanes
from sj_lowlat.evaluation import coco_ap
from sj_lowlat.schedule import Schedule
from sj_lowlat.simulation import simulate
from sj_lowlat.spike_camera import SpikeDataset, SpikeSample, adaptive, tfi, tfstp, to_image, traffic_class

SHIPPED = "snn-tiny-yolov3-coco"
FLUSH = 4  # of signed neurons
QUOTED = {
    "paper's ANN, Tiny-YOLOv3, on rebuilt pictures (no T)": {256: 51.6},
    "paper's SNN-Tiny-YOLOv3, on the spikes": {64: 45.0, 128: 50.9, 256: 52.4},
}


def padded(picture: Tensor, stride: int, channels: int = 3) -> Tensor:
    """``[H, W]`` at the top left of grey with sides that the network takes, ``[1, channels, H', W']``."""
    height, width = picture.shape
    out = torch.full((1, channels, -(-height // stride) * stride, -(-width // stride) * stride), 0.5)
    out[0, :, :height, :width] = picture
    return out


def persons_and_vehicles(found: Detections, names: Sequence[str]) -> Detections:
    """Detections with the labels of spike data sets; what two of the merged classes found is one.

    :param names: of the detections' labels
    """
    labels = [traffic_class(names[label]) for label in found.labels.tolist()]
    kept = torch.tensor([label is not None for label in labels], dtype=torch.bool)
    merged = torch.tensor([label for label in labels if label is not None], dtype=torch.int64)
    boxes, scores = found.boxes[kept], found.scores[kept]
    best = batched_nms(boxes, scores, merged, 0.45)
    return Detections(boxes[best], scores[best], merged[best])


Read = Callable[[SpikeSample], Any]


def score(data: SpikeDataset, network: Any, read: Read) -> float:
    """AP50 in percent of what ``read`` gives, head maps for a clip."""
    found = []
    for index in range(len(data)):
        clip = data.clip(index)
        with torch.no_grad():
            each = detections_from_maps(read(clip), network.head_specs)[0]
        each = persons_and_vehicles(each, network.class_names)
        limits = torch.tensor([*clip.stream.shape[:0:-1]] * 2)  # width, height, width, height
        found.append(replace(each, boxes=each.boxes.clamp(min=0).minimum(limits)))
    return 100 * coco_ap(data, found).map50


def window_of(clip: SpikeSample, steps: int) -> Any:
    """``steps`` frames around the labelled one."""
    start = max(0, min(clip.frame - steps // 2, len(clip.stream) - steps))
    return clip.stream[start : start + steps]


@dataclass(frozen=True)
class Scorer:
    """Scores one network on one condition's clips; what was scored before is not done again.

    :param condition: its name
    """

    runs: Runs
    condition: str
    data: SpikeDataset
    spec: str

    def __call__(self, label: str, read: Callable[[], Read], steps: int | None = None) -> float:
        """AP50 in percent; ``read`` makes the reading, if it is needed."""
        request = {"clips": self.condition, "images": len(self.data), "weights": fingerprint(self.spec)}
        request |= {"reading": label, "steps": steps, "frames": self.data.records.images[0]["frames"]}
        if self.grey:
            request |= {"size": self.runs.args.size, "input": "grey"}
            if levels_of(self.spec) is None:
                request |= {"calibration": self.runs.args.calibration}
        key = f"{self.condition}, {label}, {Path(self.spec).name}" + (f", {steps} steps" if steps else "")
        return self.runs.once(key, request, lambda: {"ap50": score(self.data, self.network, read())})["ap50"]

    @property
    def grey(self) -> bool:
        """Whether the network was made for colour photos; those for traffic know three equal channels."""
        return not CONDITIONS[self.condition].traffic

    @property
    def network(self) -> Any:
        """The network as it reads these clips."""
        return open_grey(self.spec) if self.grey else open_network(self.spec)

    def pictures(self, rebuild: Callable[[SpikeSample], Any]) -> Read:
        """Read clips as pictures."""
        network = self.network

        def read(clip: SpikeSample) -> Any:
            grey = torch.from_numpy(to_image(rebuild(clip), 1 / clip.rate_at_white))[0] / 255
            return network(padded(grey, network.stride, network.input_shape[0]))

        return read

    def spikes(self, neuron: str, steps: int) -> Read:
        """Read clips as they are, one frame a step; signed neurons fire more than once a step where there are
        fewer steps than levels."""
        snn: Any = self.runs.spiking(self.spec, neuron, self.grey)
        levels = levels_of(self.spec) or steps
        run = Schedule(steps, charge=steps)
        if neuron == "signed":
            run = Schedule(steps, FLUSH, max(1, -(-levels // steps)), levels)

        def read(clip: SpikeSample) -> Any:
            encoder = SpikePlanes([window_of(clip, steps)], clip.rate_at_white)
            blank = padded(torch.zeros(clip.stream.shape[1:]), snn.stride, snn.input_shape[0])
            return simulate(snn, blank, run, encoder=encoder).final

        return read

    def rows(self, steps: Sequence[int]) -> dict[str, dict[int, float]]:
        """What was read how -> T -> AP50: the network itself on pictures, the spiking one on the spikes."""

        def mean_of(T: int) -> Read:
            return self.pictures(lambda clip: window_of(clip, T).mean_rate())

        def rebuilt(rebuild: Callable[..., Any]) -> Read:
            return self.pictures(lambda clip: rebuild(clip.stream.planes(), clip.frame))

        means = {T: self("ANN on the mean", partial(mean_of, T), T) for T in steps}
        rows = {"ANN on the mean of T frames": means}
        for label, rebuild in (("TFI", tfi), ("TFSTP", tfstp), ("adaptive", adaptive)):
            value = self(f"ANN on {label}", partial(rebuilt, rebuild))
            rows[f"ANN on {label} (as many frames as it needs)"] = {steps[-1]: value}
        for neuron in neurons_for(self.spec, USUAL):
            label = NEURONS[neuron]
            points = {T: self(f"SNN {label}", partial(self.spikes, neuron, T), T) for T in steps}
            rows[f"SNN on the spikes, {label}"] = points
        return rows


def rate_of(runs: Runs, name: str, data: SpikeDataset) -> float:
    """The clips' mean rate in percent, counted once."""
    request = {"clips": name, "images": len(data), "frames": data.records.images[0]["frames"]}
    request |= {} if CONDITIONS[name].traffic else {"size": runs.args.size}
    return float(runs.once(f"{name}, clips", request, lambda: {"mean_rate": mean_rate(data)})["mean_rate"])


def table(lines: dict[str, dict[int, float]], steps: Sequence[int]) -> str:
    """Markdown: a column for each T."""
    cells = [[label, *(f"{p[T]:.1f}" if T in p else "" for T in steps)] for label, p in lines.items()]
    return markdown(["T", *map(str, steps)], cells)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The script's arguments; networks become (name, folder) pairs."""
    parser = arguments(__doc__, "table3_spike_camera")
    add = parser.add_argument
    add("--traffic-networks", nargs="+", type=named, default=[], help="[NAME=]FOLDER, trained on traffic")
    add("--networks", nargs="+", type=named, default=[(SHIPPED, SHIPPED)], help="[NAME=]FOLDER, on photos")
    add("--conditions", nargs="+", choices=CONDITIONS, default=list(CONDITIONS))
    add("--steps", type=int, nargs="+", default=[8, 16, 32, 64, 128, 256])
    parser.set_defaults(images=60)
    args = parser.parse_args(argv)
    for networks in (args.traffic_networks, args.networks):
        if len({Path(spec).name for _, spec in networks}) < len(networks):
            parser.error(
                "runs are kept by the last part of a network's path: give folders of different names"
            )
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Record, score, print one table a condition, draw the curves."""
    from sj_lowlat.plots import plot_map_panels

    args = parse(argv)
    steps, runs, panels = sorted(set(args.steps)), Runs(args), {}
    print(
        "Table 3 as the paper has it, in %: its own recordings and networks, quoted and not measured here\n"
    )
    print(table(QUOTED, sorted({T for points in QUOTED.values() for T in points})))
    for name in args.conditions:
        condition = CONDITIONS[name]
        networks = args.traffic_networks if condition.traffic else args.networks
        if not networks:
            print(f"\n{condition.label}: no network was given", flush=True)
            continue
        data = record(name, args.data, args.output, args.images, steps[-1] + 64, args.size)
        rows = {
            (what, title): points
            for title, spec in networks
            for what, points in Scorer(runs, name, data, spec).rows(steps).items()
        }
        rate = rate_of(runs, name, data)
        print(f"\nAP50 in %, {condition.label}: {len(data)} clips, mean rate {rate:.1f} %\n")
        print(table({", ".join(key): points for key, points in rows.items()}, steps), flush=True)
        curves = {key: sorted(points.items()) for key, points in rows.items() if len(points) == len(steps)}
        panels[condition.label] = curves
    runs.save()
    if panels:
        title = "A spike camera's clips, AP50 of persons and vehicles"
        xlabel = f"T, the frames that are read (signed neurons: {FLUSH} steps of flush after them)"
        save_figure(plot_map_panels(panels, title, xlabel=xlabel), args.figure)


if __name__ == "__main__":
    main()
