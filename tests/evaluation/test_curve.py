"""The mAP-against-T curve of one simulation, against separate runs and the network itself."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

import pytest
import torch

from sj_lowlat import __version__
from sj_lowlat.conversion import convert, prepare
from sj_lowlat.data import TrafficDataset, batches
from sj_lowlat.detect import Detections, detections_from_maps
from sj_lowlat.errors import InputError
from sj_lowlat.evaluation import coco_ap, confidence, count_macs, evaluate, match, paired_difference
from sj_lowlat.evaluation.predict import predict
from sj_lowlat.models import snn_tiny_yolov3
from sj_lowlat.simulation import simulate
from sj_lowlat.training import FinetuneConfig, finetune

LEVELS = 8


@pytest.fixture(scope="module")
def data() -> TrafficDataset:
    return TrafficDataset(24, 64, seed=3)


@pytest.fixture(scope="module")
def quant(data: TrafficDataset) -> torch.nn.Module:
    """A network that has learnt its few pictures by heart, so that its mAP is not 0."""
    torch.manual_seed(0)
    net = snn_tiny_yolov3(4, 0.125, data.class_names, 64)
    plan = FinetuneConfig(iterations=250, batch_size=8, size=64, lr=5e-3, ema=0.9, precision="fp32")
    finetune(net, data, config=plan)
    images = torch.cat([batch.images for batch in batches(data, 8, 64)])
    quant = prepare(net, LEVELS, images)
    return finetune(quant, data, config=replace(plan, iterations=100, lr=2e-3)).eval()


def test_every_readout_of_one_run_scores_like_its_own_run(
    quant: torch.nn.Module, data: TrafficDataset
) -> None:
    snn = convert(quant)
    together = evaluate(snn, data, flush=8, readout=(2, LEVELS, 12), batch_size=24, monitored=0)
    assert [point.steps for point in together.points] == [2, 8, 12]
    alone = evaluate(snn, data, LEVELS, readout=(2,), batch_size=24, monitored=0)
    assert alone.final.map50 == pytest.approx(together.points[0].ap.map50, abs=1e-6)


def test_settled_signed_network_scores_exactly_as_the_quantised_one(
    quant: torch.nn.Module, data: TrafficDataset
) -> None:
    # float64: in float32 a sum on the border of two levels may be rounded to either side
    exact = copy.deepcopy(quant).double()
    reference = evaluate(exact, data, batch_size=24)
    assert reference.final.map50 > 0.05  # else equality says nothing
    run = evaluate(convert(exact), data, flush=64, ann=exact, monitored=0, batch_size=24)
    assert run.final.map50 == pytest.approx(reference.final.map50, abs=1e-9)
    assert run.ann is not None and run.ann.map50 == pytest.approx(reference.final.map50, abs=1e-9)


def test_network_scores_as_its_maps_do(quant: torch.nn.Module, data: TrafficDataset) -> None:
    found = []
    for images, _, _ in batches(data, 24, 64):
        # pictures of 64 px: the letterbox changes nothing, but boxes end at the picture's edge
        with torch.no_grad():
            seen = detections_from_maps(quant(images), quant.head_specs)
        found += [Detections(each.boxes.clamp(0, 64), each.scores, each.labels) for each in seen]
    run = evaluate(quant, data, batch_size=24)
    assert run.final.map50 == pytest.approx(coco_ap(data, found).map50, abs=1e-6)


def test_energy_and_rates_are_of_the_scored_run(quant: torch.nn.Module, data: TrafficDataset) -> None:
    run = evaluate(convert(quant), data, flush=2, monitored=6, batch_size=4)
    assert run.energy is not None and run.rates is not None
    assert run.energy.images == 8  # whole batches
    assert run.energy.ann_macs == count_macs(quant, (3, 64, 64))
    assert run.energy.steps == LEVELS + 2
    assert len(run.rates["layers"]) == 17


def test_pre_steps_are_steps(quant: torch.nn.Module, data: TrafficDataset) -> None:
    snn = convert(quant, neuron="cos")
    run = evaluate(snn, data, "8+0p4", readout=(6, 12), monitored=4, batch_size=4)
    assert [point.steps for point in run.points] == [6, 12]
    settings = run.to_json()["settings"]
    assert (settings["schedule"], settings["pre"]) == ("8+0c8p4", 4)
    assert settings["steps"] == settings["unit_steps"] == 12
    assert run.energy is not None and run.energy.steps == 12
    with_stop = evaluate(snn, data, "8+0p4", stop="stable", monitored=0, batch_size=24)
    assert with_stop.mean_steps is not None and with_stop.mean_steps > 4


def test_everything_is_json_and_says_how_it_was_made(quant: torch.nn.Module, data: TrafficDataset) -> None:
    record = json.loads(json.dumps(evaluate(convert(quant), data, monitored=2).to_json()))
    settings = record["settings"]
    assert settings["schedule"] == f"{LEVELS}+0c{LEVELS}" and settings["time_steps"] == LEVELS
    assert settings["images"] == 24 and settings["size"] == 64
    assert settings["versions"]["sj_lowlat"] and "seed" in settings and settings["command"]
    assert record["points"][0]["steps"] == LEVELS


def test_a_network_that_finds_nothing_scores_zero(data: TrafficDataset) -> None:
    blind = snn_tiny_yolov3(4, 0.125, data.class_names, 64)
    with torch.no_grad():
        for parameter in blind.parameters():
            parameter.zero_()
        for name, parameter in blind.named_parameters():
            if parameter.shape == (27,) and name.endswith("bias"):
                parameter.fill_(-20)
    assert evaluate(blind, data).final.map50 == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"time_steps": 0}, "time_steps is 0"),
        ({"flush": -1}, "flush is -1"),
        ({"readout": (99,)}, "readout"),
        ({"protocol": "voc12"}, "voc07"),
        ({"confidence": -1}, "confidence is -1: give a number of resamples"),
        ({"confidence": True}, "confidence is True"),
        ({"confidence": 0.95}, "confidence is 0.95"),
    ],
)
def test_options_that_cannot_be(
    quant: torch.nn.Module, data: TrafficDataset, options: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        evaluate(convert(quant), data, **options)  # type: ignore[arg-type]


def test_steps_are_refused_for_an_ann(quant: torch.nn.Module, data: TrafficDataset) -> None:
    with pytest.raises(InputError, match="spiking"):
        evaluate(quant, data, time_steps=8)


def test_counts_score_as_the_settled_network(quant: torch.nn.Module, data: TrafficDataset) -> None:
    exact = copy.deepcopy(quant).double()
    counts = evaluate(convert(exact), data, mode="counts", ann=exact, monitored=0, batch_size=24)
    assert counts.ann is not None and counts.final.map50 > 0.05
    assert counts.final.map50 == pytest.approx(counts.ann.map50, abs=1e-9)
    assert counts.settings["mode"] == "counts"


@pytest.mark.parametrize("batch_size", [1, 24])
def test_a_run_that_stops_early_scores_each_image_where_it_stopped(
    quant: torch.nn.Module, data: TrafficDataset, batch_size: int
) -> None:
    snn = convert(quant)
    options = {"flush": 24, "batch_size": batch_size, "monitored": 0}
    stopped = evaluate(snn, data, stop="stable", **options)
    ends, found = [], []
    for images, boxes, _ in batches(data, batch_size, 64):
        run = simulate(snn, images, LEVELS, flush=24, stop="stable")
        assert run.stopped is not None
        ends += run.stopped
        records = detections_from_maps(run.final, snn.head_specs)  # type: ignore[arg-type]
        found += [
            replace(record, boxes=box.to_image(record.boxes))
            for record, box in zip(records, boxes, strict=True)
        ]
    assert len(set(ends)) > 1 and stopped.mean_steps == sum(ends) / len(ends) < LEVELS + 24
    (point,) = stopped.points
    assert point.steps == LEVELS + 24
    assert point.ap.map50 == pytest.approx(coco_ap(data, found).map50, abs=1e-6)
    assert f"steps per image: {stopped.mean_steps:.2f}" in str(stopped)


@pytest.mark.parametrize("protocol", ["coco", "voc07"])
def test_confidence_adds_intervals_and_changes_nothing_else(
    quant: torch.nn.Module, data: TrafficDataset, protocol: str
) -> None:
    snn = convert(quant)
    options = {"readout": (2, LEVELS), "ann": quant, "batch_size": 24, "monitored": 0, "protocol": protocol}
    plain = evaluate(snn, data, **options)
    run = evaluate(snn, data, confidence=50, keep_detections=True, **options)
    assert run.detections is not None and set(run.detections) == {"2", "8", "beside"}
    beside = match(data, run.detections["beside"], protocol)
    assert run.ann is not None and run.ann_interval == confidence(beside, resamples=50)
    for point in run.points:
        found = match(data, run.detections[str(point.steps)], protocol)
        assert point.interval == confidence(found, resamples=50)
        assert point.difference == paired_difference(found, beside, resamples=50)
        assert point.interval.estimate == pytest.approx(point.ap.map50, abs=1e-12)
        assert f"mAP50 {point.interval}" in str(run) and str(point.difference) in str(run)
    record, without = json.loads(json.dumps(run.to_json())), json.loads(json.dumps(plain.to_json()))
    assert record["points"][0]["difference"] == run.points[0].difference.to_json()
    for each in (*record["points"], record["ann"]):
        assert each.pop("interval")["resamples"] == 50
        each.pop("difference", None)
    assert {**record, "settings": None} == {**without, "settings": None}
    assert record["settings"].keys() == without["settings"].keys()
    assert "interval" not in str(plain) and plain.detections is None and plain.ann_interval is None


def test_confidence_of_an_ann_alone_and_where_images_stop(
    quant: torch.nn.Module, data: TrafficDataset
) -> None:
    alone = evaluate(quant, data, batch_size=24, confidence=20, keep_detections=True)
    assert alone.detections is not None and alone.final.map50 > 0.05
    assert alone.points[0].interval == confidence(match(data, alone.detections["None"]), resamples=20)
    assert alone.points[0].difference is None and alone.ann_interval is None
    assert alone.points[0].interval.low < alone.points[0].interval.high
    stopped = evaluate(
        convert(quant), data, flush=24, stop="stable", ann=quant, batch_size=24, monitored=0, confidence=20
    )
    (point,) = stopped.points
    assert point.interval is not None and point.interval.estimate == pytest.approx(point.ap.map50, abs=1e-12)
    assert point.difference is not None and point.difference.resamples == 20


def test_modes_are_for_spiking_networks(quant: torch.nn.Module, data: TrafficDataset) -> None:
    for option in ({"stop": "stable"}, {"mode": "counts"}):
        with pytest.raises(InputError, match="mode and stop are for spiking networks"):
            evaluate(quant, data, **option)


def test_a_frozen_batch_norm_in_a_network_under_training_stays_frozen(data: TrafficDataset) -> None:
    net = snn_tiny_yolov3(4, 0.125, data.class_names, 64).train()
    norms = [module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    norms[1].eval()
    flags = [module.training for module in net.modules()]
    before = {name: value.clone() for name, value in net.state_dict().items()}
    images, boxes, _ = next(iter(batches(data, 4, 64)))
    evaluate(net, data, batch_size=24, ann=net)
    (read,) = predict(net, images, boxes)
    assert read.step is None and len(read.detections) == 4
    assert [module.training for module in net.modules()] == flags and flags.count(False) == 1
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_checkout_that_is_not_installed_can_evaluate(
    data: TrafficDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def installed(name: str) -> str:
        if name.startswith("sj"):
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr("importlib.metadata.version", installed)
    monkeypatch.setattr("sj_lowlat.record.version", installed)
    settings = evaluate(snn_tiny_yolov3(4, 0.125, data.class_names, 64), data, batch_size=24).settings
    assert settings["versions"]["sj_lowlat"] == __version__
