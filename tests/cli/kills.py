"""Signals at random moments to commands, until they end; their results against those of commands left alone.

By hand: ``python tests/cli/kills.py --kills 20``
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sj_lowlat import checkpoint, cli
from sj_lowlat.conversion import convert, prepare
from sj_lowlat.data import TrafficDataset
from sj_lowlat.models import snn_tiny_yolov3

VERBS = {
    "evaluate": "--model {snn} --data traffic:12 --ann {quant} --readout 2,4 --monitored 4 --batch-size 2"
    " --output {output}/e.json",
    "detect": "{pictures} --model {snn} --min-score 0.05 --output {output}",
    "encode": "--data traffic:6 --frames 128 --size 64 --output {output}",
    "finetune": "--model {quant} --data traffic:4 --size 64 --batch-size 2"
    " --iterations 12 --checkpoint-every 5 --log-every 3 --output {output}",
}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
_SECONDS = 300  # that a command may take


def kill(verb: str, kills: int, root: Path, seed: int = 0) -> Counter[str]:
    """Strike a command so often, and let it go on in the same folder each time.

    :param root: what :func:`prepare_in` has prepared
    :return: counts: ``kills``, exit codes, ``results`` and those ``identical`` to the one of an undisturbed
        command, ``broken`` files, and ``temporary`` ones that were left behind
    """
    draw, counts = random.Random(f"{verb} {seed}"), Counter[str]()
    _wait(_process(["--version"]))  # the imports are done

    def start(output: Path) -> Any:
        places = {name: root / name for name in ("quant", "snn", "pictures")}
        return _process([verb, *(word.format(**places, output=output) for word in VERBS[verb].split())])

    begun = time.monotonic()
    alone = start(root / f"{verb} whole")
    _wait(alone)
    assert alone.exitcode == 0, f"{verb} ends with {alone.exitcode} by itself"
    seconds, whole, struck = time.monotonic() - begun, digest(root / f"{verb} whole"), False
    while counts["kills"] < kills or struck:
        assert counts["results"] < 20 * kills, f"no signal strikes {verb}"
        output, number = (
            root / f"{verb} {counts['results']}",
            SIGNALS[(counts["kills"] + seed) % len(SIGNALS)],
        )
        begun, process = time.monotonic(), start(output)
        if counts["kills"] < kills:
            process.join(draw.uniform(0, seconds))
            if process.exitcode is None:
                os.kill(process.pid, number)
        _wait(process)
        struck = process.exitcode != 0
        if struck:
            assert process.exitcode not in (1, 2, 3), f"{verb} ends with {process.exitcode} in {output}"
            counts["kills"] += 1
            counts[f"{number.name}: exit code {process.exitcode}"] += 1
            counts["broken"] += broken(output)
            continue
        seconds = min(seconds, time.monotonic() - begun)  # the first one may have been slow
        counts["results"] += 1
        counts["identical"] += digest(output) == whole
        counts["temporary"] += sum(path.name.startswith(".") for path in output.rglob("*"))
    return counts


def digest(folder: Path) -> dict[str, Any]:
    """What a command wrote, without times and commands."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("[!.]*.*")):
        name = str(path.relative_to(folder))
        if path.suffix in (".json", ".jsonl"):
            rows = [json.loads(line) for line in _documents(path)]
            found[name] = [
                {k: v for k, v in row.items() if k not in ("settings", "seconds", "command")} for row in rows
            ]
        elif "tfevents" not in name and path.suffix != ".pt":
            found[name] = path.read_bytes()
    return found


def broken(folder: Path) -> int:
    """How many files of a folder are not whole."""
    count = 0
    for path in folder.rglob("[!.]*.*") if folder.exists() else ():
        try:
            if path.suffix == ".pt":
                torch.load(path, weights_only=True)
            elif path.suffix == ".json":
                json.loads(path.read_text())
        except Exception:
            count += 1
    if (folder / "model.safetensors").exists():
        checkpoint.load(folder)
    return count


def _documents(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    return [text] if path.suffix == ".json" else text.splitlines()


def prepare_in(root: Path) -> None:
    """Make a narrow network that finds something, quantised and spiking, and pictures."""
    scenes = TrafficDataset(10, size=64, seed=3)
    scenes.write_coco(root)
    (root / "images").rename(root / "pictures")
    torch.manual_seed(0)
    ann = snn_tiny_yolov3(4, width=0.125, class_names=scenes.class_names, input_size=64)
    with torch.no_grad():
        for module in ann.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                module.bias.fill_(0.5)
    quant = prepare(ann.eval(), 4, torch.stack([scenes[i].image for i in range(4)]) / 255)
    for name, network in (("quant", quant), ("snn", convert(quant))):
        checkpoint.save(network, root / name)


def _process(words: list[str]) -> Any:
    """A process that does what ``sj-lowlat`` does, forked from one that has done the imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "torch.export._trace",
            "torch.utils.tensorboard",
            "sj_lowlat.demo",
            "sj_lowlat.cli.finetune",
            "sj_lowlat.spike_camera",
        ]
    )
    process = context.Process(target=_command, args=(words,))
    process.start()
    return process


def _command(words: list[str]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        sys.exit(cli.main(words))


def _wait(process: Any) -> None:
    process.join(_SECONDS)
    if process.exitcode is None:
        process.kill()
        raise SystemExit(f"a command did not end in {_SECONDS} s")


def main() -> None:
    """Print a line of counts for every verb."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="for each verb")
    parser.add_argument("--verbs", nargs="+", default=list(VERBS), choices=list(VERBS))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        prepare_in(Path(folder))
        for verb in args.verbs:
            print(verb, dict(sorted(kill(verb, args.kills, Path(folder), args.seed).items())), flush=True)


if __name__ == "__main__":
    main()
