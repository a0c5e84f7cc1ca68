"""Other people's networks, quantised without training and converted: mAP50, steps, spikes, events, energy.

    python benchmarks/networks.py --data ../shared/data [--only NAME ...] [--images N]

The networks are those of configs/networks.json. COCO networks are scored on the COCO subset (pycocotools),
VOC ones on the VOC subset, and face detectors by how far they agree with their float network: AP50 on the
COCO photos with people, the truth being the boxes that the float network finds with a score of 0.5 or more.
Steps are steps in all. Every run is kept under --output and not done again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from inputs import Agreement, Photos, open_network, open_photos
from runner import HERE, Runs, arguments, markdown, place

from sj_lowlat.schedule import Schedule

NEAR = 0.5  # points of mAP50 that count as equal
TABLE = HERE / "configs" / "networks.json"
HEAD = ("network", "photos", "px", "float", "levels", "Quant ANN")
COSTS = ("spikes/neuron", "events/neuron", "energy/ANN")


@cache
def photos_for(name: str, data: Path, spec: str, size: int, count: int | None) -> Photos:
    """Photos by name; ``people`` are those with a person, the float network's boxes being the truth."""
    if name != "people":
        return open_photos(name, data).spaced(count)
    coco = open_photos("coco", data)
    people = Agreement(coco.dataset, open_network(spec), size)
    return Photos("COCO subset, people", people, "coco").spaced(count)


def percent(record: Mapping[str, Any]) -> dict[int | None, float]:
    """mAP50 of every read-out."""
    return {point["steps"]: 100 * point["map50"] for point in record["points"]}


def rows_of(name: str, entry: Mapping[str, Any], plan: Mapping[str, Any], runs: Runs) -> list[list[str]]:
    """The rows of a network, one for each way to choose levels."""
    args = runs.args
    spec = entry["what"].replace("DATA", str(args.data)) + "".join(
        f"::{only}" for only in entry.get("names", ())
    )
    size, kind = entry["size"], entry.get("photos", "coco")
    photos = photos_for(kind, args.data, spec, size, args.images)
    (whole,) = percent(runs(f"{name} ANN", spec, photos, size=size)).values()
    about, rows = [name, f"{kind} {len(photos)}", str(size), f"{whole:.1f}"], []
    for chosen in [] if args.float_only else plan["rows"]:
        levels, prepared = chosen["levels"], {**plan["prepare"], **chosen}
        label = f"{levels} auto {chosen['budget']}" if "budget" in chosen else str(levels)
        record = runs(f"{name} Quant L={label}", spec, photos, prepared=prepared, size=size)
        (quant,) = percent(record).values()
        rows.append([*about, label, f"{quant:.1f}"])
        about = [""] * 4
        if label not in args.spiking:
            rows[-1] += ["-"] * (len(plan["steps"]) + 1 + len(COSTS))
            continue
        schedule = replace(Schedule.parse(plan["schedule"]), charge=levels)
        options = {"prepared": prepared, "size": size, "readout": plan["steps"], **schedule.to_json()}
        record = runs(f"{name} SNN L={label} {schedule}", spec, photos, "signed", **options)
        curve, energy = percent(record), record["energy"]
        good = [step for step in curve if all(abs(curve[s] - quant) <= NEAR for s in curve if s >= step)]
        costs = (
            energy["spikes_per_neuron_and_image"],
            energy["events_per_neuron_and_image"],
            energy["ratio"],
        )
        rows[-1] += [f"{curve[step]:.1f}" for step in plan["steps"]]
        rows[-1] += [str(min(good, default="-")), *(f"{cost:.1f}" for cost in costs)]
    return rows


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = arguments(__doc__, "", figure=False)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of the networks")
    parser.add_argument("--float-only", action="store_true", help="no quantised and no spiking networks")
    parser.add_argument("--spiking", nargs="*", default=["64"], help="rows to simulate, by their levels")
    args = parser.parse_args(argv)
    place(args, "networks")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Score the networks, print the table, write the results."""
    args = parse(argv)
    plan = json.loads(TABLE.read_text(encoding="utf-8"))
    runs, rows = Runs(args), []
    for name, entry in plan["networks"].items():
        if not args.only or name in args.only:
            rows += rows_of(name, entry, plan, runs)
    steps = [f"SNN, {step}" for step in plan["steps"]]
    print(markdown((*HEAD, *steps, f"within {NEAR} from step", *COSTS), rows))
    if not args.only:
        runs.save()


if __name__ == "__main__":
    main()
