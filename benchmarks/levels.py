"""What rounding costs before any training: mAP50 of a network prepared in several ways.

Clips from a percentile or of least square error, channels equalised or not, finer levels for the first
layers.

    python benchmarks/levels.py --data ../shared/data --images 100 \\
      --network ../shared/data/darknet/yolov3-tiny.weights
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common import Runs, arguments, curve, markdown
from inputs import calibration_images, coco_photos, fingerprint, levels_of, named, open_network
from torch import nn

from sj_lowlat.conversion import prepare
from sj_lowlat.evaluation import evaluate

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
    half = {**best, "finer": dict.fromkeys(firsts[:3], FACTOR // 2)}
    return [*plain, *finer, (16, {"scale": "99.9%"}), (16, best), (16, half), (32, best)]


def main(argv: Sequence[str] | None = None) -> None:
    """Prepare, score, print."""
    parser = arguments(__doc__, "levels", figure=False)
    parser.add_argument("--network", type=named, required=True, help="a network with ReLUs, leaky or not")
    args = parser.parse_args(argv)
    name, spec = args.network
    if levels_of(spec) is not None:
        parser.error(f"{spec} is quantised already: give a network with ReLUs")
    photos = coco_photos(args.data).spaced(args.images)
    runs = Runs(args)
    relu = curve(runs(f"{name} ANN", spec, photos))[None]
    calibration = calibration_images(args.data, args.calibration, args.size)
    network = open_network(spec)
    activations = [
        key for key, module in network.named_modules() if isinstance(module, nn.ReLU | nn.LeakyReLU)
    ]
    rows = []
    for levels, options in variants(activations):
        finer = options.get("finer", {})
        first = f"{len(finer)}, x{max(finer.values())}" if finer else "none"
        words = [options["scale"], "yes" if options.get("equalise") else "no", first]

        def work(levels: int = levels, options: dict[str, Any] = options) -> dict[str, Any]:
            prepared = prepare(network, levels, calibration, **options)
            return evaluate(prepared, photos.dataset, size=args.size, batch_size=args.batch_size).to_json()

        request = {"weights": fingerprint(spec), "levels": levels, "images": len(photos), "size": args.size}
        label = f"{name} L={levels} {' '.join(words)}"
        record = runs.once(label, {**request, **options, "calibration": args.calibration}, work)
        rows.append((str(levels), *words, f"{curve(record)[None]:.1f}"))
    print(f"\nmAP50 (pycocotools) without training, {photos.label}: {len(photos)} images, {args.size} px")
    print(f"{name} itself: {relu:.1f}\n")
    print(markdown(("L", "clip", "equalised", "finer first layers", "Quant ANN"), rows))
    runs.save()


if __name__ == "__main__":
    main()
