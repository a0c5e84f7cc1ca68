"""What rounding costs before any training: mAP50 of a ReLU network prepared in several ways.

Clips from a percentile or of least square error, channels equalised or not, finer levels for the first
layers.

    python benchmarks/levels.py --data ../shared/data --network runs/ship/relu --images 100
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common import Runs, arguments, curve, markdown
from inputs import calibration_images, coco_photos, fingerprint, levels_of, named, open_network

from sj_lowlat.convert import prepare
from sj_lowlat.evaluate import evaluate

FACTOR = 4  # by which the first layers are finer


def variants(firsts: Sequence[str]) -> list[tuple[int, dict[str, Any]]]:
    """Levels, and options of ``prepare``.

    :param firsts: names of the first activations
    """
    best: dict[str, Any] = {"scale": "mse", "equalise": True}
    plain = [
        (8, {"scale": "99.9%"}),
        (8, {"scale": "99.9%", "equalise": True}),
        (8, {"scale": "mse"}),
        (8, best),
    ]
    finer = [(8, {**best, "finer": dict.fromkeys(firsts[:count], FACTOR)}) for count in (1, 2, 3)]
    return [*plain, *finer, (16, {"scale": "99.9%"}), (16, best), (32, best)]


def main(argv: Sequence[str] | None = None) -> None:
    """Prepare, score, print."""
    parser = arguments(__doc__, "levels", figure=False)
    parser.add_argument("--network", type=named, required=True, help="folder of a network with ReLUs")
    args = parser.parse_args(argv)
    name, spec = args.network
    if levels_of(spec) is not None:
        parser.error(f"{spec} is quantised already: give a network with ReLUs")
    photos = coco_photos(args.data).spaced(args.images)
    runs = Runs(args)
    relu = curve(runs(f"{name} ANN", spec, photos))[None]
    calibration = calibration_images(args.data, args.calibration, args.size)
    network = open_network(spec)
    activations = [key for key, module in network.named_modules() if type(module).__name__ == "ReLU"]
    rows = []
    for levels, options in variants(activations):
        finer = len(options.get("finer", {}))
        words = [options["scale"], "yes" if options.get("equalise") else "no", f"{finer or 'none'}"]

        def work(levels: int = levels, options: dict[str, Any] = options) -> dict[str, Any]:
            prepared = prepare(network, levels, calibration, **options)
            return evaluate(prepared, photos.dataset, size=args.size, batch_size=args.batch_size).to_json()

        request = {"weights": fingerprint(spec), "levels": levels, "images": len(photos), "size": args.size}
        label = f"{name} L={levels} {' '.join(words)}"
        record = runs.once(label, {**request, **options, "calibration": args.calibration}, work)
        rows.append((str(levels), *words, f"{curve(record)[None]:.1f}"))
    print(f"\nmAP50 (pycocotools) without training, {photos.label}: {len(photos)} images, {args.size} px")
    print(f"{name}: ReLU network {relu:.1f}\n")
    print(markdown(("L", "clip", "equalised", f"first layers x{FACTOR}", "Quant ANN"), rows))
    runs.save()


if __name__ == "__main__":
    main()
