"""Pack a trained Quant ANN into the one file that ships: 8-bit weights, structure, schedule, origin.

    python benchmarks/pack_checkpoint.py --network runs/ship/quant16 \
        --output sj_lowlat/weights/snn-tiny-yolov3-coco.safetensors --time-steps 4 --flush 2 --burst 4
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from sj_lowlat import checkpoint, pretrained

ORIGIN = {
    "licence": "Apache-2.0",
    "distilled_from": "darknet yolov3-tiny.weights (public domain)",
    "pictures": "1,000 of COCO 2017 and 700 of VOC 2012, without their labels",
    "command": "python benchmarks/coco_distil.py --data DATA --output runs/ship "
    "--plan benchmarks/configs/snn_tiny_yolov3_coco.json",
}


def main() -> None:
    """Pack, read it back, and say what the rounding did."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--network", type=Path, default=Path("runs/ship/quant16"), help="folder of the Quant ANN"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("sj_lowlat/weights/snn-tiny-yolov3-coco.safetensors")
    )
    parser.add_argument("--time-steps", type=int, default=4, help="steps with input")
    parser.add_argument("--flush", type=int, default=2, help="steps without")
    parser.add_argument("--levels", type=int, default=16, help="charge that the steps with input bring")
    parser.add_argument("--burst", type=int, default=4, help="most spikes per neuron and step")
    args = parser.parse_args()
    schedule = {name: getattr(args, name) for name in ("time_steps", "flush", "levels", "burst")}

    network = checkpoint.load(args.network)
    pretrained.pack(network, args.output, {"schedule": schedule, **ORIGIN})

    before, after = network.state_dict(), pretrained.unpack(args.output).state_dict()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    square = sum(float((after[name] - before[name]).square().sum()) for name in changed)
    whole = sum(float(before[name].square().sum()) for name in changed)
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.2f} MB, schedule {schedule}")
    print(f"{len(changed)} of {len(before)} tensors rounded, relative error {(square / whole) ** 0.5:.2e}")


if __name__ == "__main__":
    main()
