"""Detections as pictures, and in notebooks."""

from __future__ import annotations

import base64
import io
import re

import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from sj_lowlat.detect import Detections, draw
from sj_lowlat.errors import InputError


@pytest.fixture
def found() -> Detections:
    image = torch.randint(0, 256, (3, 90, 120), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[20.0, 30, 60, 80], [50.0, 20, 110, 70]])
    record = Detections(boxes, torch.tensor([0.9, 0.1]), torch.tensor([1, 0]), ("a<b>", "dog"), image)
    record.steps, record.milliseconds = 6, 12.6
    return record


def test_plots_all_that_it_holds(found, tmp_path) -> None:
    expected = draw(found.image, found, found.names, min_score=0.0)
    assert torch.equal(pil_to_tensor(found.plot()), expected)
    assert found.save(tmp_path / "x.png") == tmp_path / "x.png"
    assert torch.equal(pil_to_tensor(Image.open(tmp_path / "x.png")), expected)
    assert not torch.equal(pil_to_tensor(found[:1].plot()), expected)
    other = torch.zeros(3, 90, 120, dtype=torch.uint8)
    assert torch.equal(pil_to_tensor(found.plot(other)), draw(other, found, found.names, min_score=0.0))


def test_without_names(found) -> None:
    nameless = Detections(found.boxes, found.scores, found.labels, (), found.image)
    named = draw(found.image, found, ["class 0", "class 1"], min_score=0.0)
    assert torch.equal(pil_to_tensor(nameless.plot()), named)


def test_without_a_picture(found) -> None:
    bare = Detections(found.boxes, found.scores, found.labels, found.names)
    with pytest.raises(InputError, match="hold no picture"):
        bare.plot()
    assert bare._repr_png_() is None and "<img" not in bare._repr_html_()


def test_notebooks_show_picture_and_table(found) -> None:
    assert torch.equal(pil_to_tensor(Image.open(io.BytesIO(found._repr_png_()))), pil_to_tensor(found.plot()))
    html = found._repr_html_()
    (data,) = re.findall(r"data:image/jpeg;base64,([^\"]*)", html)
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (120, 90)
    assert "a&lt;b&gt;" in html and "a<b>" not in html and "<td>dog</td><td>0.90</td>" in html
    assert "2 detections, 6 steps, 13 ms" in html
