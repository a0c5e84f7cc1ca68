"""How far the signed network's head maps are from the quantised network's as the flush goes on.

python benchmarks/settle.py --data ../shared/data --network runs/coco/quant8
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from sj_lowlat import checkpoint
from sj_lowlat.conversion import convert
from sj_lowlat.data import CocoDataset, batches
from sj_lowlat.simulation import simulate_steps


def compare(label: str, outputs: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> None:
    """Print the error of the worst image, and how many images are below 1e-3."""
    errors = torch.stack(
        [
            (got - want).flatten(1).norm(dim=1) / want.flatten(1).norm(dim=1)
            for got, want in zip(outputs, wanted, strict=True)
        ]
    ).amax(0)  # the worse of the two heads, image by image
    settled = int((errors < 1e-3).sum())
    print(
        f"{label}: worst image {errors.max():.1e}, {settled} of {len(errors)} images below 1e-3", flush=True
    )


def main() -> None:
    """Print one line per read-out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with coco-subset")
    parser.add_argument("--network", type=Path, required=True, help="a quantised network of coco_distil.py")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--flush", type=int, default=64)
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float64")
    args = parser.parse_args()
    dtype = getattr(torch, args.dtype)
    coco = args.data / "coco-subset"
    photos = CocoDataset(coco / "annotations" / "instances_val2017.json", coco / "val2017")
    images = next(iter(batches(photos, args.images, 416))).images.to(dtype)
    quant = checkpoint.load(args.network).to(dtype)
    with torch.no_grad():
        wanted = quant(images)
    levels = quant.levels
    readout = [levels + k for k in (0, 1, 2, 4, 8, 16, 32, 64) if k <= args.flush]
    print(f"L = T = {levels}, {args.images} images, 416 px, {args.dtype}: |SNN - Quant ANN| / |Quant ANN|")
    for read in simulate_steps(convert(quant), images, levels, flush=args.flush, readout=readout):
        compare(f"flush {read.step - levels:>2} ({read.step} steps in all)", read.outputs, wanted)
    if dtype == torch.float32:
        with torch.no_grad():
            exact = quant.double()(images.double())
        compare("the Quant ANN itself, float32 against float64", wanted, exact)


if __name__ == "__main__":
    main()
