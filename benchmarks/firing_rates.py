"""Section 4.2 of Qiu & Zhu: do max-pools lower the firing rate, and do strided convolutions raise it?

Two networks run on the same photos, one with max-pools and one with strided convolutions in their place. For
each place of down-sampling: how often its inputs and its outputs fire per neuron and step. The paper pools
the spikes of each step; here a max-pool compares counts. Beside it stands the net rate that pooling the
spikes of each step would give from the same inputs; what it has more than the net rate out is its error.

    python benchmarks/firing_rates.py --data ../shared/data \\
      --pooled runs/pooled/quant8 --strided runs/coco/quant8
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from inputs import Photos, fingerprint, open_photos
from runner import Runs, arguments, markdown, save_figure, save_results, schedule
from torch import Tensor, nn

from sj_lowlat.data import batches
from sj_lowlat.layers import SpikeMaxPool
from sj_lowlat.monitors import FiringRateMonitor, LayerRate
from sj_lowlat.network import schedule_for
from sj_lowlat.schedule import Schedule
from sj_lowlat.simulation import simulate
from sj_lowlat.zoo import find_device


@contextmanager
def watched_pools(snn: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Sum up what each max-pool passes on: outputs x steps, spikes, net spikes, and the net spikes that it
    would have passed on, had the spikes of each step been pooled."""
    seen: dict[str, Tensor] = {}

    def add(name: str, pool: Any, inputs: tuple[Tensor], out: Tensor) -> None:
        parts = (torch.ones_like(out), out.abs(), out, pool.pool(inputs[0]))
        seen[name] = torch.stack([part.sum(dtype=torch.float64) for part in parts]) + seen.get(name, 0)

    with ExitStack() as hooks:
        for name, pool in snn.named_modules():
            if isinstance(pool, SpikeMaxPool):
                hooks.callback(pool.register_forward_hook(partial(add, name)).remove)
        yield seen


def of_pool(name: str, sums: Tensor, images: int) -> dict[str, Any]:
    """What is kept of a max-pool: as of neurons, and the rate that pooling each step would have."""
    cells, spikes, net, each_step = sums.tolist()
    return {
        "name": name,
        "kind": "max-pool",
        "rate": spikes / cells,
        "net_rate": net / cells,
        "net_rate_each_step": each_step / cells,
        "negative": (spikes - net) / 2 / max(spikes, 1),
        "spikes_per_image": spikes / images,
    }


def measure(runs: Runs, spec: str, photos: Photos, run: Schedule, neuron: str) -> dict[str, Any]:
    """Firing of every layer, in the order of the network: neurons, and max-pools between them."""
    snn, args = runs.spiking(spec, neuron).to(find_device("auto")), runs.args
    full = schedule_for(snn, run)
    with FiringRateMonitor(snn) as rates, watched_pools(snn) as pools:
        for batch in batches(photos.dataset, args.batch_size, args.size):
            simulate(snn, batch.images, full)
    layers: dict[str, dict[str, Any]] = {layer.name: of_neurons(layer) for layer in rates.layers()}
    layers |= {name: of_pool(name, sums, len(photos)) for name, sums in pools.items()}
    modules = dict(snn.named_modules())
    strided = [name for name, m in modules.items() if isinstance(m, nn.Conv2d) and max(m.stride) > 1]
    ordered = [layers[name] for name in modules if name in layers]
    return {"layers": ordered, "strided": strided, "schedule": full.to_json()}


def of_neurons(layer: LayerRate) -> dict[str, Any]:
    """What is kept of a layer of neurons."""
    return {
        "name": layer.name,
        "kind": "neurons",
        "rate": layer.rate,
        "net_rate": layer.net_rate,
        "negative": layer.negative_spikes / max(layer.spikes, 1),
        "spikes_per_image": layer.spikes / layer.images,
    }


def place(name: str) -> int:
    """``layers.1.2`` and ``layers.1`` are both at place 1."""
    return int(re.findall(r"\d+", name)[0])


def downsampling(record: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(layer before, layer) for each max-pool and each strided convolution."""
    strided = {place(name) for name in record["strided"]}
    return [
        (before, layer)
        for before, layer in zip(record["layers"], record["layers"][1:], strict=False)
        if layer["kind"] == "max-pool" or place(layer["name"]) in strided
    ]


def row(label: str, before: dict[str, Any], layer: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    rates = [f"{value:.4f}" for value in (before["rate"], layer["rate"], layer["net_rate"])]
    each = f"{layer['net_rate_each_step']:.4f}" if "net_rate_each_step" in layer else ""
    ratio = f"{layer['rate'] / before['rate']:.2f}" if before["rate"] else "-"
    totals = [f"{part['spikes_per_image']:,.0f}" for part in (before, layer)]
    return (str(place(layer["name"])), label, *rates, each, ratio, f"{100 * layer['negative']:.1f}", *totals)


def main(argv: Sequence[str] | None = None) -> None:
    """Run both networks, print the table, draw the rates of all layers."""
    from sj_lowlat.plots import plot_rates

    parser = arguments(__doc__, "firing_rates")
    parser.add_argument("--pooled", required=True, help="network with max-pools")
    parser.add_argument("--strided", required=True, help="the same with strided convolutions")
    parser.add_argument("--schedule", type=schedule, default="8", help="time steps + flush, as in 8+4")
    parser.add_argument("--neurons", nargs="+", choices=("signed", "residual-fix"), default=["signed"])
    parser.set_defaults(images=32)
    args = parser.parse_args(argv)
    photos = open_photos("coco", args.data).spaced(args.images)
    runs, rows, bars = Runs(args), [], {}
    for neuron in args.neurons:
        for kind, spec in (("max-pool", args.pooled), ("strided conv", args.strided)):
            request = {"network": spec, "weights": fingerprint(spec), "neuron": neuron, "size": args.size}
            request |= {
                "photos": photos.label,
                "calibration": args.calibration,
                "schedule": str(args.schedule),
            }
            work = partial(measure, runs, spec, photos, args.schedule, neuron)
            record = runs.once(f"{kind} {neuron} {args.schedule}", request, work)
            label = f"{kind}, {neuron}"
            rows += [row(label, *pair) for pair in downsampling(record)]
            bars[label] = {place(layer["name"]): layer["rate"] for layer in record["layers"]}
    rows.sort(key=lambda cells: int(cells[0]))
    print(f"\nSpikes per neuron and step, {photos.label}: {len(photos)} images, {args.size} px,")
    print(f"schedule {args.schedule} ({args.schedule.total} steps in all)\n")
    head = ["layer", "down-sampling", "rate in", "rate out", "net rate out", "net, each step pooled"]
    head += ["out / in", "negative %", "spikes in/image", "spikes out/image"]
    print(markdown(head, rows))
    save_results(args.results, {"runs": runs.records})
    layers = sorted({layer for rates in bars.values() for layer in rates})  # in order, with gaps
    bars = {label: {str(n): rates.get(n, math.nan) for n in layers} for label, rates in bars.items()}
    save_figure(plot_rates(bars, title=f"{photos.label}, {len(photos)} images"), args.figure)


if __name__ == "__main__":
    main()
