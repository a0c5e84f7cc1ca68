"""What a borrowed GPU needs and does: packing on a machine with the data, training for a number of seconds.

    python benchmarks/gpu.py pack --data DATA --photos DATA/photos --output pack --python 3.12
    bash benchmarks/gpu.sh pack results            # on the machine with the GPU, which needs no network

pack writes ``pictures`` (all training photos, small), ``darknet`` (the teachers' weights) and with --python
``wheels`` (what a machine with torch, CuPy and nvcc lacks, for that version of Python). train runs a plan of
train.py for as many iterations as fit.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from runner import HERE
from torchvision.transforms.functional import to_pil_image
from train import training_pictures

WHEELS = (
    "spikingjelly", "pycocotools", "jsonargparse", "docstring-parser", "typeshed-client",
    "importlib-resources", "loguru", "scienceplots", "hypothesis", "pytest", "pytest-xdist", "iniconfig",
    "pluggy", "execnet", "tensorboard",
)  # fmt: skip
TEACHERS = ("darknet/yolov3-tiny.weights", "darknet/yolo-fastest/*/yolo-fastest-1.1-xl.*")
MARGIN = 1.1  # of the time for a start and for saving


def pack(args: argparse.Namespace) -> None:
    """Write what the machine with the GPU needs."""
    pictures = args.output / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    every = training_pictures(args.data, args.photos)
    for index in range(len(every)):
        picture = to_pil_image(every[index].image)
        picture.thumbnail((args.side, args.side))
        picture.save(pictures / f"{index:06}.jpg", quality=args.quality, optimize=True)
    teachers = [file for pattern in TEACHERS for file in args.data.glob(pattern)]
    if not teachers:
        raise FileNotFoundError(
            f"no weights of a teacher in {args.data}: give it one of {', '.join(TEACHERS)}"
        )
    for weights in teachers:
        copied = args.output / weights.relative_to(args.data)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(weights, copied)
    if args.python is not None:
        _fetch(args.python, args.output / "wheels")
    for part in sorted(args.output.iterdir()):
        files = [file for file in part.rglob("*") if file.is_file()]
        print(f"{part}: {len(files)} files, {sum(file.stat().st_size for file in files) / 2**20:.1f} MiB")


def _fetch(python: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    target = ["--python-version", python, "--dest", str(folder)]
    for platform in ("manylinux_2_28_x86_64", "manylinux2014_x86_64"):
        target += ["--platform", platform]
    subprocess.run([*command, *target, *WHEELS], check=True)


def train(args: argparse.Namespace) -> None:
    """Run a plan so that it ends in time, its stages in proportion: a trial tells how fast each goes."""
    end = time.monotonic() + args.seconds
    plan = json.loads(args.plan.read_text(encoding="utf-8"))
    stages = plan["stages"]
    wanted = [stage["iterations"] for stage in stages]
    plan["finetune"] |= {"augment_on_device": torch.cuda.is_available(), "log_every": max(1, args.trial // 4)}
    began, trial = time.monotonic(), args.output / "trial"
    logs = _run(args, plan, [args.trial] * len(stages), trial)
    shutil.rmtree(trial)
    each = [_seconds_each(log) for log in logs]
    start = time.monotonic() - began - args.trial * sum(each)
    left = (end - time.monotonic() - MARGIN * start) / MARGIN
    factor = left / sum(count * seconds for count, seconds in zip(wanted, each, strict=True))
    iterations = [max(args.trial, int(count * factor)) for count in wanted]
    rates = ", ".join(f"{1 / seconds:.2f}" for seconds in each)
    print(f"{rates} iterations/s, {start:.0f} s to start: {iterations} iterations fit", flush=True)
    for log in _run(args, plan, iterations, args.output):
        print(json.dumps(log[-1]))
    for stage in stages:  # as large as all else
        (args.output / stage["name"] / "checkpoint.pt").unlink(missing_ok=True)


def _seconds_each(log: list[dict[str, Any]]) -> float:
    """Of an iteration, without the first ones."""
    first, last = log[0], log[-1]
    return float((last["seconds"] - first["seconds"]) / (last["iteration"] - first["iteration"]))


def _run(
    args: argparse.Namespace, plan: dict[str, Any], iterations: Sequence[int], output: Path
) -> list[list[dict[str, Any]]]:
    """Run the stages for so many iterations; their logs."""
    output.mkdir(parents=True, exist_ok=True)
    for stage, count in zip(plan["stages"], iterations, strict=True):
        stage["iterations"] = count
    written = output / "plan.json"
    written.write_text(json.dumps(plan, indent=2) + "\n", encoding="utf-8")
    command = [sys.executable, str(HERE / "train.py"), "distil", "--data", str(args.data)]
    command += ["--plan", str(written), "--output", str(output), "--workers", str(args.workers)]
    subprocess.run(command, check=True)
    files = [output / stage["name"] / "log.jsonl" for stage in plan["stages"]]
    return [[json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] for log in files]


def main(argv: Sequence[str] | None = None) -> None:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    own = commands.add_parser("pack", help=pack.__doc__)
    own.set_defaults(run=pack)
    own.add_argument("--data", type=Path, required=True, help="folder with darknet, coco-subset, voc-subset")
    own.add_argument("--photos", type=Path, nargs="+", default=[], help="folders with more pictures")
    own.add_argument("--output", type=Path, default=Path("pack"))
    own.add_argument("--side", type=int, default=320, help="longest side of a picture, in pixels")
    own.add_argument("--quality", type=int, default=85, help="of the JPEG files")
    own.add_argument("--python", help="version on the machine with the GPU, such as 3.12")
    own = commands.add_parser("train", help=train.__doc__)
    own.set_defaults(run=train)
    own.add_argument("--data", type=Path, required=True, help="what pack wrote")
    own.add_argument("--plan", type=Path, default=HERE / "configs" / "snn_tiny_yolov3_coco.json")
    own.add_argument("--output", type=Path, default=Path("runs/gpu"))
    own.add_argument("--seconds", type=float, default=300, help="in all")
    own.add_argument("--trial", type=int, default=60, help="iterations of the trial")
    own.add_argument("--workers", type=int, default=7, help="processes that prepare batches ahead")
    args = parser.parse_args(argv)
    args.run(args)


if __name__ == "__main__":
    main()
