"""mAP50 on the COCO subset: quantised networks, and plain IF, residual fix, signed, and signed + flush.

Needs the networks of ``coco_distil.py``.

    python benchmarks/table_coco_subset.py --data ../shared/data --networks runs/coco --output runs/coco/table
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common import NEURONS, Runs, Schedule, arguments, costs, curve, markdown
from inputs import coco_photos

FLUSH = 4


def main(argv: Sequence[str] | None = None) -> None:
    """Score every network and print the table."""
    parser = arguments(__doc__, "coco_subset", figure=False)
    parser.add_argument("--networks", type=Path, default=Path("runs/coco"))
    parser.add_argument("--levels", type=int, nargs="+", default=[8, 16, 32])
    args = parser.parse_args(argv)
    photos = coco_photos(args.data).spaced(args.images)
    runs = Runs(args)

    teacher = curve(runs("teacher", str(args.data / "darknet" / "yolov3-tiny.weights"), photos))[None]
    relu = curve(runs("relu", str(args.networks / "relu"), photos))[None]
    rows = []
    for levels in args.levels:
        spec = str(args.networks / f"quant{levels}")
        cells = [str(levels), f"{curve(runs(f'quant{levels}', spec, photos))[None]:.1f}"]
        for neuron in NEURONS:
            schedule = Schedule(levels, FLUSH if neuron == "signed" else 0)
            options = schedule.options(levels, {levels, schedule.total})
            record = runs(f"{neuron}{levels}", spec, photos, neuron, **options)
            cells += [f"{value:.1f}" for _, value in sorted(curve(record).items())]
        rows.append([*cells, *costs(record)])  # of the signed neurons, the last
    print(f"\nmAP50 (pycocotools), {photos.label}, {len(photos)} images, {args.size} px")
    print(f"darknet teacher {teacher:.1f}, layer-replaced ReLU network {relu:.1f}\n")
    head = ("L = T", "Quant ANN", *NEURONS.values(), f"signed + flush {FLUSH}")
    print(markdown((*head, "spikes/neuron", "energy/ANN"), rows))
    runs.save()


if __name__ == "__main__":
    main()
