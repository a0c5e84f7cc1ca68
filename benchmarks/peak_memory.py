"""The most memory that a simulation held, in MiB, as one JSON line; ``speed.py`` starts it for each case.

    python benchmarks/peak_memory.py NETWORK.pt --how simulate --steps 300

It runs in a process of its own because a process cannot forget its peak. NETWORK.pt is a whole network
written by ``torch.save``; it is unpickled, so give your own only.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Sequence
from pathlib import Path

import torch
from competitors import RUNNERS


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network", type=Path)
    parser.add_argument("--how", choices=RUNNERS, default="simulate")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--size", type=int, default=416)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    net = torch.load(args.network, weights_only=False, map_location=args.device)
    shape = args.batch, 3, args.size, args.size
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(args.device)
    loaded = held(args.device)
    with torch.no_grad():
        RUNNERS[args.how](net, images, args.steps)
    print(json.dumps({"loaded_mib": loaded, "peak_mib": held(args.device)}))


def held(device: str) -> float:
    """The most so far: of the GPU's memory by torch, or resident.

    On Linux not ``ru_maxrss``, which begins at the size of the process that started this one.
    """
    if device == "cuda":
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        kibibytes = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):  # not Linux
        kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(kibibytes / 2**10, 1)


if __name__ == "__main__":
    main()
