"""One word opens a network, one call finds objects in pictures of any kind."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import sj_lowlat
from sj_lowlat import checkpoint
from sj_lowlat.conversion import convert, prepare, set_precision
from sj_lowlat.data import TrafficDataset, letterbox, read_image
from sj_lowlat.detect import Detections, decode, nms
from sj_lowlat.detector import Detector, load
from sj_lowlat.errors import InputError
from sj_lowlat.evaluation import evaluate
from sj_lowlat.evaluation.gather import network_hash
from sj_lowlat.models import snn_tiny_yolov3
from sj_lowlat.monitors import FiringRateMonitor
from sj_lowlat.network import info_of, unwrapped
from sj_lowlat.pretrained import pack
from sj_lowlat.simulation import simulate
from sj_lowlat.training import finetune

LOW = {"min_score": 0.01}


@pytest.fixture(scope="module")
def scenes() -> TrafficDataset:
    return TrafficDataset(4, size=64, seed=3)


@pytest.fixture(scope="module")
def quant(scenes) -> Any:
    torch.manual_seed(0)
    ann = snn_tiny_yolov3(4, width=0.125, class_names=scenes.class_names, input_size=64)
    with torch.no_grad():
        for module in ann.modules():  # objects everywhere, so that there is something to find
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                module.bias.fill_(0.5)
    return prepare(ann.eval(), 4, torch.stack([scenes[i].image for i in range(4)]) / 255)


@pytest.fixture(scope="module")
def snn(quant) -> Any:
    spiking = convert(quant)
    spiking.schedule = sj_lowlat.Schedule(2, 3, 2)
    return spiking


@pytest.fixture(scope="module")
def detector(snn) -> Detector:
    return Detector(snn, "traffic")


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    picture = torch.randint(
        0, 256, (3, 40, 90), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(tmp_path / "wide.png")
    return tmp_path / "wide.png"


def same(first: Detections, other: Detections) -> bool:
    parts = ("boxes", "scores", "labels")
    return all(torch.equal(getattr(first, part), getattr(other, part)) for part in parts)


def test_finds_what_the_parts_find(detector, snn, scenes, wide) -> None:
    image = read_image(wide)
    x, box = letterbox(image, 64)
    boxes, scores = decode(simulate(snn, x[None], "2+3b2").final, snn.head_specs)
    expected = nms(boxes[0], scores[0], 0.01, 0.45, 100)
    found = detector.detect(wide, **LOW)
    assert len(expected) > 3
    assert torch.equal(found.scores, expected.scores) and torch.equal(found.labels, expected.labels)
    torch.testing.assert_close(found.boxes, box.to_image(expected.boxes))
    assert found.names == scenes.class_names and found.path == str(wide)
    assert torch.equal(found.image, image)
    assert found.steps == 5 and found.milliseconds > 0 and found.spikes is None


def test_a_picture_in_any_form(detector, wide) -> None:
    expected = detector.detect(wide, **LOW)
    array = np.asarray(Image.open(wide))
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    for picture in (str(wide), Image.open(wide), array, tensor, tensor / 255, array / 255):
        assert same(detector.detect(picture, **LOW), expected)


def test_several_pictures(detector, wide) -> None:
    (wide.parent / "deep").mkdir()
    Image.new("RGB", (50, 70), "red").save(wide.parent / "deep" / "red.jpg")
    one, red = detector.detect(wide, **LOW), detector.detect(wide.parent / "deep" / "red.jpg", **LOW)
    for pictures in (wide.parent, str(wide.parent), [wide.parent], [wide.parent / "deep", wide]):
        found = detector.detect(pictures, **LOW)
        assert [Path(each.path).name for each in found] == ["red.jpg", "wide.png"]
        assert same(found[0], red) and same(found[1], one)
    assert [len(each) for each in detector.detect([], **LOW)] == []
    batch = detector.detect([red.image, one.image, one.image], batch_size=2, **LOW)
    for each, alone in zip(batch, (red, one, one), strict=True):
        torch.testing.assert_close(each.scores, alone.scores)
    run = detector.detect_each([wide, wide.parent / "missing.png"], **LOW)
    assert same(next(run), one)  # pictures are read one after another
    with pytest.raises(FileNotFoundError):
        next(run)


def test_thresholds(detector, wide) -> None:
    every = detector.detect(wide, min_score=0, iou=1, max_detections=10_000)
    assert len(detector.detect(wide, min_score=0, iou=1, max_detections=3)) == 3
    bound = float(every.scores[len(every) // 2])
    assert (detector.detect(wide, min_score=bound).scores > bound).all()
    counts = [len(detector.detect(wide, min_score=0, iou=iou, max_detections=10_000)) for iou in (0, 0.5, 1)]
    assert counts[0] < counts[1] < counts[2] == len(every)


def test_classes(detector, wide) -> None:
    every = detector.detect(wide, max_detections=10_000, **LOW)
    name = every[-1].name
    mine = every[name]
    assert 0 < len(mine) < len(every)
    assert same(detector.detect(wide, classes=name, max_detections=10_000, **LOW), mine)
    # the limit counts what is left
    assert same(detector.detect(wide, classes=[mine[0].label], max_detections=2, **LOW), mine[:2])


def test_schedules(detector, wide) -> None:
    assert [detector.detect(wide, schedule=s).steps for s in (None, 3, "1+1", sj_lowlat.Schedule(2))] == [
        5, 3, 2, 2
    ]  # fmt: skip
    early = detector.detect([wide], schedule="2+20", stop="stable", min_score=0.9)[0]
    assert early.steps < 22


def test_counts_spikes(detector, snn, wide) -> None:
    Image.new("RGB", (50, 70), "red").save(wide.parent / "red.jpg")
    files = sorted(wide.parent.iterdir())
    found = detector.detect(files, count_spikes=True, batch_size=2)
    for each, file in zip(found, files, strict=True):
        with FiringRateMonitor(snn) as rates:
            simulate(snn, letterbox(read_image(file), 64)[0][None], snn.schedule)
        assert each.spikes == sum(layer.spikes for layer in rates.layers()) > 0


def test_a_network_that_is_not_spiking(quant, wide) -> None:
    plain = Detector(quant)
    x, _ = letterbox(read_image(wide), 64)
    boxes, scores = decode(quant(x[None]), quant.head_specs)
    found = plain.detect(wide, count_spikes=True, **LOW)
    assert torch.equal(found.scores, nms(boxes[0], scores[0], 0.01).scores)
    assert found.steps is None and found.spikes is None and "not spiking" in repr(plain)
    with pytest.raises(InputError, match="for spiking networks"):
        plain.detect(wide, schedule=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_score": 2}, "min_score is 2"),
        ({"iou": -1}, "iou is -1"),
        ({"max_detections": 0}, "max_detections is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"classes": "persn"}, "no class 'persn'"),
        ({"schedule": "x"}, "schedule 'x'"),
        ({"resize": "crop"}, "resize is 'crop'"),
    ],
)
def test_refuses_values(detector, wide, options, message) -> None:
    with pytest.raises(InputError, match=message):
        detector.detect(wide, **options)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (5, "a int is no picture"),
        (None, "a NoneType is no picture"),
        ([3.0], "a float is no picture"),
        (np.zeros((3, 8, 9), np.uint8), r"transpose\(1, 2, 0\)"),
        (torch.zeros(8, 9, 3), r"permute\(2, 0, 1\)"),
        (torch.zeros(2, 3, 8, 9), r"list\(tensor\)"),
        (np.zeros((8, 9, 5), np.uint8), "no picture"),
        (torch.full((3, 8, 8), 200.0), "from 200 to 200"),
        (torch.full((3, 8, 8), torch.nan), "from nan"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), "int64"),
        (Image.new("F", (8, 8)), "floating-point"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_refuses_what_is_no_picture(detector, picture, message) -> None:
    with pytest.raises(InputError, match=message):
        detector.detect(picture)


def test_refuses_a_picture_of_pil_that_is_cut_off(detector, wide) -> None:
    wide.write_bytes(wide.read_bytes()[:4000])
    with pytest.raises(InputError, match="picture of PIL cannot be used"):
        detector.detect(Image.open(wide))


def test_no_detector() -> None:
    with pytest.raises(InputError, match="no head_specs"):
        Detector(nn.Sequential(nn.Conv2d(3, 4, 1))).detect(torch.zeros(3, 8, 8))


def test_every_verb_takes_it(detector, snn, quant, scenes, tmp_path) -> None:
    assert unwrapped(detector) is snn and info_of(detector) is snn.info
    images = torch.rand(2, 3, 64, 64)
    for one, other in zip(simulate(detector, images).final, simulate(snn, images).final, strict=True):
        assert torch.equal(one, other)
    assert str(evaluate(detector, scenes, monitored=2)) == str(evaluate(snn, scenes, monitored=2))
    assert network_hash(detector) == network_hash(snn)
    lower = set_precision(detector, "bf16")
    assert lower.info.precision == "bf16"
    plain = Detector(quant)
    assert torch.equal(convert(plain)(images)[0], convert(quant)(images)[0])
    assert (
        pack(plain, tmp_path / "a.safetensors").read_bytes()
        == pack(quant, tmp_path / "b.safetensors").read_bytes()
    )
    trained = Detector(copy.deepcopy(quant))
    options = {"iterations": 1, "batch_size": 2, "size": 64, "precision": "fp32"}
    finetune(trained, scenes, config=sj_lowlat.FinetuneConfig(**options))
    alone = copy.deepcopy(quant)
    finetune(alone, scenes, config=sj_lowlat.FinetuneConfig(**options))
    assert not torch.equal(next(trained.parameters()), next(quant.parameters()))
    assert torch.equal(next(trained.parameters()), next(alone.parameters()))


def test_has_the_networks_names(detector, snn) -> None:
    assert [*detector.state_dict()] == [*snn.state_dict()]
    assert [name for name, _ in detector.named_modules()] == [name for name, _ in snn.named_modules()]
    assert detector.class_names == snn.class_names and detector.input_size == 64
    assert detector.conversion_report is snn.conversion_report
    with pytest.raises(AttributeError, match="nothing"):
        _ = detector.nothing
    assert repr(detector) == "Detector('traffic', spiking, 4 classes, 64 px, schedule 2+3b2)"


def test_attributes_are_set_on_the_network(snn) -> None:
    mine = Detector(copy.deepcopy(snn))
    mine.schedule = sj_lowlat.Schedule(7)
    assert mine.network.info.schedule == mine.schedule == sj_lowlat.Schedule(7) != snn.schedule
    assert mine.train().network.training and not mine.eval().network.training


@pytest.mark.parametrize("again", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_is_copied_and_pickled(detector, wide, again) -> None:
    other = again(detector)
    assert other.network is not detector.network and other.name == "traffic"
    assert same(other.detect(wide, **LOW), detector.detect(wide, **LOW))


def test_opens_what_was_saved_with_its_schedule(quant, wide, tmp_path) -> None:
    spiking = convert(quant)
    spiking.schedule = sj_lowlat.Schedule.parse("2+3b2")
    for folder, network in (("a", spiking), ("b", Detector(spiking))):
        sj_lowlat.save(network, tmp_path / folder)
        opened = load(tmp_path / folder)
        assert isinstance(opened, Detector) and type(opened.network) is type(spiking)
        assert opened.schedule == spiking.schedule and opened.detect(wide).steps == 5
        assert same(opened.detect(wide, **LOW), Detector(spiking).detect(wide, **LOW))


def test_opens_weights_of_a_network_of_ones_own(tmp_path) -> None:
    own = nn.Sequential(nn.Conv2d(3, 4, 1))
    checkpoint.save(own, tmp_path)
    opened = load(tmp_path, own)
    assert torch.equal(opened[0].weight, own[0].weight) and opened.network is not own


def test_opens_fresh_and_shipped_networks() -> None:
    fresh = load("snn-tiny-yolov3:width=0.125,input_size=64")
    assert fresh.input_size == 64 and not fresh.spiking
    assert sj_lowlat.load is load and len(sj_lowlat.pretrained.names()) == 2
    for name in sj_lowlat.pretrained.names():
        assert load(name).spiking and not load(name, spiking=False).spiking
    with pytest.raises(FileNotFoundError, match="no model 'nowhere'"):
        load("nowhere")
