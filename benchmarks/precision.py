"""What speed costs in accuracy: rounded weights, the settled network from one pass, and runs that stop early.

The network that ships, with its own schedule and with single spikes.

    python benchmarks/precision.py --data ../shared/data
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from common import Runs, Schedule, arguments, curve, markdown
from inputs import coco_photos, levels_of

from sj_lowlat.conversion import PRECISIONS

NETWORK = "snn-tiny-yolov3-coco"
READS = (1, 2, 3)


def last(record: Mapping[str, Any], strict: bool = False) -> float:
    """AP in percent at the last read-out."""
    return list(curve(record, strict).values())[-1]


def main(argv: Sequence[str] | None = None) -> None:
    """Score every way to run the network, print a line for each."""
    parser = arguments(__doc__, "precision", figure=False)
    parser.add_argument("--network", default=NETWORK, help="a folder, or a shipped name")
    parser.add_argument("--schedules", type=Schedule.parse_list, default="4+2b4,16+16")
    parser.add_argument("--in-darknet-5k", action="store_true", help="only images that no training has seen")
    args = parser.parse_args(argv)
    photos = coco_photos(args.data, args.in_darknet_5k).spaced(args.images)
    runs, levels = Runs(args), levels_of(args.network)

    def run(name: str, neuron: str | None = "signed", **options: Any) -> dict[str, Any]:
        return runs(name, args.network, photos, neuron, monitored=0, **options)

    rows = [_row("Quant ANN", "-", "-", run("Quant ANN", None))]
    counts = run("counts", time_steps=levels, mode="counts")
    rows.append(_row("SNN, mode counts", "fp32", "settled", counts))
    first, *others = args.schedules
    for precision in PRECISIONS:
        record = run(f"{first} {precision}", precision=precision, **first.options(levels))
        rows.append(_row(f"SNN {first}", precision, str(first.total), record))
    for schedule in (first, *others):
        options = {**schedule.options(levels), "readout": None}
        if schedule != first:
            rows.append(_row(f"SNN {schedule}", "fp32", str(schedule.total), run(str(schedule), **options)))
        for reads in READS:
            name = f"SNN {schedule}, stop after {reads} alike"
            record = run(f"{schedule} stop {reads}", stop="stable", stop_reads=reads, **options)
            rows.append(_row(name, "fp32", f"{record['mean_steps']:.2f}", record))
    print(f"\nAP (pycocotools), {photos.label}: {len(photos)} images, {args.size} px, {args.network}")
    print(markdown(["network", "weights", "steps per image", "mAP50", "mAP"], rows))
    runs.save()


def _row(name: str, precision: str, steps: str, record: Mapping[str, Any]) -> list[str]:
    return [name, precision, steps, f"{last(record):.2f}", f"{last(record, strict=True):.2f}"]


if __name__ == "__main__":
    main()
