"""mAP50 on the COCO subset: quantised networks, and plain IF, residual fix, signed, and signed + flush.

Needs the networks of ``coco_distil.py``. Every run is written to OUTPUT as JSON when it ends, and not done
again; RESULTS gets all of them in one file.

    python benchmarks/table_coco_subset.py --data ../shared/data --networks runs/coco --output runs/coco/table
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from torch import nn

from sj_lowlat import checkpoint
from sj_lowlat.convert import convert
from sj_lowlat.data import CocoDataset
from sj_lowlat.evaluate import evaluate
from sj_lowlat.files import write_json
from sj_lowlat.layers import LowLatencyIFNode
from sj_lowlat.models import tiny_yolov3

FLUSH = 4


def main() -> None:
    """Score every network and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with darknet and coco-subset")
    parser.add_argument("--networks", type=Path, default=Path("runs/coco"))
    parser.add_argument("--output", type=Path, default=Path("runs/coco/table"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/coco_subset.json"))
    parser.add_argument("--levels", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--limit", type=int, help="score only the first so many images")
    parser.add_argument("--kernel", default="reference", help="reference or compiled")
    args = parser.parse_args()
    coco = args.data / "coco-subset"
    dataset = CocoDataset(coco / "annotations" / "instances_val2017.json", coco / "val2017")
    if args.limit:
        dataset = dataset.subset(range(args.limit))

    def run(name: str, network: Callable[[], nn.Module], **options: object) -> dict:
        path = args.output / f"{name}.json"
        if not path.exists():
            print(f"{name} ...", flush=True)
            model = network()
            for module in model.modules():
                if isinstance(module, LowLatencyIFNode):
                    module.kernel = args.kernel
            write_json(path, evaluate(model, dataset, **options).to_json())
        return json.loads(path.read_text())

    def points(record: dict) -> dict[int | None, str]:
        return {p["steps"]: f"{100 * p['map50']:.1f}" for p in record["points"]}

    weights = args.data / "darknet" / "yolov3-tiny.weights"
    teacher = run("teacher", lambda: tiny_yolov3(weights=weights).eval())
    relu = run("relu", lambda: checkpoint.load(args.networks / "relu"))
    print(f"\nmAP50 (pycocotools), COCO subset, {len(dataset)} images, 416 px")
    print(f"darknet teacher {points(teacher)[None]}, layer-replaced ReLU network {points(relu)[None]}\n")
    head = (
        "L = T",
        "Quant ANN",
        "plain IF",
        "residual fix",
        "signed",
        f"signed + flush {FLUSH}",
        "spikes/neuron",
        "energy/ANN",
    )
    rows = [head, ("---",) * len(head)]
    for levels in args.levels:
        folder = args.networks / f"quant{levels}"
        quant = run(f"quant{levels}", lambda folder=folder: checkpoint.load(folder))
        cells = [str(levels), points(quant)[None]]
        for neuron in ("signed", "residual-fix", "if"):
            options: dict[str, object] = {"time_steps": levels}
            if neuron == "signed":
                options |= {"flush": FLUSH, "readout": (levels, levels + FLUSH)}
            record = run(
                f"{neuron}{levels}",
                lambda folder=folder, neuron=neuron: convert(checkpoint.load(folder), neuron=neuron),
                **options,
            )
            if neuron == "signed":
                signed = record
            else:
                cells.insert(2, points(record)[levels])
        energy = signed["energy"]
        cells += [points(signed)[levels], points(signed)[levels + FLUSH]]
        cells += [f"{energy['spikes_per_neuron_and_image']:.2f}", f"{energy['ratio']:.2f}"]
        rows.append(tuple(cells))
    print("\n".join("| " + " | ".join(row) + " |" for row in rows))
    runs = {path.stem: json.loads(path.read_text()) for path in sorted(args.output.glob("*.json"))}
    for record in runs.values():
        record["rates"] = None  # thousands of channels; they stay in the run's own file
    write_json(args.results, runs)


if __name__ == "__main__":
    main()
