"""How long a step takes: this package, SpikingJelly's own neurons on the same network, and the ANN.

All competitors run in one process, in turn, again and again; tables have medians over the rounds. Parts: the
strided network, whose IF neurons SpikingJelly has too (are the spikes the same?); the shipped network, whose
signed neurons and exact max-pools it has not; what read-outs at every step and monitors add; peak memory;
``import sj_lowlat`` once torch and spikingjelly are loaded.

    python benchmarks/speed.py                # 416 px, one image, T = 16; 1.5 minutes on 2 cores
    python benchmarks/speed.py --grid         # sizes x T x batches, fewer competitors; half an hour
    python benchmarks/speed.py --device cuda
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from competitors import (
    MERGED,
    MOST_STEPS,
    SHIPPED,
    STEP_BY_STEP,
    Case,
    differing_spikes,
    shipped_cases,
    strided_cases,
    traffic_images,
)
from figures import draw_cases, draw_grid
from runner import HERE, arguments, markdown, place, save_figure, save_results
from timing import KINDS, REST, device_options, others_cores, prepare, quartiles, ratio, rounds, shares

from sj_lowlat import pretrained
from sj_lowlat.detect import detections_from_maps
from sj_lowlat.kernels import choose
from sj_lowlat.monitors import FiringRateMonitor, SynOpMonitor
from sj_lowlat.simulation import simulate, simulate_steps

PARTS = ("strided", "shipped", "extras", "memory", "import")
ONE = {"sizes": [416], "steps": [16], "batch": [1]}
GRID = {"sizes": [160, 320, 416], "steps": [8, 16, 64, 300], "batch": [1, 8]}
TIMES = ["", "steps", "ms/run", "quartiles", "ms/step", "steps/s", "images/s"]
TIMES += ["times as fast", "run / Quant ANN"]
SHARES = [f"{kind} %" for kind in (*KINDS, REST)]
IMPORT = """
import time
import torch
import spikingjelly.activation_based.neuron
start = time.perf_counter()
import sj_lowlat
print(time.perf_counter() - start)
"""


def measure(cases: Sequence[Case], images: torch.Tensor, args: Any, brief: bool) -> list[dict[str, Any]]:
    """Time the cases in turn. The first is what the others are compared with, the last is the ANN."""
    device = args.device
    runs = {case.name: (lambda case=case: case.run(images)) for case in cases}
    _, times = rounds(runs, args.repeats, device)
    rows = []
    for case in cases:
        milliseconds = [1e3 * t for t in times[case.name]]
        row: dict[str, Any] = {"name": case.name, "steps": case.total, "ms": quartiles(milliseconds)}
        row["images_per_s"] = round(1e3 * len(images) / row["ms"]["median"], 3)
        row["run_over_ann"] = ratio(times[case.name], times[cases[-1].name])
        if case.total and cases[0].total:
            row["ms_per_step"] = round(row["ms"]["median"] / case.total, 3)
            row["steps_per_s"] = round(1e3 * case.total / row["ms"]["median"], 2)
            quotient = ratio(times[cases[0].name], times[case.name])  # of whole runs
            row["times_as_fast"] = round(quotient * case.total / cases[0].total, 3)
            row["shares"] = None if brief else shares(case.net, runs[case.name], device)
        rows.append(row)
    return rows


def table(rows: Sequence[Mapping[str, Any]], brief: bool) -> str:
    """The cases in Markdown; ``brief``: without shares."""
    return markdown(TIMES if brief else TIMES + SHARES, [_cells(row, brief) for row in rows])


def _cells(row: Mapping[str, Any], brief: bool) -> list[str]:
    def number(key: str, digits: int) -> str:
        return f"{row[key]:.{digits}f}" if key in row else "-"

    ms, parts = row["ms"], row.get("shares")
    line = [
        row["name"],
        str(row["steps"] or "-"),
        f"{ms['median']:.1f}",
        f"{ms['q25']:.1f} to {ms['q75']:.1f}",
    ]
    keys = {"ms_per_step": 1, "steps_per_s": 1, "images_per_s": 2, "times_as_fast": 2, "run_over_ann": 1}
    line += [number(key, digits) for key, digits in keys.items()]
    return line if brief else line + [f"{100 * parts[k]:.0f}" if parts else "-" for k in (*KINDS, REST)]


def measure_extras(case: Case, images: torch.Tensor, args: Any) -> list[dict[str, Any]]:
    """What read-outs at every step, boxes and monitors add to a plain run; the first is the plain run."""
    snn, run, every = case.net, case.schedule, range(1, (case.total or 0) + 1)

    def boxes(readout: Sequence[int]) -> None:
        for read in simulate_steps(snn, images, run, readout=readout):
            detections_from_maps(read.outputs, snn.head_specs)

    def watched(monitor: Callable[[torch.nn.Module], Any]) -> None:
        with monitor(snn):
            simulate(snn, images, run)

    jobs = {
        "maps at the last step": lambda: simulate(snn, images, run),
        "maps at every step": lambda: simulate(snn, images, run, readout=every),
        "boxes at the last step": lambda: boxes(every[-1:]),
        "boxes at every step": lambda: boxes(every),
        "maps at the last step, FiringRateMonitor": lambda: watched(FiringRateMonitor),
        "maps at the last step, SynOpMonitor": lambda: watched(SynOpMonitor),
    }
    _, times = rounds(jobs, args.repeats, args.device)
    first = times["maps at the last step"]
    return [
        {"name": name, "ms": quartiles([1e3 * t for t in own]), "over_plain": ratio(own, first)}
        for name, own in times.items()
    ]


def measure_memory(cases: Sequence[Case], size: int, batch: int, args: Any) -> list[dict[str, Any]]:
    """The peak of each run, and of a long one of the first of ours, each in a process of its own."""
    by_name = {case.name: case for case in cases}
    wanted = [by_name[name] for name in (STEP_BY_STEP, MERGED, "this package, fp32", "this package, int8")]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case, steps in [*((case, case.total) for case in wanted), (wanted[2], args.long_steps)]:
            network = Path(folder) / "network.pt"
            torch.save(case.net, network)
            options = {"how": case.how, "steps": steps, "size": size, "batch": batch, "device": args.device}
            options["threads"] = torch.get_num_threads()
            words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
            printed = _child([HERE / "competitors.py", network, *words])
            rows.append({"name": case.name, "steps": steps, **json.loads(printed)})
    return rows


def measure_import(repeats: int) -> dict[str, float]:
    """Seconds that importing this package takes, in processes of their own."""
    times = quartiles([float(_child(["-c", IMPORT])) for _ in range(repeats)], digits=4)
    print(f"\nimport sj_lowlat, {repeats} times: {json.dumps(times)} seconds")
    return times


def _child(words: Sequence[Any]) -> str:
    done = subprocess.run([sys.executable, *words], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.splitlines()[-1]


def one_setting(size: int, steps: int, batch: int, args: Any) -> dict[str, Any]:
    """All parts at one image size, number of steps and batch; prints their tables."""
    record: dict[str, Any] = {"size": size, "steps": steps, "batch": batch}
    images, parts = traffic_images(batch, size, args.device), set(args.parts)
    parts &= {"strided"} if args.grid else parts
    print(f"\n## {size} px, batch {batch}, T = {steps}")
    if {"strided", "memory"} & parts:
        cases = strided_cases(size, args.width, steps, args.device, brief=args.grid)
    if "strided" in parts:
        record["strided"] = measure(cases, images, args, brief=args.grid)
        print(f"\nSNN-Tiny-YOLOv3, width {args.width:g}, residual fix; compared with {cases[0].name}:\n")
        if steps > MOST_STEPS:
            print(f"SpikingJelly runs {MOST_STEPS} steps only: compare the times per step.\n")
        print(table(record["strided"], brief=args.grid))
    if "strided" in parts and not args.grid:
        snn = next(case.net for case in cases if case.how == "simulate")
        found = record["spikes"] = differing_spikes(snn, images, min(steps, MOST_STEPS))
        share = f"{found['spikes']:,} ({found['differing'] / max(found['spikes'], 1):.2g})"
        print(f"\nSpikes that SpikingJelly's network fires otherwise: {found['differing']:,} of {share}")
    if {"shipped", "extras"} & parts:
        shipped = shipped_cases(steps, args.device, args.shipped)
    if "shipped" in parts:
        record["shipped"] = measure(shipped, images, args, brief=False)
        print(f"\n{args.shipped}, signed; compared with the reference kernel:\n")
        print(table(record["shipped"], brief=False))
    if "extras" in parts:
        rows = record["extras"] = measure_extras(shipped[1], images, args)
        print(f"\n{args.shipped}, fp32, {steps} steps:\n")
        lines = [(r["name"], f"{r['ms']['median']:.0f}", f"{r['over_plain']:.2f}") for r in rows]
        print(markdown(("", "ms/run", "over the first"), lines))
    if "memory" in parts:
        rows = record["memory"] = measure_memory(cases, size, batch, args)
        growth = record["memory_long_over_short"] = round(rows[-1]["peak_mib"] / rows[2]["peak_mib"], 3)
        print("\nMemory in MiB, strided network:\n")
        lines = [(r["name"], str(r["steps"]), f"{r['loaded_mib']:.0f}", f"{r['peak_mib']:.0f}") for r in rows]
        print(markdown(("", "steps", "before the run", "peak"), lines))
        print(f"\nPeak of {args.long_steps} steps over that of {steps}: {growth:.2f}")
    return record


def parse(argv: Sequence[str] | None) -> Any:
    """The options, with the preset's values where none were given."""
    parser = arguments(__doc__, "", data=False)
    add = parser.add_argument
    add("--sizes", type=int, nargs="+", help="sides of the images in pixels, multiples of 32")
    add("--batch", type=int, nargs="+", help="images at once")
    add("--steps", type=int, nargs="+", help="T")
    add("--grid", action="store_true", help="many sizes, steps and batches, the strided network only")
    add("--parts", nargs="+", choices=PARTS, default=PARTS)
    add("--shipped", choices=pretrained.names(), default=SHIPPED, help="which of the detectors that ship")
    add("--repeats", type=int, default=9, help="rounds, after one that warms up")
    add("--long-steps", type=int, default=300, help="T of the long run whose memory is looked at")
    add("--width", type=float, default=1.0, help="factor of the strided network's channels")
    device_options(parser)
    args = parser.parse_args(argv)
    for name, values in (GRID if args.grid else ONE).items():
        if getattr(args, name) is None:
            setattr(args, name, values)
    place(args, "speed" + ("_grid" if args.grid else "") + ("_cuda" if args.device == "cuda" else ""))
    if min(*args.sizes, *args.batch, *args.steps, args.repeats, args.long_steps) < 1:
        parser.error("sizes, batches, steps and repeats must be 1 or more")
    if any(size % 32 for size in args.sizes):
        parser.error(f"sizes {args.sizes}: the networks take multiples of 32")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every setting, print its tables, write the results, draw the first setting or the grid."""
    args = parse(argv)
    record = prepare(args)
    if record is None:
        return
    record |= {
        "repeats": args.repeats,
        "width": args.width,
        "shipped": args.shipped,
        "kernel": choose(torch.device(args.device)),
    }
    print(json.dumps(record))
    settings = itertools.product(args.sizes, args.batch, args.steps)
    with others_cores() as others:
        record["settings"] = [one_setting(size, steps, batch, args) for size, batch, steps in settings]
    record["others_cores"] = others[0]
    if "import" in args.parts and not args.grid:
        record["import_s"] = measure_import(5)
    save_results(args.results, record)
    save_figure(draw_grid(record) if args.grid else draw_cases(record["settings"][0]), args.figure)


if __name__ == "__main__":
    main()
