"""What is drawn, where, and what is left alone."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from sj_lowlat.detect import Detections, draw, save_image
from sj_lowlat.detect.draw import class_colour
from sj_lowlat.errors import InputError

NAMES = tuple(f"name{i}" for i in range(80))


@pytest.fixture
def image() -> torch.Tensor:
    return torch.full((3, 120, 160), 128, dtype=torch.uint8)


def _detections(*rows: tuple[tuple[float, ...], float, int]) -> Detections:
    boxes, scores, labels = zip(*rows, strict=True)
    return Detections(torch.tensor(boxes), torch.tensor(scores), torch.tensor(labels))


def test_draws_the_outline_in_the_class_colour(image) -> None:
    drawn = draw(image, _detections(((60.0, 40.0, 150.0, 100.0), 0.9, 7)), NAMES)
    assert tuple(drawn[:, 100, 100].tolist()) == class_colour(7)
    assert tuple(drawn[:, 80, 60].tolist()) == class_colour(7)
    outside = torch.ones(120, 160, dtype=torch.bool)
    outside[20:101, 60:151] = False  # the label lies above the box
    assert (drawn[:, outside] == 128).all() and (image == 128).all()
    assert (drawn[:, 41:100, 90:150][:, 10:50, 10:50] == 128).all()


def test_label_shows_name_and_score(image) -> None:
    box = (10.0, 30.0, 150.0, 110.0)
    first, other = (
        draw(image, _detections((box, 0.91, 1)), NAMES),
        draw(image, _detections((box, 0.34, 1)), NAMES),
    )
    changed = (first != other).any(0).nonzero()
    assert len(changed) and changed[:, 0].max() < 30  # the score, in the label above the box
    ink = (first[:, 15:30, 10:100].float() - torch.tensor(class_colour(1)).view(3, 1, 1)).abs().sum(0)
    assert (ink > 200).sum() > 40  # letters stand out from their ground
    renamed = draw(image, _detections((box, 0.91, 1)), ["x", "another"])
    assert not torch.equal(renamed, first)
    assert torch.equal(draw(image, replace(_detections((box, 0.91, 1)), names=NAMES)), first)  # its own names


def test_low_scores_are_left_out(image) -> None:
    low = _detections(((10.0, 10.0, 90.0, 90.0), 0.2, 0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = draw(image, low, NAMES)
    assert torch.equal(drawn, image) and drawn.data_ptr() != image.data_ptr()
    assert not torch.equal(draw(image, low, NAMES, min_score=0.1), image)


def test_best_is_on_top(image) -> None:
    box = (20.0, 20.0, 140.0, 100.0)
    drawn = draw(image, _detections((box, 0.5, 4), (box, 0.9, 3)), NAMES)
    assert tuple(drawn[:, 60, 20].tolist()) == class_colour(3)


def test_boxes_may_reach_out(image) -> None:
    drawn = draw(image, _detections(((-1e6, -1e6, 1e6, 1e6), 0.9, 3)), NAMES)
    assert tuple(drawn[:, 119, 159].tolist()) == class_colour(3)


def test_colours_differ() -> None:
    assert len({class_colour(label) for label in range(80)}) == 80


@pytest.mark.parametrize(
    "bad", [torch.zeros(3, 8, 8), torch.zeros(1, 8, 8, dtype=torch.uint8), torch.zeros(3, 8)]
)
def test_refuses_other_images(bad, tmp_path) -> None:
    with pytest.raises(InputError, match="uint8"):
        draw(bad, _detections(((0.0, 0.0, 4.0, 4.0), 0.9, 0)), NAMES)
    with pytest.raises(InputError, match="uint8"):
        save_image(tmp_path / "x.png", bad)


def test_refuses_a_label_without_name(image) -> None:
    with pytest.raises(InputError, match="label 5"):
        draw(image, _detections(((0.0, 0.0, 4.0, 4.0), 0.9, 5)), NAMES[:5])


def _read(path: Path) -> torch.Tensor:
    with Image.open(path) as file:
        return pil_to_tensor(file)


def test_saves(image, tmp_path) -> None:
    picture = torch.randint(0, 256, (3, 9, 7), dtype=torch.uint8)
    save_image(tmp_path / "deep" / "picture.png", picture)
    assert torch.equal(_read(tmp_path / "deep" / "picture.png"), picture)
    save_image(tmp_path / "flat.jpg", image)
    assert (_read(tmp_path / "flat.jpg").int() - 128).abs().max() <= 2
    drawn = draw(image, _detections(((30.0, 40.0, 150.0, 110.0), 0.9, 0)), NAMES)  # red on grey
    save_image(tmp_path / "flat.jpg", drawn)
    assert (
        _read(tmp_path / "flat.jpg").float() - drawn.float()
    ).abs().mean() < 0.6  # 1.6 at PIL's own quality
    with pytest.raises(InputError, match=r"\.png"):
        save_image(tmp_path / "picture.tiff", picture)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "flat.jpg"]
