"""Quant ANNs of the darknet weights without any training, one for each number of levels.

python benchmarks/untrained.py --data ../shared/data --output runs/untrained --levels 8 16 32
"""

from __future__ import annotations

import argparse
from pathlib import Path

from inputs import calibration_images, open_network

from sj_lowlat import checkpoint
from sj_lowlat.conversion import prepare

FINER = {"layers.0.act": 2, "layers.2.act": 2, "layers.4.act": 2}


def main() -> None:
    """Prepare and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with darknet and coco-subset")
    parser.add_argument("--output", type=Path, default=Path("runs/untrained"))
    parser.add_argument("--levels", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--calibration", type=int, default=64, help="training photos for the clips")
    parser.add_argument("--size", type=int, default=416)
    args = parser.parse_args()
    teacher = open_network(str(args.data / "darknet" / "yolov3-tiny.weights"))
    photos = calibration_images(args.data, args.calibration, args.size)
    for levels in args.levels:
        folder = args.output / f"quant{levels}"
        checkpoint.save(prepare(teacher, levels, photos, scale="mse", equalise=True, finer=FINER), folder)
        print(folder)


if __name__ == "__main__":
    main()
