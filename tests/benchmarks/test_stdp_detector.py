"""The directly trained detector: its learning without labels step by step, and a short run of both stages."""

from __future__ import annotations

import copy
import importlib
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sj_lowlat import checkpoint
from sj_lowlat.data import TrafficDataset
from sj_lowlat.errors import InputError
from sj_lowlat.evaluation import evaluate
from sj_lowlat.simulation import simulate

FOLDER = Path(__file__).parents[2] / "benchmarks"
PLAN = FOLDER / "configs" / "stdp_detector.json"
SIZE = 96


@pytest.fixture(scope="module")
def modules() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        names = ("stdp", "stdp_features", "direct_snn", "stdp_detector")
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})


def short_plan() -> dict[str, Any]:
    """A hundredth of the recipe, small enough for drawn scenes, which have labels."""
    plan = json.loads(PLAN.read_text())
    plan |= {"width": 0.125, "size": SIZE}
    plan["features"] |= {"batches": 6, "statistics": 4}
    for stage in plan["stages"]:
        stage["iterations"] = max(2, stage["iterations"] // 400)
        stage["time_steps"] = min(stage["time_steps"], 6)
    plan["finetune"] |= {"size": SIZE, "batch_size": 4, "detection_weight": 1, "checkpoint_every": 1}
    return plan


def by_hand(
    on: np.ndarray, weight: np.ndarray, threshold: np.ndarray, first: float, rule: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Weights and thresholds after one batch, one synapse at a time.

    :param on: spikes ``[T, N, C, H, W]``
    :param weight: ``[F, 2C, k, k]``
    """
    steps, batch, _, height, width = on.shape
    filters, channels, k, _ = weight.shape
    cells = np.concatenate((on, 1 - on), 2)
    change, wins = np.zeros_like(weight), np.zeros(filters)
    for n in range(batch):
        for top in range(height - k + 1):
            for left in range(width - k + 1):
                v, after = np.zeros(filters), np.zeros(filters)
                before = np.zeros((channels, k, k))
                for t in range(steps):
                    window = cells[t, n, :, top : top + k, left : left + k]
                    v = v + np.array([(weight[f] * window).sum() for f in range(filters)])
                    fired = np.zeros(filters)
                    best = int(np.argmax(v - threshold))
                    if v[best] >= threshold[best]:
                        fired[best], v = 1.0, np.zeros(filters)
                    before = before * (1 - 1 / rule.tau_pre) + window
                    after = after * (1 - 1 / rule.tau_post) + fired
                    for f in range(filters):
                        change[f] += rule.potentiation * (1 - weight[f]) * before * fired[f]
                        change[f] -= rule.depression * weight[f] * after[f] * window
                    wins += fired
    for f in range(filters):
        weight[f] += rule.rate * change[f] / max(wins[f], 1)
        weight[f] = np.clip(weight[f] + 0.5 - weight[f].mean(), 0, 1)
    return weight, threshold + rule.balance * first * (wins / wins.sum() - 1 / filters)


@pytest.mark.parametrize(("channels", "filters", "k"), [(1, 2, 2), (2, 3, 3)])
def test_learning_equals_the_rule_synapse_by_synapse(
    modules: Any, channels: int, filters: int, k: int
) -> None:
    rule = modules.stdp.Rule(tau_pre=3.0, tau_post=1.5, depression=0.4, rate=0.7, reach=1.5, balance=0.3)
    learning = modules.stdp.Filters(channels, filters, k, 1, rule, seed=1)
    learning.synapses.double(), learning.neurons.double()
    weight = learning.synapses.weight.detach().numpy().copy()
    threshold = learning.neurons.threshold.numpy().copy()
    for _ in range(3):
        on = torch.randint(2, (5, 2, channels, 4, 5)).double()
        weight, threshold = by_hand(on.numpy(), weight, threshold, learning.first, rule)
        wins = learning.learn(iter(on))
        assert wins.sum() > 0
        np.testing.assert_allclose(learning.synapses.weight.detach().numpy(), weight, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(learning.neurons.threshold.numpy(), threshold, rtol=1e-12)
    signed = weight[:, :channels] - weight[:, channels:]
    signed -= signed.mean((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(learning.weight.numpy(), signed, atol=1e-12)


@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**20),
    rate=st.floats(0, 1e3),
    depression=st.floats(0, 10),
    density=st.floats(0, 1),
    stride=st.integers(1, 2),
)
def test_weights_stay_in_their_bounds(
    modules: Any, seed: int, rate: float, depression: float, density: float, stride: int
) -> None:
    rule = modules.stdp.Rule(rate=rate, depression=depression)
    learning = modules.stdp.Filters(2, 4, 3, stride, rule, seed)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(3):
        learning.learn(iter((torch.rand(4, 2, 2, 6, 6, generator=draw) < density).float()))
        weight = learning.synapses.weight
        assert weight.min() >= 0 and weight.max() <= 1
        assert learning.weight.abs().max() <= 2
        assert learning.neurons.threshold.isfinite().all()


def test_one_filter_fires_at_a_place_and_resets_all(modules: Any) -> None:
    neurons = modules.stdp.Competition(3, 2.0)
    currents = torch.tensor([0.5, 1.0, 0.75]).view(1, 3, 1, 1)
    fired = [neurons(currents).flatten().tolist() for _ in range(6)]
    assert fired == [[0, 0, 0], [0, 1, 0]] * 3  # the strongest, at every second step; the others never
    neurons.threshold[1] = 10.0  # it has won too often
    neurons.reset()
    assert [neurons(currents).flatten().tolist() for _ in range(3)] == [[0, 0, 0], [0, 0, 0], [0, 0, 1]]


def test_off_cells_make_filters_signed(modules: Any) -> None:
    """Excitatory synapses see what the signed filter sees, but for the sum of the spikes and an offset."""
    spikes = (torch.rand(2, 3, 5, 5) < 0.5).double()
    learning = modules.stdp.Filters(3, 4, 3, 1, modules.stdp.Rule(), 0)
    learning.synapses.double()
    seen = learning.synapses(modules.stdp.both(spikes))
    signed = torch.nn.functional.conv2d(spikes, learning.weight)
    on, off = learning.synapses.weight.chunk(2, 1)
    mean, offset = ((values.sum((1, 2, 3))).view(-1, 1, 1) for values in ((on - off) / 27, off))
    total = torch.nn.functional.conv2d(spikes, torch.ones(1, 3, 3, 3, dtype=torch.float64))
    torch.testing.assert_close(seen, signed + mean * total + offset)
    torch.testing.assert_close(learning.weight.sum((1, 2, 3)), torch.zeros(4, dtype=torch.float64))


def test_filters_find_the_patterns_of_their_input(modules: Any) -> None:
    """Windows of two kinds, with noise: each of two filters becomes the mean of one kind."""
    kinds = torch.zeros(2, 1, 3, 3)
    kinds[0, :, 0], kinds[1, :, :, 0] = 1.0, 1.0
    learning = modules.stdp.Filters(1, 2, 3, 1, modules.stdp.Rule(), 0)
    draw = torch.Generator().manual_seed(0)

    def alike() -> torch.Tensor:
        return modules.stdp_features.unit(learning.weight) @ modules.stdp_features.unit(kinds).T

    assert alike().abs().max() < 0.8
    for _ in range(150):
        shown = kinds[torch.randint(2, (16,), generator=draw)] * 0.8 + 0.1
        learning.learn(iter((torch.rand(8, *shown.shape, generator=draw) < shown).float()))
    assert sorted(alike().argmax(1).tolist()) == [0, 1] and alike().amax(1).min() > 0.95


class OnlyImages:
    """Pictures that have nothing else."""

    def __init__(self, data: TrafficDataset) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        return SimpleNamespace(image=self.data[index].image)


def test_stage_1_reads_no_labels_and_leaves_other_layers_alone(modules: Any) -> None:
    plan = short_plan()["features"] | {"batches": 60}
    model = modules.direct_snn.DirectSNN({"num_classes": 2, "width": 0.125, "input_size": SIZE}, 2, 4)
    before = copy.deepcopy(model.state_dict())
    records = modules.stdp_features.learn_features(model, OnlyImages(TrafficDataset(8, SIZE)), plan, SIZE)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.split(".")[2] for name in changed} == {"0", "1"}
    assert model.time_steps == 4
    for record in records:  # filters have moved, differ from each other, and all of them fire
        assert record["with_start"] < 0.9 and record["highest_correlation"] < 0.98
        assert record["deviation"] > 2 * record["deviation_before"]
        assert min(record["shares"]) > 0.02 and sum(record["shares"]) == pytest.approx(1)
    conv, norm = model.network.layers["0"].conv, model.network.layers["0"].bn
    pictures = OnlyImages(TrafficDataset(8, SIZE))
    with torch.no_grad():
        currents = [
            conv(modules.stdp_features.crops(pictures, plan, SIZE, -1 - n)).transpose(0, 1).flatten(1)
            for n in range(plan["statistics"])
        ]
    torch.testing.assert_close(norm.running_mean, torch.stack([part.mean(1) for part in currents]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([part.var(1) for part in currents]).mean(0))
    rates = model(modules.stdp_features.crops(pictures, plan, SIZE, 1), layers=2).mean((0, 1, 3, 4))
    assert rates.min() > 0.2 and rates.max() < 0.8  # of the second layer, on other crops


def test_the_trained_network_is_the_one_that_is_scored(modules: Any) -> None:
    model = modules.direct_snn.DirectSNN({"num_classes": 3, "width": 0.125, "input_size": 64}, 2, 5).double()
    model.train()
    images = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    for _ in range(3):
        model(images)  # statistics
    model.eval()
    frozen = [parameter for block in model.first_blocks() for parameter in block.parameters()]
    sum(out.square().sum() for out in model(images)).backward()
    assert all(parameter.grad is None for parameter in frozen)
    assert all(
        parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad
    ) and len(frozen) < len(list(model.parameters()))
    snn = model.spiking()
    for steps in (5, 9):
        model.time_steps = steps
        with torch.no_grad():
            wanted = model(images)
        for got, want in zip(simulate(snn, images, steps).final, wanted, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)


def test_a_hundredth_of_the_recipe(modules: Any, tmp_path: Path) -> None:
    plan, data = short_plan(), TrafficDataset(12, SIZE)
    folder = modules.stdp_detector.train_detector(plan, data, tmp_path)
    assert folder.parent.name == plan["stages"][-1]["name"]
    result = evaluate(checkpoint.load(folder), data, 8, readout=(4, 8), size=SIZE, monitored=2)
    assert all(math.isfinite(point.ap.map50) for point in result.points)
    assert result.energy is not None and result.energy.spikes_per_neuron_and_image > 0
    training = json.loads((folder.parent / "training.json").read_text())
    assert list(training["seconds"]) == ["features", *(stage["name"] for stage in plan["stages"])]
    with pytest.raises(InputError, match="another plan"):
        plan["features"]["gain"] = 1.0
        modules.stdp_detector.train_detector(plan, data, tmp_path)


class Breaking(TrafficDataset):
    """Fails at the n-th picture that is asked for, once."""

    left: int | None = None

    def __getitem__(self, index: int) -> Any:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.left = None
                raise KeyboardInterrupt
        return super().__getitem__(index)


@pytest.mark.parametrize("after", [30, 170])  # pictures: within the features, within a stage
def test_an_interrupted_training_ends_with_the_same_weights(modules: Any, tmp_path: Path, after: int) -> None:
    plan = short_plan()
    whole = modules.stdp_detector.train_detector(plan, TrafficDataset(12, SIZE), tmp_path / "whole")
    data = Breaking(12, SIZE)
    data.left = after
    with pytest.raises(KeyboardInterrupt):
        modules.stdp_detector.train_detector(plan, data, tmp_path / "parts")
    assert (tmp_path / "parts" / "features" / "features.json").exists() == (after > 160)
    resumed = modules.stdp_detector.train_detector(plan, data, tmp_path / "parts")
    wanted, got = (checkpoint.load(folder).state_dict() for folder in (whole, resumed))
    assert wanted.keys() == got.keys()
    for name, value in wanted.items():
        assert torch.equal(got[name], value), name


def test_the_longer_plan_shares_the_features() -> None:
    short, longer = (json.loads(path.read_text()) for path in (PLAN, PLAN.with_stem("stdp_detector_longer")))
    names = [{stage["name"] for stage in plan["stages"]} for plan in (short, longer)]
    assert not names[0] & names[1] and {**short, "stages": None} == {**longer, "stages": None}


def test_the_commands(
    modules: Any, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, results = tmp_path / "run", tmp_path / "results.json"
    plan = json.loads(PLAN.read_text()) | {"width": 0.125, "size": SIZE}
    plan["finetune"] |= {"size": SIZE}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    main, data = modules.stdp_detector.main, ["--data", str(data_dir)]
    more = ["--plan", str(tmp_path / "plan.json"), "--shorten", "200"]
    main(["train", *data, "--output", str(output), *more])
    main(["filters", "--features", str(output / "features"), "--figure", str(tmp_path / "filters.png")])
    places = ["--results", str(results), "--figure", str(tmp_path / "curve.png"), "--output", str(tmp_path)]
    network = ["--network", str(output / plan["stages"][-1]["name"] / "snn")]
    main(["score", *data, *network, *places, "--images", "4", "--steps", "4", "12", "--size", str(SIZE)])
    assert "| 12 |" in capsys.readouterr().out
    record = json.loads(results.read_text())
    assert [point["steps"] for point in record["runs"]["STDP"]["points"]] == [4, 12]
    assert record["command"] and record["training"]["images"] > 1000
    for name in ("filters", "curve"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
