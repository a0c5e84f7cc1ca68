"""The runner of the benchmark scripts: their options, runs that are done once, tables, results."""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paired
from inputs import Photos, calibration_images, fingerprint, levels_of, open_grey, open_network
from torch import Tensor, nn

from sj_lowlat import zoo
from sj_lowlat.allocator import keep_freed_memory
from sj_lowlat.conversion import convert, prepare, set_precision
from sj_lowlat.errors import InputError
from sj_lowlat.evaluation import evaluate
from sj_lowlat.evaluation.protocols import class_map_of
from sj_lowlat.files import atomic_write, write_json
from sj_lowlat.kernels import choose
from sj_lowlat.network import info_of
from sj_lowlat.record import provenance
from sj_lowlat.schedule import Schedule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).resolve().parent
keep_freed_memory()  # as the command line does
STATISTIC = "99.9%"  # scale of a network that has no trained clips, as in the paper


def schedule(text: str) -> Schedule:
    """Type of an argument."""
    try:
        return Schedule.parse(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def arguments(doc: str | None, name: str, data: bool = True, figure: bool = True) -> argparse.ArgumentParser:
    """The parser of a script, with the options that all of them have.

    :param doc: the script's docstring
    :param name: of its results and its figure; if empty, :func:`place` tells later
    :param data: whether it reads photos and runs networks on them
    :param figure: whether it draws
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--results", type=Path, help="JSON file")
    if figure:
        add("--figure", type=Path, help="PNG file")
    if data:
        add("--data", type=Path, required=True, help="folder with coco-subset, voc-subset, darknet")
        add("--output", type=Path, help="folder that gets a JSON file for each run")
        add("--images", type=int, help="score only so many images, evenly spaced over the set")
        add("--size", type=int, default=416, help="side of the network's input in pixels")
        add("--batch-size", type=int, default=1)
        add("--calibration", type=int, default=32, help="photos that show the range of activations")
    if name:
        parser.set_defaults(**_places(name))
    return parser


def place(args: argparse.Namespace, name: str) -> None:
    """Let results, figure and runs go to the places of this name, where no others were given."""
    for key, path in _places(name).items():
        if getattr(args, key, path) is None:
            setattr(args, key, path)


def _places(name: str) -> dict[str, Path]:
    figure = HERE.parent / "docs" / "images" / f"{name}.png"
    return {"results": HERE / "results" / f"{name}.json", "figure": figure, "output": Path("runs") / name}


class NotDone(Exception):
    """A run that was not met before, where none is to be done."""


class Runs:
    """Scored runs. Each is written to a file when it ends, and not done again for the same request.

    :param args: what the script was asked
    :param keep: whether what was found is kept beside each file, to compare runs later: see ``paired.py``
    :param only_done: whether to raise :class:`NotDone` instead of doing a run
    """

    def __init__(self, args: argparse.Namespace, keep: bool = False, only_done: bool = False) -> None:
        self.args, self.keep, self.only_done = args, keep, only_done
        self.records: dict[str, dict[str, Any]] = {}
        self.kept: dict[str, Path] = {}
        self._last: tuple[str, nn.Module] | None = None  # the network that was prepared last

    def __call__(
        self,
        name: str,
        spec: str,
        photos: Photos,
        neuron: str | None = None,
        precision: str = "fp32",
        prepared: Mapping[str, Any] | None = None,
        size: int | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """The record of ``evaluate``, from now or from before.

        :param name: in the results
        :param spec: the network, see :func:`sj_lowlat.zoo.open_network`
        :param photos: what it is scored on
        :param neuron: None for the network as it is, without spikes
        :param precision: of the spiking network
        :param prepared: options of ``prepare``, to be called first; ``finer``: [count, factor] of the first
            activations
        :param size: of the images, by default the command's
        :param options: of ``evaluate``
        """
        size = size or self.args.size
        request = {"network": spec, "weights": fingerprint(spec), "neuron": neuron, "photos": photos.label}
        request |= {"images": len(photos), "protocol": photos.protocol, "size": size, **options}
        if prepared:
            request |= {"prepare": prepared, "calibration": self.args.calibration}
        elif neuron is not None and levels_of(spec) is None:
            request |= {"scale": STATISTIC, "calibration": self.args.calibration}
        request |= {"precision": precision} if precision != "fp32" else {}

        def work() -> dict[str, Any]:
            model = self._prepared(spec, size, json.dumps(prepared)) if prepared else open_network(spec)
            model = copy.deepcopy(model)
            if neuron is not None:
                model = set_precision(self._spiking(model, neuron), precision)
            device, args = zoo.find_device("auto"), self.args
            fixed = {"size": size, "batch_size": args.batch_size, "protocol": photos.protocol}
            fixed |= {"keep_detections": self.keep}
            found = evaluate(model.to(device), photos.dataset, **fixed, **options)
            if found.detections is not None:
                known = class_map_of(model, photos.dataset)
                paired.save(kept, photos.dataset, photos.protocol, known, found.detections)
            return found.to_json() | {"kernel": choose(device)}

        kept = self.path(name, request).with_suffix(".npz")
        if self.keep:
            self.kept[name] = kept
        return self.once(name, request, work, again=self.keep and not kept.exists())

    def less(self, name: str, other: str) -> str:
        """What a kept run scores more than another one at the last read-outs: mAP50 with its interval."""
        points, _ = paired.differences(self.kept[name], self.kept[other], last=True)
        ((_, more),) = points.values()
        return f"{100 * more.estimate:+.1f} ({more.range})"

    def path(self, name: str, request: dict[str, Any]) -> Path:
        """Where the record of a run is kept."""
        digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:8]
        return self.args.output / f"{re.sub('[^A-Za-z0-9.+=-]+', '_', name)}-{digest}.json"

    def once(
        self, name: str, request: dict[str, Any], work: Callable[[], dict[str, Any]], again: bool = False
    ) -> dict[str, Any]:
        """What ``work()`` returns, from its file if the same request was met before.

        :param again: whether to work all the same
        """
        path = self.path(name, request)
        if again or not path.exists():
            if self.only_done:
                raise NotDone(name)
            print(f"{name} ...", file=sys.stderr, flush=True)
            write_json(path, {"request": request, **work()})
        self.records[name] = json.loads(path.read_text(encoding="utf-8"))
        return self.records[name]

    def spiking(self, spec: str, neuron: str, grey: bool = False) -> nn.Module:
        """Convert a network: trained clips where it has them, else a percentile on calibration photos.

        :param grey: for grey pictures
        """
        return self._spiking(open_grey(spec) if grey else open_network(spec), neuron, grey)

    def _spiking(self, network: nn.Module, neuron: str, grey: bool = False) -> nn.Module:
        if info_of(network).levels is not None:
            return convert(network, neuron=neuron)
        images = self._calibration()
        images = images.mean(1, keepdim=True) if grey else images
        return convert(network, neuron=neuron, scale=STATISTIC, calibration=images)

    @lru_cache(maxsize=1)  # scored as it is, then with spikes  # noqa: B019
    def _prepared(self, spec: str, size: int, prepared: str) -> nn.Module:
        options = json.loads(prepared)
        levels, finer = options.pop("levels"), options.pop("finer", (0, 1))
        network = open_network(spec)
        kinds = nn.ReLU | nn.LeakyReLU
        activations = [name for name, module in network.named_modules() if isinstance(module, kinds)]
        factors = dict.fromkeys(activations[: finer[0]], finer[1])
        return prepare(network, levels, self._calibration(size), finer=factors, **options)

    def _calibration(self, size: int | None = None) -> Tensor:
        return calibration_images(self.args.data, self.args.calibration, size or self.args.size)

    def save(self) -> None:
        """Write all runs, and the command, to the results."""
        runs = {name: {**record, "rates": None} for name, record in self.records.items()}
        save_results(self.args.results, {"runs": runs})  # rates: thousands of channels; in the run's own file


def save_results(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record with the command and the versions that made it."""
    write_json(path, {**provenance(seed=0), **record})


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary)
    print(f"\n{path}")


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table.

    :raises ValueError: if a row has another number of cells than the head
    """
    lines = [tuple(head), ("---",) * len(head), *map(tuple, rows)]
    if len({len(line) for line in lines}) > 1:
        raise ValueError(f"rows of {sorted({len(line) for line in lines})} cells in one table")
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
