"""Table 3 of Qiu & Zhu: a detector on grey pictures rebuilt from a spike camera, and on its spikes.

Clips are recorded by the package's simulated spike camera: generated traffic, whose persons and vehicles
move by themselves, and photos of the COCO subset that move as a whole; in daylight, in little light with shot
noise, and fast. The ANN reads a picture made of the T frames around the labelled one; the SNN reads these
frames one a step. AP50 by pycocotools, classes person and vehicle.

    python benchmarks/table3_spike_camera.py --data ../shared/data --traffic-network runs/demo/quant \\
      --network snn-tiny-yolov3-coco --relu-network runs/pooled/quant8 --kernel compiled
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from common import Runs, arguments, markdown, neurons_for, save_figure
from inputs import coco_photos, fingerprint, levels_of, open_network
from torch import Tensor
from torchvision.ops import batched_nms

from sj_lowlat.detect import Detections, detections_from_maps
from sj_lowlat.encoders import SpikePlanes
from sj_lowlat.evaluate import coco_ap
from sj_lowlat.simulate import simulate
from sj_lowlat.spike_camera import (
    Camera,
    SpikeDataset,
    SpikeSample,
    adaptive,
    encode_dataset,
    encode_traffic,
    tfi,
    to_image,
    traffic_class,
)

FLUSH = 4  # of signed neurons
DARK = {"rate_at_white": 0.05, "photons": 50.0}  # mean rates of about 2 %


@dataclass(frozen=True)
class Condition:
    """What is recorded.

    :param traffic: generated traffic, else photos
    :param camera: what differs from the default camera
    :param speed: of photos, in pixels a frame; of traffic, drawn frames a step
    """

    label: str
    traffic: bool
    camera: dict[str, Any]
    speed: float = 0.0


CONDITIONS = {
    "traffic": Condition("traffic, daylight", True, {}),
    "traffic-dark": Condition("traffic, little light", True, DARK),
    "traffic-fast": Condition("traffic, daylight, fast", True, {}, 1.0),
    "coco": Condition("photos, daylight, slow", False, {}, 0.02),
    "coco-dark": Condition("photos, little light, slow", False, DARK, 0.02),
    "coco-fast": Condition("photos, daylight, fast", False, {}, 0.5),
}


def record(name: str, data: Path, output: Path, images: int, frames: int) -> SpikeDataset:
    """Encode a condition's clips, or open them."""
    condition = CONDITIONS[name]
    camera = Camera(frames=frames, size=160 if condition.traffic else 416, **condition.camera)
    folder = output / "clips" / f"{name}-{images}-{frames}"
    if condition.traffic:
        hold = round(1 / (condition.speed or 1 / 32))
        return SpikeDataset(encode_traffic(images, folder, replace(camera, seed=1), hold))
    photos = coco_photos(data).dataset.select(lambda image: True)
    wanted = [i for i in range(len(photos)) if has_traffic(photos.target(i).labels, photos.class_names)]
    chosen = torch.linspace(0, len(wanted) - 1, min(images, len(wanted))).round().long().tolist()
    subset = photos.subset(wanted[i] for i in chosen)
    return SpikeDataset(encode_dataset(subset, folder, camera, condition.speed))


def has_traffic(labels: Tensor, names: Sequence[str]) -> bool:
    """Whether a person or a vehicle is among the labels."""
    return any(traffic_class(names[label]) is not None for label in labels.tolist())


def padded(picture: Tensor, stride: int) -> Tensor:
    """``[H, W]`` at the top left of grey with sides that the network takes, ``[1, 3, H', W']``."""
    height, width = picture.shape
    out = torch.full((1, 3, -(-height // stride) * stride, -(-width // stride) * stride), 0.5)
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


def pictures(network: Any, rebuild: Callable[[SpikeSample], Any]) -> Read:
    """Read clips as pictures."""

    def read(clip: SpikeSample) -> Any:
        grey = torch.from_numpy(to_image(rebuild(clip), 1 / clip.rate_at_white))[0] / 255
        return network(padded(grey, network.stride))

    return read


def spikes(snn: Any, neuron: str, steps: int, levels: int | None, burst: int) -> Read:
    """Read clips as they are, one frame a step."""
    signed = neuron == "signed"

    def read(clip: SpikeSample) -> Any:
        encoder = SpikePlanes([window_of(clip, steps)], clip.rate_at_white)
        blank = padded(torch.zeros(clip.stream.shape[1:]), snn.stride)
        options: dict[str, Any] = {"levels": levels, "burst": burst, "flush": FLUSH} if signed else {}
        return simulate(snn, blank, steps, encoder=encoder, **options).final

    return read


Row = tuple[str, dict[int, float]]


@dataclass(frozen=True)
class Scorer:
    """Scores one network on one condition's clips; what was scored before is not done again."""

    runs: Runs
    name: str
    data: SpikeDataset
    spec: str

    def __call__(self, label: str, read: Callable[[], Read], steps: int | None = None) -> float:
        """AP50 in percent; ``read`` makes the reading, if it is needed."""
        request = {"clips": self.name, "images": len(self.data), "weights": fingerprint(self.spec)}
        request |= {"reading": label, "steps": steps, "frames": self.data.records.images[0]["frames"]}
        key = f"{self.name}, {label}, {self.short}" + (f", {steps} steps" if steps else "")

        def work() -> dict[str, Any]:
            return {"ap50": score(self.data, open_network(self.spec), read())}

        return float(self.runs.once(key, request, work)["ap50"])

    @property
    def short(self) -> str:
        """The network's name."""
        return Path(self.spec).name

    def mean_of(self, steps: int) -> Read:
        """Pictures from the mean of the frames that the SNN reads."""
        return pictures(open_network(self.spec), lambda clip: window_of(clip, steps).mean_rate())

    def rebuilt(self, rebuild: Callable[..., Any]) -> Read:
        """Pictures from all frames."""
        return pictures(open_network(self.spec), lambda clip: rebuild(clip.stream.planes(), clip.frame))

    def spiking(self, neuron: str, steps: int) -> Read:
        """Spikes; more than one a neuron and step where there are fewer steps than levels."""
        levels = levels_of(self.spec)
        burst = max(1, -(-levels // steps)) if levels else 1
        return spikes(self.runs.spiking(self.spec, neuron), neuron, steps, levels, burst)

    def ann_rows(self, steps: Sequence[int]) -> list[Row]:
        """The network itself, on pictures."""
        means = {T: self("ANN on the mean", lambda T=T: self.mean_of(T), T) for T in steps}
        rows = [(f"ANN on the mean of T frames, {self.short}", means)]
        for label, rebuild in (("TFI", tfi), ("adaptive", adaptive)):
            value = self(f"ANN on {label}", lambda rebuild=rebuild: self.rebuilt(rebuild))
            rows.append((f"ANN on {label} (as many frames as it needs), {self.short}", {steps[-1]: value}))
        return rows

    def snn_rows(self, steps: Sequence[int]) -> list[Row]:
        """The spiking network on the spikes, with each kind of neuron."""
        rows = []
        for neuron, label in neurons_for(self.spec).items():
            points = {
                T: self(f"SNN {label}", lambda T=T, neuron=neuron: self.spiking(neuron, T), T) for T in steps
            }
            rows.append((f"SNN on the spikes, {label}, {self.short}", points))
        return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Record, score, print one table a condition, draw the curves."""
    from sj_lowlat.plots import plot_map_curve

    parser = arguments(__doc__, "table3_spike_camera")
    parser.add_argument("--traffic-network", help="trained on traffic, e.g. of sj-lowlat demo")
    parser.add_argument("--network", help="of COCO's classes, quantised")
    parser.add_argument("--relu-network", help="one with quantised ReLUs, for IF neurons without signs")
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=list(CONDITIONS))
    parser.add_argument("--steps", type=int, nargs="+", default=[8, 16, 32, 64, 128, 256])
    parser.add_argument("--traffic-clips", type=int, default=60)
    parser.set_defaults(images=60)
    args = parser.parse_args(argv)
    steps, runs, curves = sorted(set(args.steps)), Runs(args), {}
    for name in args.conditions:
        condition = CONDITIONS[name]
        given = [args.traffic_network] if condition.traffic else [args.network, args.relu_network]
        specs = [spec for spec in given if spec]
        if not specs:
            print(f"{condition.label}: no network was given", flush=True)
            continue
        count = args.traffic_clips if condition.traffic else args.images
        data = record(name, args.data, args.output, count, steps[-1] + 64)
        scorers = [Scorer(runs, name, data, spec) for spec in specs]
        rows = scorers[0].ann_rows(steps)
        for scorer in scorers:
            rows += scorer.snn_rows(steps)
        print(f"\nAP50 in %, {condition.label}: {len(data)} clips\n")
        cells = [
            [label, *(f"{points[T]:.1f}" if T in points else "" for T in steps)] for label, points in rows
        ]
        print(markdown(["T", *map(str, steps)], cells), flush=True)
        if name in ("traffic", "coco"):
            curves |= {f"{condition.label}: {label}": sorted(p.items()) for label, p in rows if len(p) > 1}
    runs.save()
    if curves:
        figure = plot_map_curve(curves, title="A spike camera's clips, AP50 of persons and vehicles")
        figure.axes[0].legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        save_figure(figure, args.figure)


if __name__ == "__main__":
    main()
