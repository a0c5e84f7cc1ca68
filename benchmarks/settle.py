"""How far the signed network's head maps are from the quantised network's as the flush goes on.

python benchmarks/settle.py --data ../shared/data --network runs/coco/quant8
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from inputs import levels_of, open_network, open_photos

from sj_lowlat.conversion import convert
from sj_lowlat.data import batches
from sj_lowlat.schedule import Schedule
from sj_lowlat.simulation import simulate_steps


def compare(label: str, outputs: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> None:
    """Print the error of the worst image (the worse of its heads), and how many images are below 1e-3."""
    parts = [
        (got - want).flatten(1).norm(dim=1) / want.flatten(1).norm(dim=1)
        for got, want in zip(outputs, wanted, strict=True)
    ]
    errors = torch.stack(parts).amax(0)
    settled = f"{int((errors < 1e-3).sum())} of {len(errors)} images below 1e-3"
    print(f"{label}: worst image {errors.max():.1e}, {settled}", flush=True)


@torch.no_grad()
def main(argv: Sequence[str] | None = None) -> None:
    """Print one line per read-out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with coco-subset")
    add("--network", required=True, help="a quantised network of train.py")
    add("--images", type=int, default=8)
    add("--size", type=int, default=416)
    add("--flush", type=int, default=64)
    add("--dtype", choices=("float32", "float64"), default="float64")
    args = parser.parse_args(argv)
    levels, dtype = levels_of(args.network), getattr(torch, args.dtype)
    if levels is None:
        parser.error(f"{args.network} has ReLUs: give a quantised network")
    photos = open_photos("coco", args.data).dataset
    images = next(iter(batches(photos, args.images, args.size))).images.to(dtype)
    quant = copy.deepcopy(open_network(args.network)).to(dtype)
    wanted = quant(images)
    readout = [levels + k for k in (0, 1, 2, 4, 8, 16, 32, 64) if k <= args.flush]
    sizes = f"{args.images} images, {args.size} px, {args.dtype}"
    print(f"L = T = {levels}, {sizes}: |SNN - Quant ANN| / |Quant ANN|")
    for read in simulate_steps(convert(quant), images, Schedule(levels, args.flush), readout=readout):
        compare(f"flush {read.step - levels:>2} ({read.step} steps in all)", read.outputs, wanted)
    if dtype == torch.float32:
        exact = quant.double()(images.double())
        compare("the Quant ANN itself, float32 against float64", wanted, exact)


if __name__ == "__main__":
    main()
