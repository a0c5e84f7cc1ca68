from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sj_lowlat
from sj_lowlat.data.augment import AugmentedDataset
from sj_lowlat.detect import detections_from_maps
from sj_lowlat.errors import InputError
from sj_lowlat.training import FinetuneConfig, finetune
from sj_lowlat.training.batches import BatchMaker
from sj_lowlat.training.loop import parameter_groups
from sj_lowlat.training.objective import Objective

QUICK = FinetuneConfig(iterations=2, batch_size=2, size=32, log_every=1)


def losses(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line)["losses"] for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_overfits_a_few_pictures(precision: Any, make_detector: Any, make_data: Any, tmp_path: Path) -> None:
    data = AugmentedDataset(make_data(), 64, scale=(1.0, 1.0))
    config = FinetuneConfig(
        iterations=60, batch_size=4, size=64, lr=0.02, ema=0.5, precision=precision, log_every=1
    )
    finetune(make_detector(channels=64), data, config=config, output=tmp_path)
    log = losses(tmp_path)
    assert log[-1]["total"] < log[0]["total"] / 5
    assert all(log[-1][name] < log[0][name] / 2 for name in ("box", "objectness", "classes"))


def test_finds_what_it_learned(make_detector: Any, make_data: Any) -> None:
    data = AugmentedDataset(make_data(), 64, scale=(1.0, 1.0))
    config = FinetuneConfig(iterations=120, batch_size=4, size=64, lr=0.02, ema=0.9, precision="fp32")
    model = finetune(make_detector().eval(), data, config=config)
    image, boxes, labels = data[0]
    with torch.no_grad():
        found = detections_from_maps(model(image[None]), model.head_specs, 0.3, 0.45, 100)[0]  # type: ignore[arg-type]
    assert found.labels[0] == labels[0]
    assert (found.boxes[0] - boxes[0]).abs().max() < 6


def test_learns_from_a_teacher_without_labels(make_detector: Any, make_data: Any, tmp_path: Path) -> None:
    teacher = make_detector(seed=1)
    config = FinetuneConfig(iterations=60, batch_size=4, size=64, lr=0.02, precision="fp32", log_every=1)
    data = AugmentedDataset(make_data(names=()), 64, scale=(1.0, 1.0))
    finetune(make_detector(), data, teacher, config, tmp_path)
    log = losses(tmp_path)
    assert log[0].keys() - {"total", "gradient"} == {
        "distil_objectness",
        "distil_classes",
        "distil_box",
        "distil_logit",
    }
    assert log[-1]["total"] < log[0]["total"] / 5


def test_weights_scale_the_terms(make_detector: Any, make_data: Any, tmp_path: Path) -> None:
    first = []
    for number, (detection, distillation) in enumerate([(1.0, 1.0), (2.0, 0.0), (0.0, 3.0)]):
        config = FinetuneConfig(
            iterations=1, batch_size=2, size=64, detection_weight=detection, distillation_weight=distillation
        )
        model = make_detector()
        model.coarse[1].p = 0.0  # dropout is another one without labels
        finetune(model, make_data(), make_detector(seed=1), config, tmp_path / str(number))
        first.append({k: v for k, v in losses(tmp_path / str(number))[0].items() if k != "gradient"})
    both, labels, teacher = first
    assert both.pop("total") == pytest.approx(sum(both.values()))
    assert labels.pop("total") + teacher.pop("total") == pytest.approx(
        sum(v * (3 if name.startswith("distil") else 2) for name, v in both.items())
    )
    assert labels.keys() | teacher.keys() == both.keys()


def test_any_network_can_learn_from_a_teacher(make_data: Any, tmp_path: Path) -> None:
    def make(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
        )

    config = FinetuneConfig(iterations=60, batch_size=4, size=32, lr=0.02, precision="fp32", log_every=1)
    finetune(make(0), make_data(), make(1), config, tmp_path)
    log = losses(tmp_path)
    assert log[-1]["distil_mse"] < log[0]["distil_mse"] / 5


@pytest.mark.parametrize("wrap", [nn.Sequential, nn.DataParallel])
def test_a_wrapped_network_has_its_losses(wrap: Any, make_detector: Any, make_data: Any) -> None:
    config = FinetuneConfig(batch_size=2, size=64, precision="fp32")
    batch = BatchMaker(make_data(), config, {0: 0, 1: 1, 2: 2})[0]
    model, teacher = make_detector().eval(), make_detector(seed=1).eval()
    bare = Objective(model, make_data(), teacher, config)
    wrapped = Objective(wrap(model), make_data(), teacher, config)
    assert wrapped.detection and wrapped.specs == model.head_specs
    assert {name: value.item() for name, value in wrapped(batch).items()} == {
        name: value.item() for name, value in bare(batch).items()
    }
    with pytest.raises(InputError, match="YOLO heads"):
        Objective(wrap(nn.Conv2d(3, 1, 1)), make_data(), None, config)


def test_nothing_to_learn_from(make_detector: Any, make_data: Any) -> None:
    unlabelled, plain = make_data(names=()), nn.Conv2d(3, 1, 1)
    with pytest.raises(InputError, match="no labels.*give a teacher"):
        finetune(make_detector(), unlabelled)
    with pytest.raises(InputError, match="YOLO heads"):
        finetune(plain, make_data())
    with pytest.raises(InputError, match="detection_weight is 0"):
        finetune(make_detector(), make_data(), config=FinetuneConfig(detection_weight=0))
    with pytest.raises(InputError, match="distillation_weight is 0"):
        finetune(make_detector(), unlabelled, make_detector(), FinetuneConfig(distillation_weight=0))
    model = make_detector()
    with pytest.raises(InputError, match="same object"):
        finetune(model, make_data(), model)
    with pytest.raises(InputError, match="on cpu, the teacher on meta"):
        finetune(model, make_data(), make_detector().to("meta"))
    with pytest.raises(InputError, match="no trainable parameters"):
        finetune(model.requires_grad_(False), make_data())
    with pytest.raises(InputError, match="same heads"):
        finetune(make_detector(), unlabelled, make_detector(num_classes=2), QUICK)


def test_modes_teacher_and_generator_are_left_as_they_were(make_detector: Any, make_data: Any) -> None:
    model, teacher = make_detector().eval(), make_detector(seed=1)
    model.coarse.train()
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    generator = torch.get_rng_state()
    assert finetune(model, make_data(), teacher, QUICK) is model
    assert [module.training for module in model.modules()] == modes
    assert all(module.training for module in teacher.modules())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)


def test_modes_come_back_after_an_error(make_detector: Any, make_data: Any) -> None:
    def fail(image: Tensor) -> Tensor:
        raise RuntimeError("no disk")

    model = make_detector().eval()
    with pytest.raises(RuntimeError, match="no disk"):
        finetune(model, make_data(broken=(1, fail)), config=QUICK)
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("frozen", [False, True])
def test_frozen_norms_keep_their_statistics_and_use_them(
    frozen: bool, make_detector: Any, make_data: Any
) -> None:
    config = replace(QUICK, frozen_norms=frozen, mix=0.0, precision="fp32", ema=0.0)
    model, teacher = make_detector(), make_detector(seed=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    finetune(model, make_data(), teacher, config)
    after = model.state_dict()
    kept = [torch.equal(after[name], before[name]) for name in before if "running" in name]
    assert kept == [frozen] * len(kept)
    assert not torch.equal(after["fine.0.1.weight"], before["fine.0.1.weight"])  # its factor learns
    assert all(module.training for module in model.modules())  # the flags are as they were


class SeenDropout(nn.Dropout):
    """Knows how it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[bool] = set()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.add(self.training)
        return super().forward(x)


@pytest.mark.parametrize("labels", [False, True])
def test_dropout_is_off_with_a_teacher_only(labels: bool, make_detector: Any, make_data: Any) -> None:
    model, teacher = make_detector(), make_detector(seed=1)
    model.fine.append(SeenDropout())
    finetune(model, make_data(), teacher, replace(QUICK, detection_weight=float(labels)))
    assert model.fine[-1].seen == {labels}


def test_every_parameter_gets_a_gradient(make_detector: Any, make_data: Any) -> None:
    model = make_detector()
    finetune(model, make_data(), config=FinetuneConfig(iterations=1, batch_size=4, size=64))
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_clips_biases_and_norms_do_not_decay(make_detector: Any) -> None:
    model = make_detector()
    decayed, plain = parameter_groups(model, 0.1)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {names[id(parameter)] for parameter in plain["params"]}
    norms = [
        f"{n}.{k}"
        for n, m in model.named_modules()
        if isinstance(m, nn.BatchNorm2d)
        for k in ("weight", "bias")
    ]
    assert found == {"clip_raw", "heads.0.bias", "heads.1.bias", *norms}
    assert {names[id(parameter)] for parameter in decayed["params"]} == set(names.values()) - found


def test_result_is_the_moving_average(make_detector: Any, make_data: Any) -> None:
    trained = {
        ema: finetune(make_detector(), make_data(), config=FinetuneConfig(iterations=1, size=32, ema=ema))
        for ema in (0.0, 0.5)
    }
    # at the first update the decay is min(ema, 1/10)
    for name, start in make_detector().state_dict().items():
        last, average = (trained[ema].state_dict()[name] for ema in (0.0, 0.5))
        if start.is_floating_point():
            torch.testing.assert_close(average, 0.1 * start + 0.9 * last)
        else:
            assert torch.equal(average, last)


def test_learning_rate_rises_and_falls(make_detector: Any, make_data: Any, tmp_path: Path) -> None:
    config = FinetuneConfig(iterations=20, batch_size=2, size=32, lr=0.01, warmup=0.25, log_every=1)
    finetune(make_detector(), make_data(), config=config, output=tmp_path)
    rates = [json.loads(line)["lr"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rates[4] == max(rates) == pytest.approx(0.01)
    assert rates[:5] == sorted(rates[:5])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[-1] < 1e-5


@pytest.mark.parametrize(
    ("iterations", "warmup"), [(1, 0.0), (1, 0.9), (2, 0.0), (2, 0.5), (10, 0.1), (3, 0.99)]
)
def test_short_schedules(iterations: int, warmup: float, make_detector: Any, make_data: Any) -> None:
    config = FinetuneConfig(iterations=iterations, batch_size=2, size=32, warmup=warmup)
    model = finetune(make_detector(), make_data(), config=config)
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_record(make_detector: Any, make_data: Any, tmp_path: Path) -> None:
    config = FinetuneConfig(iterations=5, batch_size=2, size=32, log_every=2)
    finetune(make_detector(), make_data(), config=config, output=tmp_path)
    record = json.loads((tmp_path / "finetune.json").read_text())
    assert FinetuneConfig(**record["config"]) == config
    assert record["versions"]["sj_lowlat"] == sj_lowlat.__version__
    assert record["versions"]["torch"] == version("torch")
    assert record["losses"]["total"] > 0
    assert record["seconds"] > 0
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [2, 4, 5]


def test_without_output_nothing_is_written(
    make_detector: Any, make_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    finetune(make_detector(), make_data(), config=QUICK)
    assert list(tmp_path.iterdir()) == []
