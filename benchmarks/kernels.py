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
from importlib.util import find_spec
from typing import Any

import torch
import torch._dynamo
import torch._inductor.config
from common import HERE, arguments, markdown, save_figure, save_results
from speed_figures import draw_kernels
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.neuron import IFNode
from timing import machine, mebibytes, others_cores, quartiles, ratio, rounds, seconds

from sj_lowlat.kernels import KERNELS, FireRule, cpp_kernel, cupy_kernel, multi_step

COPY = "copy"
RULES = {
    "if": FireRule.plain(),
    "signed": FireRule.signed(max_count=16),
    "signed, bursts of 4": FireRule.signed(max_count=16, burst=4),
    "leaky, bursts of 4": FireRule.signed(max_count=16, slope=0.1, burst=4),
}
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

    :param spikes: their dtype; None for that of the currents
    :param last: whether the memory format is channels_last
    """

    shape: tuple[int, int, int]
    steps: int
    rule: str
    currents: torch.dtype = torch.float32
    spikes: torch.dtype | None = None
    last: bool = False

    def __str__(self) -> str:
        kind = _short(self.currents) + (f" to {_short(self.spikes)}" if self.spikes else "")
        size = "x".join(map(str, self.shape))
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
    """The kernels that run here."""
    elsewhere = {"cpp"} if device == "cuda" else {"cupy"}
    missing = {"cpp": not cpp_kernel.available(), "cupy": not cupy_kernel.available()}
    missing["compiled"] = find_spec("triton") is None if device == "cuda" else missing["cpp"]
    return [name for name in KERNELS if name not in elsewhere and not missing.get(name)]


@torch.no_grad()
def measure(layer: Layer, kernels: Sequence[str], repeats: int, device: str) -> dict[str, Any]:
    """Time one layer with every kernel."""
    rule, steps = RULES[layer.rule], layer.steps
    noise = torch.rand(steps, 1, *layer.shape, generator=torch.Generator().manual_seed(0))
    currents = (1.2 * noise - 0.5).to(device, layer.currents)  # both signs of spikes
    if layer.last:
        currents = currents.movedim(2, -1).contiguous().movedim(-1, 2)
    v = torch.empty_like(currents[0], dtype=torch.float32)
    count = torch.empty_like(v) if rule.counts else None
    threshold = torch.ones((), device=device)
    node = IFNode(1.0, None, step_mode="m")

    def start() -> None:
        v.fill_(0.5)
        if count is not None:
            count.zero_()

    def ours(name: str) -> Callable[[], torch.Tensor]:
        return lambda: multi_step(currents, v, threshold, rule, count, name, layer.spikes)

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
    moved = mebibytes([currents, spikes, *state, *state])
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
    return {
        "case": str(layer),
        "neurons": v.numel(),
        "steps": steps,
        "mib": round(moved, 2),
        "kernels": found,
    }


def cells(row: dict[str, Any]) -> list[list[str]]:
    """The lines of one layer, one for each kernel."""
    return [
        [
            row["case"],
            name,
            f"{found['ms_per_step']:.3f}",
            f"{found['ms']['q25'] / row['steps']:.3f} to {found['ms']['q75'] / row['steps']:.3f}",
            f"{found['ns_per_neuron_step']:.3f}",
            f"{found['gb_per_s']:.1f}",
            f"{100 * found['share_of_copy']:.0f}",
            {True: "yes", False: "no", None: ""}[found["same_spikes"]],
        ]
        for name, found in row["kernels"].items()
    ]


def build_seconds() -> float:
    """How long the first call of the kernel ``"cpp"`` takes with an empty cache: one variant is compiled."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "XDG_CACHE_HOME": folder}
        command = [sys.executable, "-c", BUILD]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return round(float(done.stdout), 2)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure all layers, print one line for each kernel of each, draw them."""
    parser = arguments(__doc__, "kernels", data=False)
    add = parser.add_argument
    add("--kernels", nargs="+", choices=KERNELS, help="by default all that run here")
    add("--repeats", type=int, default=15, help="rounds, after two that warm up")
    add("--shrink", type=int, default=1, help="divide the layers' sides by this")
    add("--threads", type=int, help="of torch")
    add("--device", choices=("cpu", "cuda"), default="cpu")
    parser.set_defaults(results=None, figure=None)
    args = parser.parse_args(argv)
    if args.repeats < 1 or not 1 <= args.shrink <= 26:
        parser.error("--repeats must be 1 or more, and --shrink from 1 to 26")
    if args.device == "cuda" and not torch.cuda.is_available():
        print("There is no GPU here that torch can use, so nothing was measured.")
        return
    runs_here = available(args.device)
    if missing := set(args.kernels or ()) - set(runs_here):
        parser.error(f"no kernel {', '.join(sorted(missing))} on this {args.device}; there are {runs_here}")
    stem = "kernels" + ("_cuda" if args.device == "cuda" else "")
    if args.threads:
        torch.set_num_threads(args.threads)
    torch._dynamo.config.recompile_limit = 256  # beyond 8 variants torch would stop compiling
    torch._inductor.config.force_disable_caches = True  # or compile times would be those of a cache
    record: dict[str, Any] = {"machine": machine(args.device), "repeats": args.repeats}
    device = torch.device(args.device)
    record["spikingjelly_if"] = functional.neuron_implementation("if", device)["implementation"]
    print(json.dumps(record))
    with others_cores() as others:
        rows = record["layers"] = []
        for layer in LAYERS:
            channels, *sides = layer.shape
            small = replace(layer, shape=(channels, *(side // args.shrink for side in sides)))
            rows.append(measure(small, args.kernels or runs_here, args.repeats, args.device))
    record["others_cores"] = others[0]
    print(markdown(HEAD, [line for row in rows for line in cells(row)]))
    compiled = [f["first_call_s"] for row in rows for name, f in row["kernels"].items() if name == "compiled"]
    if compiled:
        print(f"\nCompilation by torch.compile, {len(compiled)} first calls: {sum(compiled):.0f} s, ", end="")
        print(f"the longest {max(compiled):.0f} s")
    if "cpp" in (args.kernels or runs_here):
        record["cpp_build_s"] = build_seconds()
        print(f"\nKernel cpp, one variant built into an empty cache: {record['cpp_build_s']:.1f} s")
    print(f"\nOther work on the machine: {others[0]:.2f} cores on average")
    save_results(args.results or HERE / "results" / f"{stem}.json", record)
    save_figure(draw_kernels(rows), args.figure or HERE.parent / "docs" / "images" / f"{stem}.png")


if __name__ == "__main__":
    main()
