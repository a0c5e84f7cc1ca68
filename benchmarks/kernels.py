"""How long the neurons alone take: every kernel of this machine, SpikingJelly's IFNode, and a mere copy.

Layers as large as some of the network's, on random currents. Each kernel reads the currents and writes the
spikes once, and reads and writes V (and the counts of signed neurons) at least once a call; the copy moves as
many bytes in the same rounds, so its speed over a kernel's tells how near that is to the memory's bandwidth.

    python benchmarks/kernels.py
    python benchmarks/kernels.py --device cuda
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from figures import draw_kernels
from runner import arguments, markdown, place, save_figure, save_results
from spikingjelly.activation_based.neuron import IFNode
from timing import device_options, others_cores, prepare, quartiles, ratio, rounds, seconds

from sj_lowlat.kernels import KERNELS, FireRule, choose, level_table, multi_step

COPY = "copy"
RULES = {
    "if": FireRule.plain(),
    "signed": FireRule.signed(max_count=16),
    "signed, bursts of 4": FireRule.signed(max_count=16, burst=4),
    "leaky, bursts of 4": FireRule.signed(max_count=16, slope=0.1, burst=4),
    "SiLU, bursts of 4": FireRule.table(16, burst=4),
}
SILU = torch.nn.SiLU()
HEAD = ("layer", "kernel", "ms/step", "quartiles", "ns/neuron and step", "GB/s", "% of copy", "same spikes")
BUILD = """
import time, torch
from sj_lowlat.kernels import FireRule, multi_step
x, v = torch.zeros(1, 1, 8), torch.zeros(1, 8)
start = time.perf_counter()
multi_step(x, v, torch.ones(()), FireRule.signed(), v.clone(), "cpp")
print(time.perf_counter() - start)
"""


@dataclass(frozen=True)
class Layer:
    """A layer of neurons and what it reads.

    :param batch: images
    :param spikes: their dtype; None for that of the currents
    :param last: whether the memory format is channels_last
    """

    shape: tuple[int, int, int]
    steps: int
    rule: str
    currents: torch.dtype = torch.float32
    spikes: torch.dtype | None = None
    last: bool = False
    batch: int = 1

    def __str__(self) -> str:
        kind = _short(self.currents) + (f" to {_short(self.spikes)}" if self.spikes else "")
        size = "x".join(map(str, self.shape))
        size = f"{self.batch} x {size}" if self.batch > 1 else size
        return f"{size}, T = {self.steps}, {self.rule}, {kind}" + (", channels_last" if self.last else "")


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.").replace("float", "fp").replace("bfp", "bf")


FIRST, MIDDLE, DEEP = ((16, 416, 416), 2), ((32, 208, 208), 4), ((256, 26, 26), 16)
SIGNED = Layer(*MIDDLE, "signed")
LAYERS = (
    *(Layer(*size, rule) for size, rule in itertools.product((FIRST, MIDDLE, DEEP), RULES)),
    replace(SIGNED, currents=torch.bfloat16),
    replace(SIGNED, spikes=torch.bfloat16),
    replace(SIGNED, last=True),
)


def available(device: str) -> list[str]:
    """The kernels that run here: the reference, and the one that is chosen."""
    return [name for name in KERNELS if name in ("reference", choose(torch.device(device)))]


@torch.no_grad()
def measure(layer: Layer, kernels: Sequence[str], repeats: int, device: str) -> dict[str, Any]:
    """Time one layer with every kernel."""
    rule, steps = RULES[layer.rule], layer.steps
    noise = torch.rand(steps, layer.batch, *layer.shape, generator=torch.Generator().manual_seed(0))
    currents = (1.2 * noise - 0.5).to(device, layer.currents)  # both signs of spikes
    if layer.last:
        currents = currents.movedim(2, -1).contiguous().movedim(-1, 2)
    v = torch.empty_like(currents[0], dtype=torch.float32)
    count = torch.empty_like(v) if rule.counts else None
    threshold = torch.ones((), device=device)
    table = (
        None if rule.resets else level_table(SILU, torch.ones(()).double(), 16, v.dtype, None).to(v.device)
    )
    node = IFNode(1.0, None, step_mode="m")

    def start() -> None:
        v.fill_(0.5)
        if count is not None:
            count.zero_()

    def ours(name: str) -> Callable[[], torch.Tensor]:
        return lambda: multi_step(currents, v, threshold, rule, count, name, layer.spikes, table=table)

    def spikingjelly() -> torch.Tensor:
        node.v = v
        return node(currents)

    jobs: dict[str, Callable[[], torch.Tensor]] = {name: ours(name) for name in kernels}
    if rule == FireRule.plain() and layer.spikes is None:
        jobs["SpikingJelly"] = spikingjelly
    start()
    spikes, same, first = ours("reference")(), {}, {}
    for name, job in jobs.items():
        fired: list[torch.Tensor] = []
        start()
        first[name] = round(seconds(lambda job=job, fired=fired: fired.append(job()), device), 3)
        same[name] = torch.equal(fired[0], spikes)
    state = [v] if count is None else [v, count]
    moved = sum(x.numel() * x.element_size() for x in (currents, spikes, *state, *state)) / 2**20
    source = torch.ones(int(moved * 2**19), dtype=torch.uint8, device=device)  # half is read, half written
    target = torch.empty_like(source)
    jobs[COPY] = lambda: target.copy_(source)
    _, times = rounds(jobs, repeats, device, before=start)
    found = {}
    for name, own in times.items():
        middle = quartiles([1e3 * t for t in own], digits=4)
        found[name] = {
            "ms": middle,
            "ms_per_step": round(middle["median"] / steps, 4),
            "ns_per_neuron_step": round(1e6 * middle["median"] / currents.numel(), 4),
            "gb_per_s": round(moved * 2**20 / middle["median"] / 1e6, 2),
            "share_of_copy": ratio(times[COPY], own),
            "same_spikes": same.get(name),
            "first_call_s": first.get(name),
        }
    about = {"case": str(layer), "neurons": v.numel(), "steps": steps, "mib": round(moved, 2)}
    return {**about, "kernels": found}


def line(row: dict[str, Any], name: str) -> list[str]:
    """One kernel on one layer."""
    found, steps = row["kernels"][name], row["steps"]
    ms = found["ms"]
    cells = [row["case"], name, f"{found['ms_per_step']:.3f}"]
    cells.append(f"{ms['q25'] / steps:.3f} to {ms['q75'] / steps:.3f}")
    cells += [f"{found['ns_per_neuron_step']:.3f}", f"{found['gb_per_s']:.1f}"]
    same = {True: "yes", False: "no", None: ""}[found["same_spikes"]]
    return [*cells, f"{100 * found['share_of_copy']:.0f}", same]


def build_seconds() -> float:
    """How long the first call of the kernel ``"cpp"`` takes with an empty cache: one variant is compiled."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "XDG_CACHE_HOME": folder}
        command = [sys.executable, "-c", BUILD]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return round(float(done.stdout), 2)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure all layers, print one line for each kernel of each, draw them."""
    parser = arguments(__doc__, "", data=False)
    add = parser.add_argument
    add("--kernels", nargs="+", choices=KERNELS, help="by default all that run here")
    add("--repeats", type=int, default=15, help="rounds, after two that warm up")
    add("--batch", type=int, default=1, help="images; on a GPU many, or the launch is all that is seen")
    add("--shrink", type=int, default=1, help="divide the layers' sides by this")
    device_options(parser)
    args = parser.parse_args(argv)
    if min(args.repeats, args.batch) < 1 or not 1 <= args.shrink <= 26:
        parser.error("--repeats and --batch must be 1 or more, --shrink from 1 to 26")
    record = prepare(args)
    if record is None:
        return
    runs_here = available(args.device)
    if missing := set(args.kernels or ()) - set(runs_here):
        parser.error(f"no kernel {', '.join(sorted(missing))} on this {args.device}; there are {runs_here}")
    place(args, "kernels" + ("_cuda" if args.device == "cuda" else ""))
    record |= {"repeats": args.repeats, "batch": args.batch}
    print(json.dumps(record))
    with others_cores() as others:
        rows = record["layers"] = []
        for layer in LAYERS:
            channels, *sides = layer.shape
            shape = (channels, *(side // args.shrink for side in sides))
            small = replace(layer, shape=shape, batch=args.batch)
            rows.append(measure(small, args.kernels or runs_here, args.repeats, args.device))
    record["others_cores"] = others[0]
    print(markdown(HEAD, [line(row, name) for row in rows for name in row["kernels"]]))
    if "cpp" in (args.kernels or runs_here):
        record["cpp_build_s"] = build_seconds()
        print(f"\nKernel cpp, one variant built into an empty cache: {record['cpp_build_s']:.1f} s")
    save_results(args.results, record)
    save_figure(draw_kernels(rows), args.figure)


if __name__ == "__main__":
    main()
