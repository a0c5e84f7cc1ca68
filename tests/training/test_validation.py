"""Scores while a network trains: they change nothing, and a resumed run has the same."""

from __future__ import annotations

import copy
import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sj_lowlat import checkpoint
from sj_lowlat.conversion import convert, prepare
from sj_lowlat.data import Sample, Target, TrafficDataset, ground_truth
from sj_lowlat.errors import InputError
from sj_lowlat.evaluation import Validator, evaluate
from sj_lowlat.models import snn_tiny_yolov3
from sj_lowlat.training import FinetuneConfig, Validation, finetune
from sj_lowlat.training.journal import curves

CONFIG = FinetuneConfig(
    iterations=7, batch_size=3, size=(32, 64), precision="fp32", checkpoint_every=2, log_every=2, ema=0.9
)


class PowerCut(Exception):
    pass


def cut(image: Tensor) -> Tensor:
    raise PowerCut


class Score:
    """A figure that depends on all weights, and uses random numbers up."""

    def __init__(self) -> None:
        self.given: list[nn.Module] = []

    def __call__(self, network: nn.Module) -> float:
        torch.rand(5)
        assert not network.training
        self.given.append(copy.deepcopy(network))
        return sum(float(value.double().abs().sum()) for value in network.state_dict().values()) % 1


def train(make_detector: Any, data: Any, folder: Path | None, every: int | None, **options: Any) -> Any:
    score = Score()
    validation = None if every is None else Validation(score, every, **options)
    net = finetune(make_detector(), data, make_detector(seed=1), CONFIG, folder, validation=validation)
    return net, score


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


def log(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [{**json.loads(line), "seconds": 0} for line in lines]


def test_scores_are_of_the_moving_average_and_change_nothing(
    make_detector: Any, make_data: Any, tmp_path: Path
) -> None:
    plain, _ = train(make_detector, make_data(), tmp_path / "plain", None)
    net, score = train(make_detector, make_data(), tmp_path / "scored", 4)
    assert same(plain, net)
    lines = log(tmp_path / "scored")
    assert [{**line, "map50": None} for line in lines] == [
        {**line, "map50": None} for line in log(tmp_path / "plain")
    ]
    found = {line["iteration"]: line["map50"] for line in lines if "map50" in line}
    assert list(found) == [4, 7] and same(score.given[1], net) and not same(score.given[0], net)
    assert list(found.values()) == [Score()(network) for network in score.given]
    assert "validation" not in json.loads((tmp_path / "plain/finetune.json").read_text())
    end = json.loads((tmp_path / "scored/finetune.json").read_text())["validation"]
    best = max(found, key=lambda iteration: found[iteration])
    assert end == {"iteration": 7, "map50": found[7], "best": {"iteration": best, "map50": found[best]}}
    again, _ = train(make_detector, make_data(), None, 3)  # without a folder
    assert same(again, net)


def test_a_line_of_the_log_where_there_would_be_none(
    make_detector: Any, make_data: Any, tmp_path: Path
) -> None:
    train(make_detector, make_data(), tmp_path, 3)
    assert [(line["iteration"], "map50" in line) for line in log(tmp_path)] == [
        (2, False), (3, True), (4, False), (6, True), (7, True)]  # fmt: skip
    losses, scores = curves(tmp_path)
    assert [iteration for iteration, _ in losses] == [2, 3, 4, 6, 7]
    assert scores == [(line["iteration"], line["map50"]) for line in log(tmp_path) if "map50" in line]


@pytest.mark.parametrize(
    "reads", [3 * 3 + 1, 3 * 4 + 2, 3 * 6 + 1]
)  # in the fourth step, the fifth, the last
def test_a_resumed_run_has_the_same_log_and_the_same_best(
    reads: int, make_detector: Any, make_data: Any, tmp_path: Path
) -> None:
    kept: dict[str, list[nn.Module]] = {"whole": [], "cut": []}

    def go(name: str, data: Any) -> nn.Module:
        return train(
            make_detector, data, tmp_path / name, 3, keep=lambda net: kept[name].append(copy.deepcopy(net))
        )[0]

    whole = go("whole", make_data())
    with pytest.raises(PowerCut):
        go("cut", make_data(broken=(reads, cut)))
    torch.manual_seed(99)
    assert same(go("cut", make_data()), whole)
    assert log(tmp_path / "whole") == log(tmp_path / "cut")
    first, second = (json.loads((tmp_path / name / "finetune.json").read_text())["validation"]
                     for name in kept)  # fmt: skip
    assert first == second and same(kept["whole"][-1], kept["cut"][-1])
    scores = [Score()(network) for network in kept["whole"]]
    assert scores == sorted(scores) and scores[-1] == first["best"]["map50"]


def test_a_signal_waits_for_the_score(make_detector: Any, make_data: Any, tmp_path: Path) -> None:
    """The step that is kept is scored, so that a resumed run has the score."""
    whole, _ = train(make_detector, make_data(), tmp_path / "whole", 3)

    def struck(image: Tensor) -> Tensor:
        signal.raise_signal(signal.SIGINT)
        return image

    with pytest.raises(KeyboardInterrupt):
        train(make_detector, make_data(broken=(3 * 2 + 1, struck)), tmp_path / "cut", 3)
    assert [line["iteration"] for line in log(tmp_path / "cut") if "map50" in line] == [3]
    assert same(train(make_detector, make_data(), tmp_path / "cut", 3)[0], whole)
    assert log(tmp_path / "whole") == log(tmp_path / "cut")


@pytest.mark.parametrize("every", [0, -1, 1.5, True])
def test_steps_that_cannot_be(every: Any) -> None:
    with pytest.raises(InputError, match="validation every .* steps; give a whole number of at least 1"):
        Validation(Score(), every)


class Broken(TrafficDataset):
    """One picture cannot be read."""

    def target(self, index: int) -> Target:
        return super().__getitem__(index).target

    def __getitem__(self, index: int) -> Sample:
        if index == 2:
            raise InputError("cannot read the image")
        return super().__getitem__(index)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """A network that has learnt its pictures."""
    data = TrafficDataset(9, 64, seed=3)
    torch.manual_seed(0)
    net = snn_tiny_yolov3(4, 0.125, data.class_names, 64)
    plan = FinetuneConfig(iterations=120, batch_size=8, size=64, lr=5e-3, ema=0.9, precision="fp32")
    return finetune(net, data, config=plan)


class TestValidator:
    @pytest.mark.parametrize("kind", [TrafficDataset, Broken])
    def test_scores_as_an_evaluation(self, net: nn.Module, kind: Any) -> None:
        data = kind(9, 64, seed=3)
        expected = evaluate(net, data, batch_size=3).final.map50
        assert Validator(net, data)(net) == pytest.approx(expected, abs=1e-6) and expected > 0.05

    @pytest.mark.parametrize("schedule", ["2", "3+1c4"])
    def test_scores_the_spiking_network(self, net: nn.Module, schedule: str) -> None:
        data = TrafficDataset(9, 64, seed=3)
        quant = prepare(net, 4, torch.stack([data[index].image for index in range(4)]) / 255)
        expected = evaluate(convert(quant), data, schedule, batch_size=3).final.map50
        found = Validator(net, data, schedule=schedule)(quant)
        assert found == pytest.approx(expected, abs=1e-6) and found != Validator(net, data)(quant)

    def test_pictures_come_from_all_over(self, net: nn.Module) -> None:
        data = TrafficDataset(9, 64, seed=3)
        few = Validator(net, data, 3)
        assert len(few) == 3
        assert [t.image_id for t in ground_truth(few.data)] == [data[i].image_id for i in (0, 4, 8)]
        assert len(Validator(net, data, 0)) == len(Validator(net, data, 50)) == 9
        assert few.size == 64 and Validator(net, data, 3, 96).size == 96

    def test_classes_are_found_by_name(self, net: nn.Module) -> None:
        data = TrafficDataset(9, 64, seed=3)
        names = ("tree", *reversed(data.class_names))

        class Other:
            class_names = names

            def __len__(self) -> int:
                return len(data)

            def __getitem__(self, index: int) -> Sample:
                sample = copy.copy(data[index])
                sample.labels = 4 - sample.labels
                return sample

        assert Validator(net, Other())(net) == Validator(net, data)(net)

    def test_what_cannot_be_scored(self, net: nn.Module, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="-1 pictures to validate on came"):
            Validator(net, TrafficDataset(3, 64), -1)

        class Empty(TrafficDataset):
            class_names = ("tree", "house")

        with pytest.raises(InputError, match="give lists that share at least one name"):
            Validator(net, Empty(3, 64))

    def test_the_best_network_is_opened_again(self, net: nn.Module, tmp_path: Path) -> None:
        data = TrafficDataset(9, 64, seed=3)
        torch.manual_seed(0)
        fresh = snn_tiny_yolov3(4, 0.125, data.class_names, 64)
        plan = FinetuneConfig(iterations=6, batch_size=8, size=64, lr=5e-3, ema=0.9, precision="fp32")
        score = Validator(fresh, data)
        keep = Validation(score, 2, lambda best: checkpoint.save(best, tmp_path / "best"))
        finetune(fresh, data, config=plan, output=tmp_path, validation=keep)
        end = json.loads((tmp_path / "finetune.json").read_text())["validation"]
        opened = checkpoint.load(tmp_path / "best")
        assert score(opened) == end["best"]["map50"] and score(fresh) == end["map50"]
