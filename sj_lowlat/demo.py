"""The whole way on made-up traffic scenes, in a few minutes on a laptop: train, quantise, convert, score."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.transforms.v2.functional import resize

from sj_lowlat import checkpoint
from sj_lowlat.conversion import convert, prepare
from sj_lowlat.data import TrafficDataset, batches
from sj_lowlat.detect import draw
from sj_lowlat.errors import InputError
from sj_lowlat.evaluation import Evaluation, evaluate
from sj_lowlat.evaluation.predict import predict
from sj_lowlat.files import atomic_write, write_json
from sj_lowlat.models import snn_tiny_yolov3
from sj_lowlat.plots import plot_images, plot_map_curve, plot_rates
from sj_lowlat.progress import one_run
from sj_lowlat.record import provenance
from sj_lowlat.schedule import Schedule
from sj_lowlat.training import FinetuneConfig, finetune

#: rows of the table: label, kind of neuron, flush steps
ROWS = (
    ("plain IF", "if", 0),
    ("residual fix", "residual-fix", 0),
    ("signed", "signed", 0),
    ("signed + flush", "signed", 8),
)

_ENLARGED = 3


@dataclass(frozen=True)
class DemoConfig:
    """Size of the demo; the defaults take a few minutes on two cores.

    :param train_images: scenes to train on
    :param test_images: scenes to score on
    :param size: side of a scene in pixels, a multiple of 32
    :param width: width of the network, 1 for SNN-Tiny-YOLOv3
    :param iterations: training steps of the ANN
    :param quant_iterations: further steps with quantised activations
    :param levels: quantisation levels L, and time steps T of the spiking network
    :param seed: of scenes, weights and training
    """

    train_images: int = 600
    test_images: int = 100
    size: int = 160
    width: float = 0.25
    iterations: int = 700
    quant_iterations: int = 250
    levels: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("train_images", "test_images", "iterations", "quant_iterations", "levels"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}, it must be at least 1")
        if self.size < 32 or self.size % 32:
            raise InputError(f"size is {self.size}, it must be a multiple of 32 of at least 32")


@dataclass(frozen=True)
class DemoResult:
    """What the demo measured.

    :param quant: of the ANN with quantised activations
    :param spiking: row label -> the spiking network's evaluation
    :param seconds: stage -> wall time
    :param folder: where networks, pictures and ``demo.json`` lie
    """

    ann: Evaluation
    quant: Evaluation
    spiking: dict[str, Evaluation]
    seconds: dict[str, float]
    folder: Path

    def table(self) -> str:
        """mAP50 of every network at every latency, with firing rate and energy."""
        steps = sorted({step for run in self.spiking.values() for step, _ in run.curve()})
        lines = [
            f"mAP50 in % on {self.ann.final.images} generated traffic scenes ({self.ann.final.protocol})",
            f"{'ANN':<18}{100 * self.ann.final.map50:>6.1f}",
            f"{'Quant ANN':<18}{100 * self.quant.final.map50:>6.1f}",
            "",
            "SNN, steps in all " + "".join(f"{step:>6}" for step in steps) + "   spikes/neuron  energy/ANN",
        ]
        for label, run in self.spiking.items():
            curve = dict(run.curve())
            cells = "".join(f"{100 * curve[step]:>6.1f}" if step in curve else f"{'':>6}" for step in steps)
            assert run.energy is not None
            spikes, ratio = run.energy.spikes_per_neuron_and_image, run.energy.ratio
            lines.append(f"{label:<18}{cells}{spikes:>16.2f}{ratio:>12.2f}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """A dict that ``json`` can write."""
        return {
            "ann": self.ann.to_json(),
            "quant": self.quant.to_json(),
            "spiking": {label: run.to_json() for label, run in self.spiking.items()},
            "seconds": self.seconds,
            **provenance(),
        }


def demo(
    output: str | Path = "runs/demo", config: DemoConfig | None = None, say: Callable[[str], None] = print
) -> DemoResult:
    """Make traffic scenes, train a narrow ANN, quantise it, convert it and score it at several latencies.

    :param output: folder for networks, pictures and ``demo.json``; a finished training there is used again
    :param say: takes lines of progress
    """
    config, folder = config or DemoConfig(), Path(output)
    seconds: dict[str, float] = {}
    train = TrafficDataset(config.train_images, config.size, seed=config.seed)
    test = TrafficDataset(config.test_images, config.size, seed=config.seed + 1)

    def timed(stage: str, work: Callable[[], Any]) -> Any:
        say(f"{stage} ...")
        start = time.perf_counter()
        result = work()
        seconds[stage] = round(time.perf_counter() - start, 1)
        return result

    def trained(stage: str, name: str, net: nn.Module, teacher: nn.Module | None, **settings: Any) -> None:
        plan = FinetuneConfig(size=config.size, seed=config.seed, checkpoint_every=100, **settings)
        work = partial(finetune, net, train, teacher=teacher, config=plan, output=folder / name)
        timed(f"{stage} ({plan.iterations} steps)", work)
        checkpoint.save(net, folder / name)

    with one_run(folder):
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            ann = snn_tiny_yolov3(len(train.class_names), config.width, train.class_names, config.size)
        trained("training the ANN", "ann", ann, None, iterations=config.iterations, lr=3e-3, ema=0.99)
        quant = prepare(ann, config.levels, next(iter(batches(train, 32, config.size))).images)
        stage = f"fine-tuning with {config.levels} levels"
        trained(stage, "quant", quant, ann, iterations=config.quant_iterations, lr=1e-3, ema=0.98)
        spiking = {}
        for label, neuron, flush in ROWS:
            snn, total = convert(quant, neuron=neuron), config.levels + flush
            steps = (2, 4, 6, total) if not flush else (config.levels + 2, config.levels + 4, total)
            readout = [step for step in steps if step <= total]
            spiking[label] = timed(
                f"scoring {label}",
                partial(evaluate, snn, test, config.levels, flush=flush, readout=readout, batch_size=10),
            )
        checkpoint.save(snn, folder / "snn")
        result = DemoResult(evaluate(ann, test), evaluate(quant, test), spiking, seconds, folder)
        write_json(folder / "demo.json", result.to_json())
        _pictures(result, snn, test, config)
        say(f"\n{result.table()}\n\n{_rates(result)}\n\nnetworks, pictures and demo.json are in {folder}")
    return result


def _rates(result: DemoResult) -> str:
    rates = result.spiking["signed + flush"].rates
    assert rates is not None
    lines = ["firing rate per layer (signed + flush), spikes per neuron and step"]
    return "\n".join([*lines, *(f"  {row['name']:<16}{row['rate']:.4f}" for row in rates["layers"])])


def _pictures(result: DemoResult, snn: nn.Module, test: TrafficDataset, config: DemoConfig) -> None:
    """mAP against time steps, firing rates, and drawn detections."""
    curves, rates = {}, {}
    for label, run in result.spiking.items():
        curves[label] = [(step, 100 * ap) for step, ap in run.curve()]
        assert run.rates is not None
        rates[label] = {row["name"]: row["spikes_per_neuron_and_image"] for row in run.rates["layers"]}
    ann, quant = (100 * scored.final.map50 for scored in (result.ann, result.quant))
    images, boxes, samples = next(iter(batches(test, 6, config.size)))
    schedule = Schedule(config.levels, ROWS[-1][2])
    (read,) = predict(snn, images, boxes, (0.3, 0.45, 100), schedule=schedule)
    drawn = []
    for record, sample in zip(read.detections, samples, strict=True):
        # drawn on an enlarged scene, where the labels find room
        large = resize(sample.image, [_ENLARGED * config.size] * 2, antialias=True)
        drawn.append(draw(large, record.scaled(_ENLARGED), test.class_names, min_score=0.3))
    figures = {
        "map_against_steps.png": plot_map_curve(curves, ann, quant, "Generated traffic scenes"),
        "firing_rates.png": plot_rates(rates, "Spikes per layer", "spikes per neuron and image"),
        "detections.png": plot_images(drawn),
    }
    for name, figure in figures.items():
        with atomic_write(result.folder / name) as temporary:
            figure.savefig(temporary, dpi=120)
