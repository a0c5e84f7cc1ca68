from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sj_lowlat import distributed
from sj_lowlat.data.augment import AugmentedDataset
from sj_lowlat.errors import InputError
from sj_lowlat.training import FinetuneConfig
from sj_lowlat.training.batches import Batch, BatchMaker, label_map, mixed, picks, places
from sj_lowlat.training.device_batches import DeviceBatches

SAME = {0: 0, 1: 1, 2: 2}
CPU = torch.device("cpu")


@settings(max_examples=50, deadline=None)
@given(length=st.integers(1, 20), batch=st.integers(1, 30), seed=st.integers(0, 99))
def test_every_epoch_takes_every_picture_once(length: int, batch: int, seed: int) -> None:
    taken = [pick for step in range(length) for pick in picks(length, batch, seed, step)]
    assert Counter(taken) == Counter((e, i) for e in range(batch) for i in range(length))
    assert [epoch for epoch, _ in taken] == sorted(epoch for epoch, _ in taken)


def test_orders_differ_by_seed_and_epoch() -> None:
    orders = {tuple(i for _, i in picks(20, 20, seed, step)) for seed in range(3) for step in range(3)}
    assert len(orders) == 9


def test_a_batch_depends_on_seed_and_step_alone(make_data: Any) -> None:
    config = FinetuneConfig(iterations=9, batch_size=3, size=(32, 64))
    one, other = (BatchMaker(make_data(5), config, SAME) for _ in range(2))
    forward = [one[step] for step in range(6)]
    backward = [other[step] for step in reversed(range(6))][::-1]
    for a, b in zip(forward, backward, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert not torch.equal(forward[0].images.mean(), forward[3].images.mean())


def test_workers_give_the_same_and_leave_torch_alone(make_data: Any) -> None:
    before = torch.get_rng_state()
    found = []
    for workers in (0, 1):
        config = FinetuneConfig(iterations=6, batch_size=3, size=64, workers=workers)
        maker = BatchMaker(make_data(5), config, SAME)
        found.append(list(maker.load(2, torch.device("cpu"))))
    assert len(found[0]) == len(found[1]) == 4
    for a, b in zip(*found, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert torch.equal(before, torch.get_rng_state())


def test_items_are_those_of_the_augmented_data(make_data: Any) -> None:
    config = FinetuneConfig(iterations=4, batch_size=3, size=64, seed=7)
    batch = BatchMaker(make_data(4), config, {0: 2, 2: 0})[1]  # green is unknown to the network
    view = AugmentedDataset(make_data(4), 64, 7)
    for n, (epoch, index) in enumerate(picks(4, 3, 7, 1)):
        view.set_epoch(epoch)
        image, boxes, labels = view[index]
        assert torch.equal(batch.images[n], image)
        assert torch.equal(batch.boxes[batch.image == n], boxes[labels != 1])
        assert torch.equal(batch.labels[batch.image == n], 2 - labels[labels != 1])


def test_all_sizes_are_drawn(make_data: Any) -> None:
    maker = BatchMaker(make_data(), FinetuneConfig(batch_size=1, size=(32, 64, 96)), SAME)
    assert {maker[step].images.shape[-1] for step in range(30)} == {32, 64, 96}


def test_an_augmented_dataset_is_taken_as_it_is(make_data: Any) -> None:
    data = AugmentedDataset(make_data(), 64, seed=1, scale=(1.0, 1.0))
    maker = BatchMaker(data, FinetuneConfig(batch_size=2, size=64), SAME)
    assert maker.views == {64: data}
    with pytest.raises(InputError, match="64 px"):
        BatchMaker(data, FinetuneConfig(size=(64, 96)), SAME)


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 6), objects=st.integers(0, 8), seed=st.integers(0, 999))
def test_mixed_pictures_have_the_objects_of_both(count: int, objects: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(count, (objects,), generator=generator)
    boxes = torch.rand(objects, 4, generator=generator)
    labels = torch.arange(objects)
    pictures = torch.eye(count)[:, :, None, None].expand(-1, -1, 2, 2)  # picture i is 1 in channel i
    batch = Batch(pictures, boxes, labels, image)
    config = FinetuneConfig(batch_size=count, mix=0.5, seed=seed)
    got = mixed(batch, config, 0, places(config))
    assert torch.equal(got.images.sum(1), torch.ones(count, 2, 2))
    for i in range(count):
        shares = got.images[i, :, 0, 0]
        blended = bool(shares[i] < 1)
        want = labels[image == i].tolist()
        if blended:
            assert shares[i] >= 0.5 and shares[i - 1] == 1 - shares[i]
            want += labels[image == (i - 1) % count].tolist()
        found = got.labels[got.image == i]
        assert sorted(found.tolist()) == sorted(want)
        assert torch.equal(got.boxes[got.image == i], boxes[found])
    same = mixed(batch, replace(config, mix=0.0), 0, places(config))
    assert all(torch.equal(x, y) for x, y in zip(same, batch, strict=True))


@pytest.mark.parametrize("kind", ["workers", "device"])
@pytest.mark.parametrize("mix", [0.0, 0.7])
def test_any_number_of_processes_makes_the_same_batches(
    kind: str, mix: float, make_data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = FinetuneConfig(batch_size=5, size=(32, 64), mix=mix)

    def made(number: int, own: int) -> list[Batch]:
        monkeypatch.setattr(distributed, "processes", lambda: number)
        monkeypatch.setattr(distributed, "rank", lambda: own)
        data = make_data(7)
        on_device = kind == "device"
        maker = DeviceBatches(data, config, SAME, CPU) if on_device else BatchMaker(data, config, SAME)
        return [maker[step] for step in range(3)]

    want = made(1, 0)
    for number in (2, 4):
        for whole, *parts in zip(want, *(made(number, own) for own in range(number)), strict=True):
            assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
            place = 0
            for part in parts:
                for i in range(len(part.images)):
                    ours, theirs = part.image == i, whole.image == place
                    assert torch.equal(part.boxes[ours], whole.boxes[theirs])
                    assert torch.equal(part.labels[ours], whole.labels[theirs])
                    place += 1
            assert place == 5


def test_no_pictures(make_data: Any) -> None:
    with pytest.raises(InputError, match="no images"):
        BatchMaker(make_data(0), FinetuneConfig(), SAME)


def test_label_map(make_data: Any, make_detector: Any) -> None:
    model: nn.Module = make_detector()
    model.class_names = ("Blue", "Green", "Red")  # type: ignore[assignment]
    assert label_map(make_data(), model) == {0: 2, 1: 1, 2: 0}
    model.class_names = ("cat", "dog", "car")  # type: ignore[assignment]
    with pytest.raises(InputError):
        label_map(make_data(), model)
    del model.class_names
    assert label_map(make_data(), model) == SAME
    assert label_map(make_data(), nn.Sequential(make_detector())) == SAME
    with pytest.raises(InputError, match="3 classes and the network's heads 2"):
        small = make_detector(num_classes=2)
        del small.class_names
        label_map(make_data(), small)
