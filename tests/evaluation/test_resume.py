"""An evaluation that is interrupted loses nothing; pictures that cannot be read are told."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sj_lowlat.conversion import convert, prepare
from sj_lowlat.data import Sample, Target, TrafficDataset, collate
from sj_lowlat.detect import Detections
from sj_lowlat.errors import InputError
from sj_lowlat.evaluation import Evaluation, evaluate, score
from sj_lowlat.evaluation.predict import predict
from sj_lowlat.models import snn_tiny_yolov3

COUNT = 10


class Scenes:
    """Traffic scenes that can be made to fail.

    :param stop: after so many reads Ctrl-C is pressed
    :param shade: added to the pictures
    :param broken: places of pictures that cannot be read
    """

    def __init__(
        self, stop: int | None = None, broken: tuple[int, ...] = (), seed: int = 3, shade: int = 0
    ) -> None:
        self.scenes = TrafficDataset(COUNT, 64, seed=seed)
        self.class_names = self.scenes.class_names
        self.stop, self.broken, self.shade, self.reads = stop, broken, shade, list[int]()

    def __len__(self) -> int:
        return COUNT

    def target(self, index: int) -> Target:
        return self.scenes[index].target

    def __getitem__(self, index: int) -> Sample:
        if len(self.reads) == self.stop:
            raise KeyboardInterrupt
        self.reads.append(index)
        if index in self.broken:
            raise InputError(f"cannot read the image {index}.png")
        sample = self.scenes[index]
        return replace(sample, image=sample.image + self.shade)


@pytest.fixture(scope="module")
def quant() -> torch.nn.Module:
    torch.manual_seed(0)
    net = snn_tiny_yolov3(4, 0.125, Scenes().class_names, 64)
    with torch.no_grad():
        for module in net.modules():  # objects everywhere
            if isinstance(module, torch.nn.Conv2d) and module.bias is not None:
                module.bias.fill_(0.5)
    return prepare(net.eval(), 4, Scenes().scenes[0].image[None] / 255)


def plain(run: Evaluation) -> dict[str, Any]:
    record = json.loads(json.dumps(run.to_json()))
    del record["settings"]
    return record


OPTIONS: dict[str, dict[str, Any]] = {
    "read-outs": {"flush": 2, "readout": (2, 4, 6)},
    "early": {"flush": 8, "stop": "stable"},
}


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("stop", [2, 7])  # among the monitored images, behind them
def test_a_run_that_goes_on_gives_the_uninterrupted_result(
    kind: str, stop: int, quant: torch.nn.Module, tmp_path: Path
) -> None:
    snn, file = convert(quant), tmp_path / "e.jsonl"
    options = {**OPTIONS[kind], "ann": quant, "batch_size": 2, "monitored": 4}
    whole = evaluate(snn, Scenes(), **options)
    assert whole.ann is not None and any(ap > 0 for _, ap in whole.curve())  # else equality says nothing
    with pytest.raises(KeyboardInterrupt):
        evaluate(snn, Scenes(stop=stop), progress=file, **options)
    rest = Scenes()
    resumed = evaluate(snn, rest, progress=file, **options)
    assert plain(resumed) == plain(whole)
    assert rest.reads == [0, *range(stop // 2 * 2, COUNT)]  # the first one, to compare pictures
    again = Scenes()
    assert plain(evaluate(snn, again, progress=file, **options)) == plain(whole)
    assert again.reads == [0]  # nothing is left to do


def test_only_the_same_call_goes_on(quant: torch.nn.Module, tmp_path: Path) -> None:
    snn, file = convert(quant), tmp_path / "e.jsonl"
    with pytest.raises(KeyboardInterrupt):
        evaluate(snn, Scenes(stop=4), progress=file, monitored=0)
    before = file.read_bytes()
    moved = convert(quant)
    with torch.no_grad():
        next(moved.parameters()).mul_(1.001)
    calls: list[tuple[str, torch.nn.Module, Scenes, dict[str, Any]]] = [
        ("network", moved, Scenes(), {}),
        ("data", snn, Scenes(seed=4), {}),
        ("ann", snn, Scenes(), {"ann": quant}),
        ("schedule", snn, Scenes(), {"flush": 1}),
        ("batch_size", snn, Scenes(), {"batch_size": 2}),
        ("score_threshold", snn, Scenes(), {"score_threshold": 0.01}),
    ]
    for name, network, data, change in calls:
        with pytest.raises(InputError, match=f"whose {name} was"):
            evaluate(network, data, progress=file, **{"monitored": 0, **change})
    with pytest.raises(InputError, match="is of other pictures"):
        evaluate(snn, Scenes(shade=1), progress=file, monitored=0)
    assert file.read_bytes() == before


def test_one_call_at_a_time(quant: torch.nn.Module, tmp_path: Path) -> None:
    class Nosy(Scenes):
        def __getitem__(self, index: int) -> Sample:
            if index == 1:
                with pytest.raises(InputError, match="another run"):
                    run_elsewhere()
            return super().__getitem__(index)

    def run_elsewhere() -> None:
        with ThreadPoolExecutor(1) as other:
            other.submit(evaluate, quant, Scenes(), progress=tmp_path / "e.jsonl").result()

    assert len(evaluate(quant, Nosy(), progress=tmp_path / "e.jsonl").final.per_class) > 0


@pytest.mark.parametrize("batch_size", [1, 3])
def test_pictures_that_cannot_be_read_count_as_nothing_found(
    batch_size: int, quant: torch.nn.Module, tmp_path: Path
) -> None:
    snn, file = convert(quant), tmp_path / "e.jsonl"
    options = {"batch_size": batch_size, "monitored": 2, "progress": file}
    run = evaluate(snn, Scenes(broken=(0, 5)), **options)
    assert [f["image"] for f in run.failed] == [0, 5] and "5.png" in run.failed[1]["error"]
    assert "2 pictures cannot be read" in str(run) and run.final.images == COUNT
    scenes, found = Scenes().scenes, []
    batch = [place for place in range(COUNT) if place not in (0, 5)]
    for place in range(COUNT):
        if place in batch:
            images, boxes, _ = collate([scenes[place]], 64)
            (read,) = predict(snn, images, boxes)
            found += read.detections
        else:
            found.append(Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64)))
    assert run.final.map50 == pytest.approx(score(scenes, found).map50, abs=1e-6)
    # mended pictures are looked at by the same call, and the result is that of the whole data set
    mended = Scenes()
    healed = evaluate(snn, mended, **options)
    assert plain(healed) == plain(evaluate(snn, Scenes(), batch_size=batch_size, monitored=2))
    assert {0, 5} <= set(mended.reads) and COUNT - 1 not in mended.reads


def test_what_cannot_be_scored_is_told_before_the_run(quant: torch.nn.Module) -> None:
    class Empty(Scenes):
        def target(self, index: int) -> Target:
            none = torch.zeros(0, dtype=torch.bool)
            return Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), none, none, index)

    data = Empty()
    with pytest.raises(InputError, match="no box of any scored class"):
        evaluate(quant, data)
    assert data.reads == []
    with pytest.raises(InputError, match=r"none of 10 pictures can be read; the first: .*0\.png"):
        evaluate(convert(quant), Scenes(broken=tuple(range(COUNT))))
