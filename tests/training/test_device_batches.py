"""Batches made on a device show what torchvision's transforms show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from sj_lowlat.data import AugmentedDataset, Sample
from sj_lowlat.errors import InputError
from sj_lowlat.training import FinetuneConfig, finetune
from sj_lowlat.training.device_batches import DeviceBatches, Window, views

CPU = torch.device("cpu")
SAME = {0: 0, 1: 1, 2: 2}
PLAIN = torch.full((1, 3), 0.5)  # no change of colour


def smooth(height: int, width: int, side: int) -> tuple[Tensor, Tensor]:
    """A picture of slow waves, and the square that holds it."""
    y, x = torch.meshgrid(torch.arange(height) / 37, torch.arange(width) / 23, indexing="ij")
    picture = ((torch.stack((y.sin(), x.cos(), (x + y).sin())) + 1) * 127).byte()
    square = torch.zeros(1, 3, side, side, dtype=torch.uint8)
    padded = torch.nn.functional.pad(picture[None].float(), (0, 1, 0, 1), mode="replicate").byte()
    square[:, :, : height + 1, : width + 1] = padded[:, :, :side, :side]
    return picture, square


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(40, 96),
    width=st.integers(40, 96),
    flip=st.booleans(),
    new=st.tuples(st.integers(30, 90), st.integers(-40, 40), st.integers(-40, 40)),
    colours=st.tuples(*[st.floats(0, 0.99)] * 3),
)
def test_views_are_torchvisions(
    height: int, width: int, flip: bool, new: tuple[int, int, int], colours: tuple[float, ...]
) -> None:
    picture, square = smooth(height, width, 96)
    high, top, left = new
    factor = high / height
    wide = round(width * factor)
    corner = torch.tensor([[float(top), float(left)]])
    window = Window(
        torch.tensor([[height, width]]).float(), torch.tensor([factor]), corner, torch.tensor([flip])
    )
    mean = tv.rgb_to_grayscale(picture / 255).mean()
    got = views(square, window, mean[None], torch.tensor([colours]), 64)[0]
    brightness, contrast, saturation = (
        low + (top_ - low) * draw
        for (low, top_), draw in zip(((0.7, 1.3), (0.7, 1.3), (0.6, 1.4)), colours, strict=True)
    )
    want = tv.horizontal_flip(picture) if flip else picture
    want = tv.resize(want / 255, [high, wide], antialias=True)
    want = tv.adjust_brightness(want, brightness)
    want = tv.adjust_contrast(want, contrast)
    want = tv.adjust_saturation(want, saturation)
    shown = torch.full((3, 64, 64), 0.5)
    t, s, bottom, right = max(top, 0), max(left, 0), min(top + high, 64), min(left + wide, 64)
    inner = torch.zeros(64, 64, dtype=torch.bool)
    if bottom > t and right > s:
        shown[:, t:bottom, s:right] = want[:, t - top : bottom - top, s - left : right - left]
        inner[t + 1 : bottom - 1, s + 1 : right - 1] = True  # at edges a width is not a whole number
    outer = torch.ones(64, 64, dtype=torch.bool)
    outer[max(t - 1, 0) : bottom + 1, max(s - 1, 0) : right + 1] = False
    assert (got - shown)[:, inner].abs().amax().item() < 0.06 if inner.any() else True
    assert torch.equal(got[:, outer], shown[:, outer])


def test_a_batch_depends_on_seed_and_step_alone(make_data: Any) -> None:
    config = FinetuneConfig(iterations=9, batch_size=3, size=(32, 64), mix=0.5)
    one, other = (DeviceBatches(make_data(5), config, SAME, CPU) for _ in range(2))
    forward = list(one.load(0, CPU))
    backward = [other[step] for step in reversed(range(9))][::-1]
    for a, b in zip(forward, backward, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert {len(batch.images[0, 0]) for batch in forward} == {32, 64}


def test_boxes_lie_on_their_squares(make_data: Any) -> None:
    """The squares of the data are 255 in their class's channel and 0 in the others, on grey."""
    config = FinetuneConfig(iterations=8, batch_size=4, size=64)
    for batch in DeviceBatches(make_data(6), config, SAME, CPU).load(0, CPU):
        for box, label, image in zip(batch.boxes, batch.labels, batch.image, strict=True):
            x1, y1, x2, y2 = (int(v) for v in box.round())
            inner = batch.images[image, :, y1 + 2 : y2 - 2, x1 + 2 : x2 - 2]
            if inner.numel():
                others = [c for c in range(3) if c != label]
                own, rest = inner[label].median(), inner[others].median()
                assert own - rest > 0.25


def test_large_pictures_are_kept_small(make_data: Any) -> None:
    class Large(type(make_data(1))):  # type: ignore[misc]
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            image = sample.image.repeat_interleave(4, 1).repeat_interleave(4, 2)
            return replace(sample, image=image, boxes=sample.boxes * 4)

    config = FinetuneConfig(batch_size=2, size=64)
    made = DeviceBatches(Large(3), config, SAME, CPU)
    assert made.pictures.shape == (3, 3, 96, 96) and made.extents.tolist() == [[96, 96]] * 3
    assert torch.allclose(made.objects[1][0], make_data(3)[1].boxes * 1.5)


def test_training_with_it(make_detector: Any, make_data: Any, tmp_path: Any) -> None:
    config = FinetuneConfig(iterations=3, batch_size=2, size=64, augment_on_device=True, precision="fp32")
    whole = finetune(make_detector(), make_data(), config=config, output=tmp_path)
    assert (tmp_path / "finetune.json").exists()
    assert not torch.equal(whole.heads[0].weight, make_detector().heads[0].weight)
    with pytest.raises(InputError, match="plain dataset"):
        finetune(make_detector(), AugmentedDataset(make_data(), 64), config=config)
