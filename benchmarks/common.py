"""What the benchmark scripts share: arguments, schedules, runs that are done once, tables, figures."""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from inputs import STATISTIC, Photos, fingerprint, is_leaky, levels_of, open_network, spiking

from sj_lowlat.conversion import set_precision
from sj_lowlat.evaluation import evaluate
from sj_lowlat.files import atomic_write, write_json
from sj_lowlat.kernels import KERNELS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).resolve().parent
NEURONS = {"if": "plain IF", "residual-fix": "residual fix", "signed": "signed"}


def neurons_for(spec: str) -> dict[str, str]:
    """The kinds of neurons that can stand for a network's activations, and what they are called."""
    return {"signed": NEURONS["signed"]} if is_leaky(spec) else NEURONS


def arguments(doc: str | None, name: str, data: bool = True, figure: bool = True) -> argparse.ArgumentParser:
    """The parser of a script, with the options that all of them have.

    :param doc: the script's docstring
    :param name: of its results and its figure
    :param data: whether it reads photos and runs networks on them
    :param figure: whether it draws
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--results", type=Path, default=HERE / "results" / f"{name}.json")
    if figure:
        add("--figure", type=Path, default=HERE.parent / "docs" / "images" / f"{name}.png")
    if data:
        add("--data", type=Path, required=True, help="folder with coco-subset, voc-subset, darknet")
        add("--output", type=Path, default=Path("runs") / name, help="a JSON file for each run")
        add("--images", type=int, help="score only so many images, evenly spaced over the set")
        add("--size", type=int, default=416, help="side of the network's input in pixels")
        add("--batch-size", type=int, default=1)
        add("--calibration", type=int, default=32, help=f"photos for {STATISTIC} scales")
        add("--kernel", choices=("auto", *KERNELS), default="auto")
    return parser


@dataclass(frozen=True)
class Schedule:
    """Steps with input, steps of flush, and the most spikes per neuron and step; written 8+4, 8 or 2+4b2."""

    time_steps: int
    flush: int = 0
    burst: int = 1

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Read the written form.

        :raises argparse.ArgumentTypeError: for anything else
        """
        match = re.fullmatch(r"([1-9]\d*)(?:\+(\d+))?(?:b([1-9]\d*))?", text.strip())
        if match is None:
            raise argparse.ArgumentTypeError(
                f"schedule {text!r}: write time steps, + flush, b burst, as in 8+4 or 2+4b2"
            )
        steps, flush, burst = match.groups()
        return cls(int(steps), int(flush or 0), int(burst or 1))

    @classmethod
    def parse_list(cls, text: str) -> list[Schedule]:
        """Read several, with commas between them."""
        return [cls.parse(part) for part in text.split(",")]

    @property
    def total(self) -> int:
        """Latency in steps."""
        return self.time_steps + self.flush

    def options(self, levels: int | None, readout: Iterable[int] | None = None) -> dict[str, Any]:
        """What ``evaluate`` takes.

        :param levels: L of the network, None for one with ReLUs
        :param readout: steps to score at, by default the last one
        """
        steps = [self.total] if readout is None else sorted(readout)
        return {**vars(self), "levels": levels, "readout": steps}

    def __str__(self) -> str:
        return f"{self.time_steps}+{self.flush}" + (f"b{self.burst}" if self.burst > 1 else "")


class Runs:
    """Scored runs. Each is written to a file when it ends, and not done again for the same request.

    :param args: what the script was asked
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.records: dict[str, dict[str, Any]] = {}
        if args.kernel == "compiled":  # beyond 8 numbers of steps torch would stop compiling
            torch._dynamo.config.recompile_limit = 256

    def __call__(
        self,
        name: str,
        spec: str,
        photos: Photos,
        neuron: str | None = None,
        precision: str = "fp32",
        **options: Any,
    ) -> dict[str, Any]:
        """The record of ``evaluate``, from now or from before.

        :param name: in the results
        :param spec: the network, see :func:`inputs.open_network`
        :param photos: what it is scored on
        :param neuron: None for the network as it is, without spikes
        :param precision: of the spiking network
        :param options: of ``evaluate``
        """
        request = {"network": spec, "weights": fingerprint(spec), "neuron": neuron, "photos": photos.label}
        request |= {"images": len(photos), "protocol": photos.protocol, "size": self.args.size, **options}
        if neuron is not None and levels_of(spec) is None:
            request |= {"scale": STATISTIC, "calibration": self.args.calibration}
        request |= {"precision": precision} if precision != "fp32" else {}
        return self.once(name, request, lambda: self._evaluate(spec, photos, neuron, precision, options))

    def once(self, name: str, request: dict[str, Any], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What ``work()`` returns, from its file if the same request was met before."""
        digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:8]
        path = self.args.output / f"{re.sub('[^A-Za-z0-9.+=-]+', '_', name)}-{digest}.json"
        if not path.exists():
            print(f"{name} ...", file=sys.stderr, flush=True)
            write_json(path, {"request": request, **work()})
        self.records[name] = json.loads(path.read_text(encoding="utf-8"))
        return self.records[name]

    def spiking(self, spec: str, neuron: str, grey: bool = False) -> torch.nn.Module:
        """A network converted as the script was asked; ``grey``: for grey pictures."""
        args = self.args
        return spiking(spec, neuron, args.data, args.calibration, args.size, args.kernel, grey)

    def _evaluate(
        self, spec: str, photos: Photos, neuron: str | None, precision: str, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        if neuron is None:
            model = copy.deepcopy(open_network(spec))
        else:
            model = set_precision(self.spiking(spec, neuron), precision)
        return evaluate(
            model.to("cuda" if torch.cuda.is_available() else "cpu"),
            photos.dataset,
            size=self.args.size,
            batch_size=self.args.batch_size,
            protocol=photos.protocol,
            **options,
        ).to_json() | {"kernel": self.args.kernel}

    def save(self) -> None:
        """Write all runs of this table, and the command, to the results."""
        runs = {name: {**record, "rates": None} for name, record in self.records.items()}
        save_results(self.args.results, {"runs": runs})  # rates: thousands of channels; in the run's own file


def save_results(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record with the command and the versions that made it."""
    packages = ("torch", "torchvision", "spikingjelly", "sj_lowlat")
    write_json(
        path,
        {"command": sys.argv, "versions": {name: version(name) for name in packages}, "seed": 0, **record},
    )


def curve(record: Mapping[str, Any], strict: bool = False) -> dict[int | None, float]:
    """Steps (None: a run without) -> mAP50 in percent; ``strict``: mAP over IoU 0.50 to 0.95."""
    key = "map" if strict else "map50"
    return {p["steps"]: 100 * p[key] for p in record["points"] if p[key] is not None}


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table.

    :raises ValueError: if a row has another number of cells than the head
    """
    lines = [tuple(head), ("---",) * len(head), *map(tuple, rows)]
    if len({len(line) for line in lines}) > 1:
        raise ValueError(f"rows of {sorted({len(line) for line in lines})} cells in one table")
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def costs(record: Mapping[str, Any]) -> list[str]:
    """The cells: spikes per neuron and image, energy over that of the ANN."""
    energy = record["energy"]
    return [f"{energy['spikes_per_neuron_and_image']:.2f}", f"{energy['ratio']:.2f}"]


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary)
    print(f"\n{path}")
