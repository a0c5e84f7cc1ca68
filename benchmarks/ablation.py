"""Ablation: down-sampling x activation x neuron, at a few time steps.

Max-pools kept (and counted) or replaced by strided convolutions; leaky ReLU (signed neurons only) or ReLU,
with 99.9 % scales or trained and quantised; plain IF, residual fix, signed, signed + flush.

    python benchmarks/ablation.py --data ../shared/data --kernel compiled \\
      --leaky ../shared/data/darknet/yolov3-tiny.weights --leaky-quant runs/ship/quant16 \\
      --pooled-relu runs/pooled/relu --pooled-quant runs/pooled/quant8 \\
      --strided-relu runs/coco/relu --strided-quant runs/coco/quant8
"""

from __future__ import annotations

from collections.abc import Sequence

from common import Runs, Schedule, arguments, costs, curve, markdown, neurons_for, save_figure
from inputs import coco_photos, levels_of

NETWORKS = {
    "leaky": ("max-pool", "leaky ReLU"),
    "leaky_quant": ("max-pool", "quantised leaky ReLU"),
    "pooled_relu": ("max-pool", "ReLU"),
    "pooled_quant": ("max-pool", "Quant-ReLU"),
    "strided_relu": ("strided conv", "ReLU"),
    "strided_quant": ("strided conv", "Quant-ReLU"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Score all that was named, print the table, draw mAP50 as bars."""
    from sj_lowlat.plots import plot_rates

    parser = arguments(__doc__, "ablation")
    for key, words in NETWORKS.items():
        parser.add_argument(f"--{key.replace('_', '-')}", metavar="FOLDER", help=", ".join(words))
    parser.add_argument("--time-steps", type=int, nargs="+", default=[8])
    parser.add_argument("--flush", type=int, default=4, help="of the last neuron type")
    args = parser.parse_args(argv)
    given = {key: getattr(args, key) for key in NETWORKS if getattr(args, key)}
    if not given:
        parser.error(
            f"name at least one network: {', '.join('--' + key.replace('_', '-') for key in NETWORKS)}"
        )
    photos = coco_photos(args.data).spaced(args.images)
    runs, rows = Runs(args), []
    bars: dict[str, dict[str, float]] = {}
    for key, spec in given.items():
        layer, activation = NETWORKS[key]
        levels = levels_of(spec)
        activation += f", L = {levels}" if levels else ", 99.9 % scale"
        ann = curve(runs(f"{key} ANN", spec, photos))[None]
        for time_steps in args.time_steps:
            plain = [(neuron, label, Schedule(time_steps)) for neuron, label in neurons_for(spec).items()]
            flushed = ("signed", f"signed + flush {args.flush}", Schedule(time_steps, args.flush))
            for neuron, label, schedule in [*plain, flushed]:
                # counts go up to the steps here: T = L is what a network is trained for, other T are not
                record = runs(f"{key} {neuron} {schedule}", spec, photos, neuron, **schedule.options(None))
                snn = curve(record)[schedule.total]
                bars.setdefault(f"{label}, T = {time_steps}", {})[f"{layer}, {activation}"] = snn
                rows.append((layer, activation, label, str(time_steps), f"{ann:.1f}", f"{snn:.1f}",
                             str(schedule.total), *costs(record)))  # fmt: skip
    print(f"\nmAP50 (pycocotools), {photos.label}: {len(photos)} images, {args.size} px\n")
    head = ("down-sampling", "activation", "neuron", "T", "ANN", "SNN", "steps in all")
    print(markdown((*head, "spikes/neuron", "energy/ANN"), rows))
    runs.save()
    title = f"{photos.label}, {len(photos)} images"
    figure = plot_rates(bars, title=title, ylabel="mAP50 (%)")
    figure.axes[0].set_xlabel("")
    figure.axes[0].legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save_figure(figure, args.figure)


if __name__ == "__main__":
    main()
