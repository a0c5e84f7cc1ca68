"""How far the signed network's head maps are from the quantised network's as the flush goes on.

python benchmarks/settle.py --data ../shared/data --network runs/coco/quant16
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from sj_lowlat import checkpoint
from sj_lowlat.convert import convert
from sj_lowlat.data import CocoDataset, batches
from sj_lowlat.simulate import simulate_steps


def main() -> None:
    """Print one line per read-out: the largest relative error of any image and head."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with coco-subset")
    parser.add_argument("--network", type=Path, required=True, help="a quantised network of coco_distil.py")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--flush", type=int, default=64)
    args = parser.parse_args()
    coco = args.data / "coco-subset"
    photos = CocoDataset(coco / "annotations" / "instances_val2017.json", coco / "val2017")
    images = next(iter(batches(photos, args.images, 416))).images
    quant = checkpoint.load(args.network)
    with torch.no_grad():
        wanted = quant(images)
    levels = quant.levels
    readout = [levels + k for k in (0, 1, 2, 4, 8, 16, 32, 64) if k <= args.flush]
    print(
        f"L = T = {levels}, {args.images} images, 416 px: |SNN - Quant ANN| / |Quant ANN|, worst of all maps"
    )
    for read in simulate_steps(convert(quant), images, levels, flush=args.flush, readout=readout):
        errors = [
            ((got - want).flatten(1).norm(dim=1) / want.flatten(1).norm(dim=1)).max().item()
            for got, want in zip(read.outputs, wanted, strict=True)
        ]
        print(f"flush {read.step - levels:>2} ({read.step} steps in all): {max(errors):.1e}")


if __name__ == "__main__":
    main()
