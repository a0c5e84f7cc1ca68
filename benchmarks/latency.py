"""mAP50 of spiking networks at every step, for several schedules: how soon is it as good as its Quant ANN?

A schedule 8+4 gives the input in 8 steps and then flushes for 4; 2+4b2 lets a neuron fire up to twice a step.
Net counts go up to the levels of the network whatever the steps. Latency counts all steps.

    python benchmarks/latency.py --data ../shared/data --network runs/ship/quant16 --kernel compiled
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from common import NEURONS, Runs, Schedule, arguments, costs, curve, markdown, save_figure
from inputs import coco_photos, levels_of, named

NEAR = 0.5  # points of mAP50 that count as equal
EARLY = 6  # the step that is looked at besides


def fewest(points: Mapping[int, float], wanted: float) -> int | None:
    """The first step from which a single read-out is good enough; None if there is none.

    :param points: steps -> mAP50
    :param wanted: the least mAP50
    """
    return min((step for step, value in points.items() if value >= wanted), default=None)


def row(label: str, points: Mapping[int, float], quant: float, steps: int, cost: Sequence[str]) -> list[str]:
    """One line of the table: the curve up to ``steps``, and what is read off it."""
    first = fewest(points, quant - NEAR)
    cells = [f"{points[step]:.1f}" if step in points else "" for step in range(1, steps + 1)]
    early = f"{points[EARLY]:.1f}" if EARLY in points else "-"
    return [label, *cells, "-" if first is None else str(first), early, *cost]


def main(argv: Sequence[str] | None = None) -> None:
    """Score every schedule and neuron, print one line for each, draw the curves."""
    from sj_lowlat.plots import plot_map_curve

    parser = arguments(__doc__, "latency")
    parser.add_argument("--network", required=True, help="[name=]folder of a network, or a shipped name")
    parser.add_argument("--schedules", type=Schedule.parse_list, default="8+4,4+4,2+6,1+7,2+4b2")
    parser.add_argument("--neuron", nargs="+", choices=NEURONS, default=["signed"])
    parser.add_argument(
        "--beside", nargs="+", type=named, default=[], metavar="NAME=WHAT", help="ANNs to score as well"
    )
    parser.add_argument("--in-darknet-5k", action="store_true", help="only images that no training has seen")
    args = parser.parse_args(argv)
    name, spec = named(args.network)
    levels = levels_of(spec)
    if levels is None:
        parser.error(f"{spec} has ReLUs, not quantised ones: give a network of prepare")
    photos = coco_photos(args.data, args.in_darknet_5k).spaced(args.images)
    runs = Runs(args)
    quant = curve(runs(f"{name} ANN", spec, photos))[None]
    beside = {label: curve(runs(f"{label} ANN", other, photos))[None] for label, other in args.beside}

    steps = max(schedule.total for schedule in args.schedules)
    curves, rows = {}, []
    for neuron in args.neuron:
        for schedule in args.schedules:
            label = f"{NEURONS[neuron]} {schedule}"
            options = schedule.options(levels, range(1, schedule.total + 1))
            record = runs(f"{name} {label}", spec, photos, neuron, **options)
            points = curve(record)
            curves[label] = sorted(points.items())
            rows.append(row(label, points, quant, steps, costs(record)))
    print(f"\nmAP50 (pycocotools) at every step, {photos.label}: {len(photos)} images, {args.size} px")
    print(f"{name}: L = {levels}, Quant ANN {quant:.1f}")
    print("".join(f"{label}: {value:.1f}\n" for label, value in beside.items()))
    head = ["steps in all", *map(str, range(1, steps + 1)), f"fewest within {NEAR}", f"at {EARLY}"]
    print(markdown([*head, "spikes/neuron", "energy/ANN"], rows))
    runs.save()
    title = f"{name} (L = {levels}), {photos.label}"
    save_figure(plot_map_curve(curves, quant=quant, title=title), args.figure)


if __name__ == "__main__":
    main()
