"""Every verb does on the command line what its function does."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from sj_lowlat import checkpoint, pretrained
from sj_lowlat.cli.pictures import first_images
from sj_lowlat.cli.sources import open_data
from sj_lowlat.conversion import convert, prepare
from sj_lowlat.data import Part, letterbox, read_image
from sj_lowlat.detect import decode, nms
from sj_lowlat.detector import load
from sj_lowlat.evaluation import evaluate
from sj_lowlat.layers import QuantReLU, RateNorm, SignedIFNode
from sj_lowlat.models import tiny_yolov3
from sj_lowlat.schedule import Schedule
from sj_lowlat.simulation import simulate
from sj_lowlat.training import FinetuneConfig

Run = Callable[..., Any]
TRAIN = ("--iterations", 2, "--batch-size", 2, "--size", 64, "--precision", "fp32")


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_pools_stay_and_first_layers_get_finer_levels(places: Any, run: Run, tmp_path: Path) -> None:
    command = ("finetune", "--model", "tiny-yolov3:width=0.125,input_size=64", "--data", places.data,
               "--only-activations", "--levels", 4, "--scale", "mse", "--equalise", *TRAIN)  # fmt: skip
    done = run(*command, "--finer", "layers.0.act=4, layers.2.act=2", "--output", tmp_path / "quant")
    assert done.code == 0, done.err
    quant: Any = checkpoint.load(tmp_path / "quant")
    levels = [m.levels for m in quant.modules() if isinstance(m, QuantReLU)]
    assert levels[:3] == [16, 8, 4] and set(levels[3:]) == {4} and quant.levels == 4
    assert any(isinstance(module, nn.MaxPool2d) for module in quant.modules())
    for finer, message in (("layers.0.act", "finer is"), ("layers.0.act=x", "finer is"), ("a=2", "'a'")):
        done = run(*command, "--finer", finer, "--output", tmp_path / "other")
        assert done.code == 2 and message in done.err


def test_from_a_fresh_network_to_what_its_neurons_do(places: Any, run: Run, tmp_path: Path) -> None:
    fresh = "tiny-yolov3:width=0.125,input_size=64"
    ann, quant, snn = tmp_path / "ann", tmp_path / "quant", tmp_path / "snn"
    data = ("--data", places.data)

    done = run("finetune", "--model", fresh, *data, "--replace", *TRAIN, "--output", ann)
    assert done.code == 0, done.err
    assert str(ann) in done.out and "last loss" in done.out
    net: Any = checkpoint.load(ann)
    assert net.class_names == ("person", "bicycle", "car", "bus") and net.replaced
    assert FinetuneConfig(**read(ann / "finetune.json")["config"]).sizes == (64,)
    assert read(ann / "finetune.json")["command"][:3] == ["sj-lowlat", "finetune", "--model"]
    assert {"distil_box"}.isdisjoint(read(ann / "finetune.json")["losses"])

    levels = ("--levels", 4, "--teacher", ann, "--calibration-images", 4)
    done = run("finetune", "--model", ann, *data, *levels, *TRAIN, "--output", quant)
    assert done.code == 0, done.err
    assert "distil_box" in read(quant / "finetune.json")["losses"]
    assert checkpoint.load(quant).levels == 4

    done = run("convert", "--model", quant, "--schedule", "4", "--output", snn)
    assert done.code == 0, done.err
    assert "SignedIFNode" in done.out and str(snn) in done.out
    record = read(snn / "conversion.json")
    assert record["report"]["layers"] and record["settings"]["versions"]["torch"] == version("torch")

    done = run("evaluate", "--model", snn, *data, "--flush", 2, "--readout", "2,4,6", "--ann", quant,
               "--batch-size", 3, "--monitored", 2, "--output", tmp_path / "evaluation.json")  # fmt: skip
    assert done.code == 0, done.err
    record = read(tmp_path / "evaluation.json")
    again = evaluate(checkpoint.load(snn), open_data(places.data), 4, flush=2, readout=(2, 4, 6),
                        ann=checkpoint.load(quant), batch_size=3, monitored=2)  # fmt: skip
    expected = json.loads(json.dumps(again.to_json()))
    assert {k: record[k] for k in ("points", "ann", "energy", "rates")} == {
        k: expected[k] for k in ("points", "ann", "energy", "rates")
    }
    assert record["settings"]["command"][:2] == ["sj-lowlat", "evaluate"] and record["model"] == str(snn)
    for point in record["points"]:
        assert f"SNN, {point['steps']} steps" in done.out and f"{100 * point['map50']:.2f}" in done.out

    done = run("detect", "--model", snn, places.pictures, "--min-score", 0.001,
               "--output", tmp_path / "found")  # fmt: skip
    assert done.code == 0, done.err
    assert len(list((tmp_path / "found").glob("*.png"))) == 6

    done = run("monitor", "--model", snn, *data, "--limit", 3, "--flush", 2, "--output", tmp_path / "watched")
    assert done.code == 0, done.err
    record = read(tmp_path / "watched" / "monitor.json")
    assert {row["images"] for row in record["rates"]["layers"]} == {3}
    assert {row["steps"] for row in record["remainders"]["layers"]} == {6}
    assert record["settings"]["seed"] == 0 and record["settings"]["time_steps"] == 4
    assert "silent %" in done.out and "under-fired %" in done.out
    for name in ("firing_rates.png", "remainders.png"):
        assert read_image(tmp_path / "watched" / name).float().std() > 0


def test_finetune_goes_on_and_refuses_another_run(places: Any, run: Run, tmp_path: Path) -> None:
    command = ("finetune", "--model", places.ann, "--data", places.data, *TRAIN, "--checkpoint-every", 1)
    assert run(*command, "--output", tmp_path / "whole").code == 0
    weights = (tmp_path / "whole" / "model.safetensors").read_bytes()
    again = run(*command, "--output", tmp_path / "whole")
    assert again.code == 0 and (tmp_path / "whole" / "model.safetensors").read_bytes() == weights
    assert [row["iteration"] for row in map(json.loads, (tmp_path / "whole" / "log.jsonl").open())] == [2]

    other = run(*command, "--output", tmp_path / "whole", "--teacher", places.quant)
    assert other.code == 2 and "teacher" in other.err and "--restart" in other.err
    other = run(*command, "--output", tmp_path / "whole", "--lr", 0.5)
    assert other.code == 2 and "lr" in other.err
    restarted = run(*command, "--output", tmp_path / "whole", "--lr", 0.5, "--restart")
    assert restarted.code == 0
    assert (tmp_path / "whole" / "model.safetensors").read_bytes() != weights


def test_finetune_scores_while_it_trains(places: Any, run: Run, tmp_path: Path) -> None:
    command = ("finetune", "--model", places.ann, "--data", places.data, *TRAIN, "--output", tmp_path / "a",
               "--val", places.data, "--val-every", 1, "--val-images", 3)  # fmt: skip
    done = run(*command)
    assert done.code == 0, done.err
    scores = {row["iteration"]: row["map50"] for row in map(json.loads, (tmp_path / "a/log.jsonl").open())}
    end, part = read(tmp_path / "a/finetune.json")["validation"], Part(open_data(places.data), [0, 2, 5])
    assert list(scores) == [1, 2] and end["map50"] == scores[2]
    for folder, score in (("a", end["map50"]), ("a/best", end["best"]["map50"])):
        net = checkpoint.load(tmp_path / folder)
        assert evaluate(net, part, size=64, batch_size=3).final.map50 == pytest.approx(score, abs=1e-6)
    assert f"at iteration {end['best']['iteration']}, which is in {tmp_path / 'a/best'}" in done.out
    assert Image.open(tmp_path / "a/loss.png").width > 300

    again = run(*command)
    assert again.code == 0 and read(tmp_path / "a/finetune.json")["validation"] == end
    other = run(*command, "--val-images", 2)
    assert other.code == 2 and "whose validation is" in other.err and "--restart" in other.err
    plain = command[: command.index("--val")]
    assert run(*plain).code == 2
    assert run(*plain, "--restart").code == 0 and not (tmp_path / "a/best").exists()
    assert (tmp_path / "a/loss.png").is_file() and "validation" not in read(tmp_path / "a/finetune.json")
    done = run(*plain, "--output", tmp_path / "b", "--val", places.pictures)
    assert done.code == 2 and "has no boxes to score against" in done.err and not (tmp_path / "b").exists()


def test_finetune_through_the_spiking_network(places: Any, run: Run, tmp_path: Path) -> None:
    command = ("finetune", "--model", places.quant, "--teacher", places.ann, "--data", places.data, *TRAIN,
               "--schedule", "2+1", "--val", places.data, "--val-images", 3,
               "--output", tmp_path / "new")  # fmt: skip
    done = run(*command)
    assert done.code == 2 and "set --frozen-norms" in done.err
    done = run(*command, "--frozen-norms")
    assert done.code == 0, done.err
    snn, part = convert(checkpoint.load(tmp_path / "new")), Part(open_data(places.data), [0, 2, 5])
    score = evaluate(snn, part, "2+1", size=64, batch_size=3).final.map50
    assert read(tmp_path / "new/finetune.json")["validation"]["map50"] == pytest.approx(score, abs=1e-6)


def test_a_method_from_its_training_to_its_neurons(places: Any, run: Run, tmp_path: Path) -> None:
    ann, snn = tmp_path / "ann", tmp_path / "snn"
    command = ("finetune", "--model", "tiny-yolov3:width=0.125,input_size=64", "--data", places.data,
               "--only-activations", "--method", "rate-norm", *TRAIN, "--calibration-images", 2)  # fmt: skip
    done = run(*command, "--output", ann)
    assert done.code == 0, done.err
    clips = [module.clip for module in checkpoint.load(ann).modules() if isinstance(module, RateNorm)]
    assert len(clips) == 11 and all(float(clip.detach()) > 0 for clip in clips)
    done = run("convert", "--model", ann, "--method", "rate-norm", "--output", snn)
    assert done.code == 0, done.err
    assert read(snn / "conversion.json")["report"]["method"] == "rate-norm"
    done = run(*command, "--levels", 4, "--output", tmp_path / "other")
    assert done.code == 2 and "--method rate-norm has none: leave them out" in done.err
    done = run("convert", "--model", ann, "--method", "rate", "--output", tmp_path / "other")
    assert done.code == 2 and "method is 'rate', it must be one of" in done.err


def test_convert_with_a_statistic_of_calibration_images(places: Any, run: Run, tmp_path: Path) -> None:
    command = ("convert", "--model", places.ann, "--neuron", "residual-fix", "--output", tmp_path / "snn")
    done = run(*command)
    assert done.code == 2 and "calibration" in done.err and not (tmp_path / "snn").exists()
    done = run(*command, "--scale", "99%", "--per-channel", "--ratio", 0.25, "--calibration", places.data,
               "--calibration-images", 3)  # fmt: skip
    assert done.code == 0, done.err
    snn: Any = checkpoint.load(tmp_path / "snn")
    layers = snn.conversion_report.layers
    assert {row.neuron for row in layers} == {"ResidualFixIFNode", "RateReadout"}
    assert any(len(row.scale) == 2 for row in layers)
    assert "99" in " ".join(read(tmp_path / "snn" / "conversion.json")["settings"]["command"])


def test_convert_a_network_as_it_is(places: Any, run: Run, tmp_path: Path) -> None:
    ann = tiny_yolov3(4, width=0.125, class_names=("person", "bicycle", "car", "bus"), input_size=64)
    checkpoint.save(ann.eval(), tmp_path / "ann")
    command = ("convert", "--model", tmp_path / "ann", "--output", tmp_path / "snn")
    data = ("--calibration", places.data, "--calibration-images", 3)
    done = run(*command, *data, "--levels", 4, "--finer", "layers.0.act=2")
    assert done.code == 0, done.err
    snn: Any = checkpoint.load(tmp_path / "snn")
    neurons = [m for m in snn.modules() if isinstance(m, SignedIFNode)]
    assert {node.slope for node in neurons} == {0.1} and [node.burst for node in neurons[:2]] == [2, 1]
    images = torch.stack([letterbox(open_data(places.data)[i].image, 64)[0] for i in (0, 2, 5)])
    options = {"scale": "mse", "equalise": True}
    quant = prepare(ann, 4, images, finer={"layers.0.act": 2}, **options)
    maps = [simulate(network, images, 4, flush=2).final for network in (snn, convert(quant))]
    for got, want in zip(*maps, strict=True):
        torch.testing.assert_close(got, want)

    done = run(*command, *data, "--levels", 4, "--budget", 8)
    assert done.code == 0, done.err
    chosen: Any = checkpoint.load(tmp_path / "snn")
    quant = prepare(ann, 4, images, budget=8, **options)
    bursts = [node.burst for node in chosen.modules() if isinstance(node, SignedIFNode)]
    assert bursts == [act.levels // 4 for act in quant.modules() if isinstance(act, QuantReLU)]
    assert len(set(bursts)) > 1

    assert "give --levels too" in run(*command, *data, "--finer", "layers.0.act=2").err
    assert "give --levels too" in run(*command, *data, "--budget", 8).err
    assert "calibration" in run(*command, "--levels", 4).err
    assert "negative spikes" in run(*command, *data, "--levels", 4, "--neuron", "residual-fix").err


def test_evaluate_an_ann_by_the_first_images_and_by_voc(places: Any, run: Run, tmp_path: Path) -> None:
    command = ("evaluate", "--model", places.ann, "--data", places.data, "--limit", 2)
    done = run(*command, "--output", tmp_path / "coco.json")
    assert done.code == 0, done.err
    record = read(tmp_path / "coco.json")
    assert record["settings"]["images"] == record["points"][0]["images"] == 2
    assert record["points"][0]["steps"] is None and record["energy"] is None
    done = run(*command, "--protocol", "voc07", "--size", 96, "--output", tmp_path / "voc.json")
    assert done.code == 0, done.err
    record = read(tmp_path / "voc.json")
    assert record["points"][0]["map"] is None and record["settings"]["size"] == 96


def test_evaluate_prints_intervals_and_differences(places: Any, run: Run, tmp_path: Path) -> None:
    command = ("evaluate", "--model", places.snn, "--data", places.data, "--ann", places.quant,
               "--readout", "2,4", "--time-steps", 4, "--batch-size", 6)  # fmt: skip
    done = run(*command, "--confidence", 30, "--output", tmp_path / "e.json")
    assert done.code == 0, done.err
    expected = evaluate(checkpoint.load(places.snn), open_data(places.data), 4, readout=(2, 4), batch_size=6,
                        ann=checkpoint.load(places.quant), confidence=30)  # fmt: skip
    record = read(tmp_path / "e.json")
    assert record["points"] == json.loads(json.dumps(expected.to_json()["points"]))
    assert record["ann"]["interval"]["resamples"] == 30
    lines = {line.split("  ")[0]: line for line in done.out.splitlines()}
    assert "95 % of mAP50" in lines["network"] and "less ANN  " in lines["network"]
    for point in expected.points:
        assert point.interval is not None and point.difference is not None
        more = f"{100 * point.difference.estimate:+.2f}"
        row = lines[point.name]
        assert all(text in row for text in (point.interval.range, more, point.difference.range))
    assert expected.ann_interval is not None and expected.ann_interval.range in lines["ANN beside it"]

    done = run("evaluate", "--model", places.ann, "--data", places.data, "--confidence", 30)
    assert done.code == 0 and "95 % of mAP50" in done.out and "less ANN" not in done.out
    done = run(*command)
    assert done.code == 0 and "95 %" not in done.out and "less ANN" not in done.out


@pytest.mark.parametrize("spiking", [False, True])
def test_detect_draws_boxes_where_the_picture_has_them(
    places: Any, run: Run, tmp_path: Path, spiking: bool
) -> None:
    picture = read_image(places.pictures / "000001.png")
    wide = tmp_path / "wide.png"
    Image.fromarray(picture[:, 10:42].permute(1, 2, 0).numpy()).save(
        wide
    )  # 64 x 32: grey bars above and below
    extra = ("--time-steps", 8, "--flush", 2) if spiking else ()
    model = places.snn if spiking else places.ann
    done = run("detect", "--model", model, wide, *extra, "--min-score", 0.05, "--output", tmp_path / "o")
    assert done.code == 0, done.err

    net: Any = checkpoint.load(model)
    x = torch.full((1, 3, 64, 64), 0.5)
    x[0, :, 16:48] = read_image(wide) / 255
    with torch.no_grad():
        maps = simulate(net, x, 8, flush=2).final if spiking else net(x)
    boxes, scores = decode(maps, net.head_specs)
    expected = nms(boxes[0], scores[0], 0.05)
    assert len(expected) > 0
    by_hand = expected.boxes - torch.tensor([0.0, 16.0, 0.0, 16.0])
    by_hand[:, 0::2], by_hand[:, 1::2] = by_hand[:, 0::2].clamp(0, 64), by_hand[:, 1::2].clamp(0, 32)
    (entry,) = read(tmp_path / "o" / "detections.json")["images"]
    torch.testing.assert_close(torch.tensor(entry["boxes"]), by_hand, atol=1e-3, rtol=0)
    torch.testing.assert_close(torch.tensor(entry["scores"]), expected.scores)
    assert entry["labels"] == expected.labels.tolist() and entry["size"] == [64, 32]
    assert f"wide.png: {entry['names'][0]} {entry['scores'][0]:.2f}" in done.out
    drawn = read_image(tmp_path / "o" / "wide.png")
    assert drawn.shape == (3, 32, 64) and not torch.equal(drawn, read_image(wide))


def test_a_shipped_network_is_run_as_it_is_meant(
    places: Any, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network of the other tests, packed into the place of the package's own weights."""
    (tmp_path / "weights").mkdir()
    quant = checkpoint.load(places.quant)
    schedule = {"time_steps": 2, "flush": 3, "burst": 2, "charge": 4}
    name = "snn-yolo-fastest-xl-coco"  # the default of detect
    pretrained.pack(quant, tmp_path / "weights" / f"{name}.safetensors", {"schedule": "2+3b2c4"})
    monkeypatch.setattr("sj_lowlat.pretrained.resources.files", lambda package: tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()  # a folder of the same name is not in the way

    picture = places.pictures / "000000.png"
    assert run("detect", picture, "--min-score", 0.05).code == 0
    record = read(tmp_path / "runs" / "detect" / "detections.json")
    assert {key: record["settings"][key] for key in schedule} == schedule
    packed = pretrained.load(name)
    maps = simulate(packed, read_image(picture)[None] / 255, **schedule).final
    boxes, scores = decode(maps, packed.head_specs)
    expected = nms(boxes[0], scores[0], 0.05)
    assert len(expected) > 0
    torch.testing.assert_close(torch.tensor(record["images"][0]["scores"]), expected.scores)

    # what is given goes before what the network brings along
    done = run("detect", picture, "--model", name, "--time-steps", 3, "--burst", 1, "--output", "again")
    assert done.code == 0, done.err
    given = read(tmp_path / "again" / "detections.json")["settings"]
    assert {key: given[key] for key in schedule} == {**schedule, "time_steps": 3, "burst": 1}

    data = ("--data", places.data, "--limit", 2)
    done = run("evaluate", "--model", name, *data, "--ann", name, "--readout", "2,5", "--output", "e.json")
    assert done.code == 0, done.err
    found = read(tmp_path / "e.json")
    direct = evaluate(
        packed,
        first_images(open_data(places.data), 2),
        ann=pretrained.load(name, spiking=False),
        readout=(2, 5),
        **schedule,
    )
    assert {key: found["settings"][key] for key in schedule} == schedule
    assert found["settings"]["schedule"] == "2+3b2c4"
    assert found["points"] == json.loads(json.dumps(direct.to_json()["points"]))
    assert found["ann"] == json.loads(json.dumps(direct.to_json()["ann"]))

    assert run("monitor", "--model", name, *data, "--output", "m").code == 0
    watched = read(tmp_path / "m" / "monitor.json")
    assert {key: watched["settings"][key] for key in schedule} == schedule
    assert {row["steps"] for row in watched["remainders"]["layers"]} == {5}

    assert run("convert", "--model", name, "--neuron", "if", "--output", "snn").code == 0
    assert "ratio=0," in str(checkpoint.load("snn")) and "SignedIFNode" in str(packed)
    done = run("detect", picture, "--model", "snn-tiny-yolov3-voc")
    assert done.code == 2 and "'snn-tiny-yolov3-voc'" in done.err


@pytest.mark.parametrize("spiking", [False, True])
def test_levels_and_burst_are_handed_on(places: Any, run: Run, tmp_path: Path, spiking: bool) -> None:
    options = ("--time-steps", 2, "--flush", 2, "--levels", 4, "--burst", 2)
    command = ("--data", places.data, "--limit", 2, "--output", tmp_path / "e.json", *options)
    done = run("evaluate", "--model", places.snn if spiking else places.ann, *command)
    if not spiking:
        assert done.code == 2 and "levels and burst are for spiking networks" in done.err
        return
    assert done.code == 0, done.err
    dataset = first_images(open_data(places.data), 2)
    direct = evaluate(checkpoint.load(places.snn), dataset, 2, flush=2, levels=4, burst=2)
    assert read(tmp_path / "e.json")["points"] == json.loads(json.dumps(direct.to_json()["points"]))
    plain = evaluate(checkpoint.load(places.snn), dataset, 2, flush=2)
    assert plain.final != direct.final  # the options do change something


def test_a_network_keeps_its_schedule(places: Any, run: Run, tmp_path: Path) -> None:
    """``convert`` writes it, a second ``convert`` of the same Quant ANN too, and ``detect`` runs it."""
    command = ("convert", "--model", places.quant)
    assert run(*command, "--schedule", "2+1b2", "--output", tmp_path / "snn").code == 0
    assert checkpoint.load(tmp_path / "snn").schedule == Schedule(2, 1, 2)
    done = run("detect", places.pictures, "--model", tmp_path / "snn", "--output", tmp_path / "o")
    settings = read(tmp_path / "o" / "detections.json")["settings"]
    assert done.code == 0 and (settings["time_steps"], settings["flush"], settings["burst"]) == (2, 1, 2)
    again = load("snn-tiny-yolov3-coco")
    checkpoint.save(again, tmp_path / "again")
    assert load(tmp_path / "again").schedule == again.schedule == Schedule.parse("1+1b32c16")
    assert run("convert", "--model", "snn-tiny-yolov3-coco", "--output", tmp_path / "shipped").code == 0
    assert load(tmp_path / "shipped").schedule == again.schedule
    assert run(*command, "--schedule", "x", "--output", tmp_path / "bad").code == 2
    usual = run(*command, "--output", tmp_path / "usual")
    assert load(tmp_path / "usual").schedule == Schedule(1, 1, 8)
    assert "it runs 1+1b8 where no other schedule is given: 2 steps, up to 8 spikes" in usual.out
    assert run(*command, "--neuron", "residual-fix", "--output", tmp_path / "plain").code == 0
    assert load(tmp_path / "plain").schedule == Schedule(4)


def test_a_broken_picture_is_reported_and_the_others_go_on(places: Any, run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.jpg", "c.jpg"):
        Image.open(places.pictures / "000000.png").save(folder / name)
    whole = (folder / "a.jpg").read_bytes()
    (folder / "b.jpg").write_bytes(whole[: len(whole) // 2])
    done = run("detect", "--model", places.ann, folder, "--output", tmp_path / "o")
    assert done.code == 1
    assert "b.jpg" in done.err and "1 of 3" in done.err and "Traceback" not in done.err
    record = read(tmp_path / "o" / "detections.json")
    assert [Path(entry["path"]).name for entry in record["images"]] == ["a.jpg", "c.jpg"]
    assert [Path(entry["path"]).name for entry in record["failed"]] == ["b.jpg"]
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["a.jpg", "c.jpg", "detections.json"]


def test_pictures_are_never_drawn_over(places: Any, run: Run, tmp_path: Path) -> None:
    Image.open(places.pictures / "000000.png").save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    done = run("detect", "--model", places.ann, tmp_path / "a.png", "--output", tmp_path)
    assert done.code == 2 and "overwrite" in done.err and (tmp_path / "a.png").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["evaluate", "--model", "{snn}", "--data", "{data}", "--time-steps", "0"], "--time-steps is 0"),
        (["evaluate", "--model", "{snn}", "--data", "{data}", "--readout", "2,x"], "'2,x'"),
        (
            ["evaluate", "--model", "{snn}", "--data", "{data}", "--readout", "5"],
            "--readout is 5, it must be",
        ),
        (["evaluate", "--model", "{snn}", "--data", "{pictures}"], "no boxes"),
        (["evaluate", "--model", "{ann}", "--data", "{data}", "--confidence", "-1"], "confidence is -1"),
        (["evaluate", "--model", "{ann}", "--data", "{data}", "--time-steps", "4"], "spiking"),
        (["evaluate", "--model", "{ann}", "--data", "{data}", "--size", "50"], "multiples of 32"),
        (["evaluate", "--model", "nowhere", "--data", "{data}"], "nowhere"),
        (["evaluate", "--model", "{ann}", "--data", "nowhere"], "nowhere"),
        (["detect", "--model", "{snn}", "{pictures}", "--time-steps", "0"], "--time-steps is 0"),
        (["detect", "--model", "{snn}", "{pictures}", "--levels", "0"], "charge is 0"),
        (["detect", "--model", "{snn}", "{pictures}", "--burst", "0"], "burst is 0"),
        (["detect", "--model", "{ann}", "{pictures}", "--flush", "2"], "spiking"),
        (["detect", "{pictures}", "--model", "no-such-network"], "'no-such-network'"),
        (["detect", "--model", "{ann}", "nowhere.jpg"], "nowhere.jpg"),
        (["detect", "--model", "{ann}", "{pictures}", "--min-score", "2"], "--min-score is 2"),
        (["monitor", "--model", "{snn}", "--data", "{data}", "--time-steps", "0"], "--time-steps is 0"),
        (["monitor", "--model", "{snn}", "--data", "{data}", "--limit", "0"], "limit is 0"),
        (["convert", "--model", "{quant}", "--output", "{quant}"], "another folder"),
        (["convert", "--model", "{snn}", "--output", "{new}"], "spiking already"),
        (["finetune", "--model", "{snn}", "--data", "{data}", "--output", "{new}"], "spiking network"),
        (["finetune", "--model", "{ann}", "--data", "{data}", "--output", "{ann}"], "another folder"),
        (
            ["finetune", "--model", "{ann}", "--data", "{data}", "--output", "{new}", "--iterations", "0"],
            "iterations",
        ),
        (["finetune", "--model", "{ann}", "--data", "{pictures}", "--output", "{new}"], "nothing to learn"),
        (["demo", "--levels", "0", "--output", "{new}"], "levels is 0"),
    ],
)
def test_input_that_cannot_be_used(
    words: list[str], named: str, places: Any, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # default outputs
    done = run(*(word.format(**places._asdict(), new=tmp_path / "new") for word in words))
    assert done.code == 2
    assert done.err.startswith("sj-lowlat: error: ") and named in done.err and "Traceback" not in done.err


def test_several_sizes_and_commands_are_recorded(places: Any, run: Run, tmp_path: Path) -> None:
    words = (
        "--model",
        places.ann,
        "--teacher",
        places.quant,
        "--data",
        places.pictures,
        "--output",
        tmp_path,
    )
    done = run("finetune", *words, *TRAIN, "--iterations", 1, "--size", "[32,64]")
    assert done.code == 0, done.err
    record = read(tmp_path / "finetune.json")
    assert record["config"]["size"] == [32, 64] and record["command"][0] == "sj-lowlat"
    assert all(name.startswith("distil") or name in ("total", "gradient") for name in record["losses"])


def test_demo(run: Run, tmp_path: Path) -> None:
    small = ("--train-images", 2, "--test-images", 2, "--size", 64, "--width", 0.125, "--iterations", 2)
    done = run("demo", *small, "--quant-iterations", 1, "--levels", 2, "--output", tmp_path)
    assert done.code == 0, done.err
    assert "Quant ANN" in done.out and str(tmp_path) in done.out
    assert read(tmp_path / "demo.json")["command"][:2] == ["sj-lowlat", "demo"]
