"""A one-head traffic detector within the limits of the chip Speck: train it, export it, score it.

    python benchmarks/speck.py train --output runs/speck
    python benchmarks/speck.py score --output runs/speck --images 100 --schedules 32+0b4c32 64+0b4c64

``train`` runs the stages of a plan (configs/speck.json) on generated traffic of 128 px; those that are done
are skipped, an interrupted one resumes. ``score`` converts the last network to plain neurons, with weights in
float32 and as the chip has them, scores both on other scenes, and runs the latter in sinabs as well.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nir
import sinabs
import torch
from inputs import stacked
from runner import HERE, markdown, save_results, schedule
from torch import Tensor, nn
from train import run_stages

from sj_lowlat import checkpoint
from sj_lowlat.conversion import convert
from sj_lowlat.data import TrafficDataset
from sj_lowlat.detect import HeadSpec
from sj_lowlat.evaluation import evaluate
from sj_lowlat.export import run_sinabs, speck_network, speck_plan, to_sinabs, write_nir
from sj_lowlat.layers import LowLatencyIFNode
from sj_lowlat.models.detector import Detector, initialise, initialise_head
from sj_lowlat.network import GraphNetwork, NetworkInfo, SpikingNetwork, WithInfo
from sj_lowlat.schedule import Schedule
from sj_lowlat.simulation import simulate

SIZE, STRIDE, BATCH = 128, 8, 10
NEURONS = ("ResidualFixIFNode", "IAFSqueeze")  # ours, and those of sinabs
SCHEDULES = tuple(map(Schedule.parse, ("32+0b4c32", "64+0b4c64")))
# medians of five groups of the boxes of 300 scenes, by their overlap
ANCHORS = ((8.0, 21.0), (12.0, 32.0), (27.0, 16.0), (20.0, 46.0), (52.0, 29.0))
# channels out of each core's convolution, of kernel 3, and its stride
CORES = ((8, 2), (16, 2), (32, 1), (64, 2), (64, 1), (64, 1), (32, 1), (32, 1))


class SpeckDetector(Detector):
    """Colours become two maps of spikes on the host, eight cores detect, and the host reads their counts.

    :param class_names: of the boxes
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        spec = HeadSpec(ANCHORS, STRIDE, len(class_names))
        super().__init__((spec,), class_names, SIZE, 3, 32)
        self.host = _block(3, 2, 1, 1)
        self.cores, before = nn.Sequential(), 2
        for channels, stride in CORES:
            self.cores.append(_block(before, channels, 3, stride))
            before = channels
        self.head = nn.Conv2d(before, spec.channels, 1)
        initialise_head(self.head, spec)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``[N, 3, 128, 128]`` in [0, 1] to the raw map ``[N, 5 * (5 + K), 16, 16]``."""
        self.check_input(x)
        maps: Tensor = self.head(self.cores(self.host(x)))
        return maps


def _block(before: int, after: int, size: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(before, after, size, stride, size // 2, bias=False)
    initialise(conv)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU())


class InSinabs(WithInfo, nn.Module):
    """What sinabs computes, as a network that can be scored."""

    def __init__(self, network: nn.Sequential, info: NetworkInfo, time_steps: int) -> None:
        super().__init__()
        self.network, self.info, self.time_steps = network, info, time_steps

    def forward(self, images: Tensor) -> Tensor:
        """Images to raw maps."""
        return run_sinabs(self.network, images, self.time_steps)


class ByNir(InSinabs):
    """The NIR file of a network as sinabs reads it, without a look at the metadata."""

    def forward(self, images: Tensor) -> Tensor:
        """Images to raw maps."""
        sinabs.reset_states(self.network)
        out, _ = self.network(images.repeat_interleave(self.time_steps, 0))
        maps: Tensor = out.unflatten(0, (len(images), self.time_steps)).mean(1)
        return maps


def train(args: argparse.Namespace, plan: Mapping[str, Any]) -> None:
    """Run the stages; say how much time of the CPU they took."""
    data, start = TrafficDataset(plan["train_images"] // args.shorten, SIZE, seed=0), time.process_time()

    def fresh() -> GraphNetwork:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            detector = SpeckDetector(data.class_names)
        return GraphNetwork.of(detector, torch.zeros(1, 3, SIZE, SIZE))

    images = min(plan["calibration_images"], len(data))
    run_stages(args, plan, data, fresh, lambda: stacked(data, images, SIZE))
    print(f"{args.output}: trained, {time.process_time() - start:.0f} s of CPU", flush=True)


def score(args: argparse.Namespace, plan: Mapping[str, Any]) -> None:
    """Score the networks on the way, the last one in sinabs too; compare each spike for some pictures."""
    ann, quant = (checkpoint.load(args.output / plan["stages"][place]["name"]) for place in (0, -1))
    data = TrafficDataset(args.images, SIZE, seed=1)
    snn = convert(quant, neuron="residual-fix")
    chip = speck_network(snn)
    print(f"{speck_plan(chip).table()}\n")
    rows: list[dict[str, Any]] = []
    same = []

    def add(name: str, net: nn.Module, run: Schedule | None = None, steps: Schedule | None = None) -> None:
        row = {"network": name, "schedule": str(steps or run or ""), **_scored(net, data, run)}
        rows.append(row)
        cells = name, row["schedule"], f"{100 * row['map50']:.1f}", f"{row['spikes']:,.0f}"
        lines = markdown(("network", "schedule", "mAP50, %", "spikes a picture"), [cells]).splitlines()
        print("\n".join(lines if len(rows) == 1 else lines[2:]), flush=True)

    add("ANN", ann)
    add("Quant ANN", quant)
    for run in args.schedules:
        steps, single = run.time_steps, Schedule(run.time_steps, charge=run.time_steps)
        sinabs_net = to_sinabs(chip, run, BATCH)
        add("spiking, float32", snn, run)
        add("spiking, as on the chip", chip, run)
        add("the same in sinabs", InSinabs(sinabs_net, chip.info, steps), steps=run)
        same.append({"schedule": str(run), **compare(chip, sinabs_net, data, args.compared, run)})
        graph = nir.read(write_nir(snn, args.output / "speck.nir", single))
        add("spiking, float32", snn, single)
        read = ByNir(sinabs.from_nir(graph, batch_size=BATCH), snn.info, steps)
        add("its NIR file in sinabs", read, steps=single)
    for row in same:
        print(
            f"\n{row['schedule']}: {row['equal']:,} of {row['places']:,} outputs of neurons are the same in "
            f"sinabs on {args.compared} pictures; maps differ by at most {row['maps']:.2g}; potentials on "
            f"the chip lie in {row['lowest']:.0f} .. {row['highest']:.0f}"
        )
    found = {"rows": rows, "same": same, "images": args.images}
    save_results(args.results or args.output / "speck.json", found)


def _scored(net: nn.Module, data: TrafficDataset, run: Schedule | None) -> dict[str, float]:
    """mAP50 in [0, 1], and spikes a picture of all neurons, those on the host too."""
    spikes = 0.0

    def count(_module: nn.Module, _inputs: Any, out: Tensor) -> None:
        nonlocal spikes
        spikes += float(out.sum(dtype=torch.float64))

    hooks = [m.register_forward_hook(count) for m in net.modules() if type(m).__name__ in NEURONS]
    found = evaluate(net, data, run, batch_size=BATCH, monitored=0).final
    for hook in hooks:
        hook.remove()
    return {"map50": found.map50, "spikes": spikes / len(data)}


def compare(
    chip: SpikingNetwork, theirs: nn.Sequential, data: TrafficDataset, pictures: int, run: Schedule
) -> dict[str, float]:
    """How many outputs of neurons are the same at the same step and place, and which potentials there are.

    :return: ``places``, ``equal``; ``maps``, the largest difference; ``lowest`` and ``highest`` potential on
        the chip, before a spike takes its part
    """
    found: dict[str, list[Tensor]] = {}
    hooks, low, high = [], 0.0, 0.0

    def keep(name: str, module: Any, out: Tensor) -> None:
        nonlocal low, high
        found.setdefault(name, []).append(out.detach().clone())
        if isinstance(module, LowLatencyIFNode) and not name.startswith("host"):
            before = module.v + out * module.threshold
            low, high = min(low, float(before.min())), max(high, float(before.max()))

    for network in (chip, theirs):
        for name, module in network.named_modules():
            if type(module).__name__ in NEURONS:
                own = f"sinabs {name}" if network is theirs else name
                hooks.append(module.register_forward_hook(lambda m, _i, out, own=own: keep(own, m, out)))
    places = equal = 0
    maps = 0.0
    for number in range(pictures):
        image = data[number].image[None] / 255
        found.clear()
        ours = simulate(chip, image, run, chunk=1).final
        apart = run_sinabs(theirs, image, run.time_steps) - ours
        maps = max(maps, float(apart.abs().max()))
        for name in [name for name in found if not name.startswith("sinabs ")]:
            mine = torch.cat(found[name])  # [T, *]
            (their,) = found[f"sinabs {name.replace('.', '_')}"]
            places, equal = places + mine.numel(), equal + int((mine == their).sum())
    for hook in hooks:
        hook.remove()
    return {"places": places, "equal": equal, "maps": maps, "lowest": low, "highest": high}


def main(argv: Sequence[str] | None = None) -> None:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, run in (("train", train), ("score", score)):
        own = commands.add_parser(name, help=run.__doc__)
        own.set_defaults(run=run)
        own.add_argument("--output", type=Path, default=Path("runs/speck"))
        own.add_argument("--plan", type=Path, default=HERE / "configs" / "speck.json")
        if name == "train":
            own.add_argument("--shorten", type=int, default=1, help="a trial: iterations and scenes over N")
            own.add_argument("--workers", type=int, default=0, help="processes that prepare batches ahead")
        else:
            own.add_argument("--images", type=int, default=100, help="scenes to score on")
            own.add_argument("--compared", type=int, default=5, help="pictures whose spikes are compared")
            own.add_argument("--schedules", type=schedule, nargs="+", default=SCHEDULES)
            own.add_argument("--results", type=Path, help="JSON file")
    args = parser.parse_args(argv)
    args.run(args, json.loads(args.plan.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
