"""Published conversion methods on one network: mAP50 after so many steps in all, spikes, energy.

    python benchmarks/train.py distil --data ../shared/data --output runs/methods \\
      --plan benchmarks/configs/methods_networks.json        # the networks, once
    python benchmarks/methods.py --data ../shared/data [--methods all | NAME ...] [--shard 0/2]

Rows and networks are those of configs/methods.json. A method that is read at every step runs once, to its
longest time; the others run once for each number of steps. Every run is kept under --output and not done
again; --shard 0/2 and 1/2, started side by side, do half of the rows each, and the same command without it
prints the table of all; --methods done prints that of the rows that are done by then. Steps are steps in
all: pre-steps and flush count.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from inputs import Photos, fingerprint, levels_of, open_network, open_photos
from runner import HERE, NotDone, Runs, arguments, calibration_images, markdown, place, save_figure

from sj_lowlat.conversion import METHODS, Method, convert, set_precision
from sj_lowlat.evaluation import evaluate
from sj_lowlat.network import SpikingNetwork

TABLE = HERE / "configs" / "methods.json"
NEAR = 1.0  # points of mAP50 that count as equal
RIVAL = "spiking-yolo"
RESAMPLES = 1000  # of the paired bootstrap
CALIBRATED = 64  # steps at most for which a method's corrections are made
_HEAD = ("method", "network", "photos", "ANN")
_COSTS = ("spikes/neuron", "events/neuron", "energy/ANN", "training", "labels", "calibration photos")


class Row:
    """One method on one network.

    :param entry: of the table: ``method``, ``network``, and what is other than usual: ``label``,
        ``precision``, ``most`` steps, ``long`` (to the longest time, on fewer photos)
    """

    def __init__(self, entry: Mapping[str, Any], plan: Mapping[str, Any], runs: Runs) -> None:
        self.entry, self.runs, self.args = entry, runs, runs.args
        self.method: Method = METHODS[entry["method"]]
        self.label: str = entry.get("label", self.method.name)
        self.name: str = entry["network"]
        word = self.args.networks.get(self.name, plan["networks"][self.name])
        self.spec = word.replace("DATA", str(self.args.data))
        self.precision: str = entry.get("precision", plan["precision"])
        self.points: dict[int, float] = {}
        self.energy: dict[str, Any] = {}
        self.ann, self.difference, self.photos = 0.0, "", 0

    def done(self, photos: Photos, few: Photos) -> Row:
        """Score it, a long one on few photos."""
        wanted = [step for step in self.args.time_steps if step <= self.entry.get("most", 10**9)]
        if self.entry.get("long"):
            photos, wanted = few, [*wanted, self.args.total]
        self.photos = len(photos)
        if self.method.mode == "counts":  # its latency is its own
            wanted = wanted[-1:]
        if self.method.curve:
            self._add(photos, wanted)
        else:
            for step in wanted:
                self._add(photos, [step])
        return self

    def _add(self, photos: Photos, steps: list[int]) -> None:
        made_for = min(CALIBRATED, steps[-1])
        calibration = self.args.calibration if self._calibrates else 0
        request = {
            "method": self.method.name, "source": self.method.source, "network": self.spec, "steps": steps,
            "weights": fingerprint(self.spec), "precision": self.precision, "size": self.args.size,
            "photos": photos.label, "images": len(photos), "calibration": calibration,
        }  # fmt: skip
        request |= {"time_steps": made_for} if self.method.corrections else {}
        name = f"{self.label} on {self.name} {steps[-1]} {len(photos)}"
        record = self.runs.once(name, request, lambda: self._score(photos, steps, made_for))
        self.points |= {point["steps"]: 100 * point["map50"] for point in record["points"]}
        self.energy, last = record["energy"], record["points"][-1]
        self.ann = 100 * record["ann"]["map50"]
        ends = (100 * last["difference"][end] for end in ("low", "high"))
        self.difference = "{:+.1f} to {:+.1f}".format(*ends)

    @property
    def _calibrates(self) -> bool:
        return self.method.scale != "trained" or bool(self.method.corrections)

    def _score(self, photos: Photos, steps: list[int], made_for: int) -> dict[str, Any]:
        snn = self._spiking(made_for)
        run = self.method.run(snn, steps[-1])
        if self.method.mode == "steps":
            first = run["schedule"].before + 1
            run["readout"] = [step for step in steps if step >= first]
        run |= {"monitored": self.args.monitored, "batch_size": self.args.batch_size}
        run |= {"ann": open_network(self.spec), "confidence": RESAMPLES}
        found = evaluate(snn, photos.dataset, size=self.args.size, protocol=photos.protocol, **run)
        return found.to_json() | {"rates": None}

    def _spiking(self, made_for: int) -> SpikingNetwork:
        images = None
        if self._calibrates:
            images = calibration_images(self.args.data, self.args.calibration, self.args.size)
        network = open_network(self.spec)
        snn = convert(network, method=self.method, calibration=images, time_steps=made_for)
        return set_precision(snn, self.precision)

    def reach(self, wanted: float) -> int | None:
        """The fewest steps from which on it stays as good as that."""
        good = [s for s in self.points if all(v >= wanted for t, v in self.points.items() if t >= s)]
        return min(good, default=None)

    def cells(self, steps: Sequence[int], rival: Row | None) -> list[str]:
        """The row of the table."""
        comparable = rival is not None and rival.photos == self.photos
        goal = max(rival.points.values()) if rival is not None and comparable else math.inf
        reached, other = self.reach(goal), rival.reach(goal) if rival is not None else None
        ratio = f"{other / reached:.1f}" if other and reached else "-"
        costs = ("spikes_per_neuron_and_image", "events_per_neuron_and_image", "ratio")
        extra = [step for step in self.points if step not in steps]
        texts = [f"{self.points[step]:.1f}" if step in self.points else "" for step in steps]
        last = " ".join(f"{self.points[step]:.1f} at {step}" for step in extra)
        return [
            *texts, last, self.difference, str(self.reach(self.ann - NEAR) or "-"), str(reached or "-"),
            ratio,
            *(f"{self.energy[cost]:.2f}" for cost in costs), "yes" if self.method.trains else "no",
            "yes" if self.method.labels else "no", str(self.args.calibration if self._calibrates else 0),
        ]  # fmt: skip


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = arguments(__doc__, "")
    add = parser.add_argument
    add("--methods", nargs="+", default=["all"], metavar="NAME", help="names of rows, all, or done")
    add("--time-steps", nargs="+", type=int, default=[2, 4, 8, 16, 32, 64, 128, 256, 512])
    add("--total", type=int, default=3500, help="steps of the long rows")
    add("--long-images", type=int, default=100, help="photos of these")
    add("--monitored", type=int, default=4, help="photos to count spikes on")
    add("--networks", nargs="*", default=[], metavar="NAME=WORD", help="instead of the table's")
    add("--shard", default="0/1", help="I/N: every N-th run, from the I-th on")
    parser.set_defaults(images=200, calibration=16)
    args = parser.parse_args(argv)
    args.networks = dict(text.split("=", 1) for text in args.networks)
    args.shard = tuple(map(int, args.shard.split("/")))
    place(args, "methods")
    return args


def draw(rows: Sequence[Row], bold: Sequence[str], title: str) -> Any:
    """Curves of all rows, some in colour and the others in grey behind them."""
    from sj_lowlat.plots import plot_map_curve

    many = {row.label: sorted(row.points.items()) for row in rows if len(row.points) > 1}
    behind = {label: points for label, points in many.items() if label not in bold}
    return plot_map_curve(
        {label: many[label] for label in bold if label in many}, title=title, context=behind
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Score the methods; without a shard print the table, and of all rows write the results and draw."""
    args = parse(argv)
    plan = json.loads(TABLE.read_text(encoding="utf-8"))
    every, runs = open_photos("coco", args.data), Runs(args, only_done=args.methods == ["done"])
    photos, few = every.spaced(args.images), every.spaced(min(args.long_images, args.images))
    whole = runs.only_done or "all" in args.methods
    chosen = [e for e in plan["rows"] if whole or e.get("label", e["method"]) in args.methods]
    own, of = args.shard
    rows = []
    for entry in chosen[own::of]:
        with suppress(NotDone):
            rows.append(Row(entry, plan, runs).done(photos, few))
    if of > 1:
        return
    rival = next((row for row in rows if row.label == RIVAL), None)
    steps = args.time_steps
    reach = (f"within {NEAR:g} of its ANN", f"reaches {RIVAL}", "times fewer")
    head = (*_HEAD, *map(str, steps), "further", "last less ANN, 95 %", *reach)
    lines = [
        [row.label, f"{row.name}, L = {levels_of(row.spec)}" if levels_of(row.spec) else row.name,
         str(row.photos), f"{row.ann:.1f}", *row.cells(steps, rival)]
        for row in rows
    ]  # fmt: skip
    title = f"{photos.label}: {len(photos)} images, {args.size} px"
    print(f"\n{title}\n\n" + markdown((*head, *_COSTS), lines))
    if whole and rows:
        runs.save()
        save_figure(draw(rows, plan["bold"], title), Path(args.figure))


if __name__ == "__main__":
    main()
