"""YOLOX, SSD, RetinaNet and the user's own heads against loops and torchvision's coder."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

from sj_lowlat.detect import (
    AnchorGrid,
    AnchorHead,
    CustomHead,
    Head,
    HeadSpec,
    YOLOXHead,
    decode,
    detections_from_maps,
    register_decode,
)
from sj_lowlat.errors import InputError


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@settings(max_examples=20, deadline=None)
@given(
    classes=st.integers(1, 3),
    sides=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    activated=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_yolox_equals_loop(classes: int, sides: tuple[int, int], activated: bool, seed: int) -> None:
    strides, (height, width) = (8, 16), (16 * sides[0], 16 * sides[1])
    cells = [(s, y, x) for s in strides for y in range(height // s) for x in range(width // s)]
    generator = torch.Generator().manual_seed(seed)
    output = torch.randn(2, len(cells), 5 + classes, generator=generator)
    output[..., 4:] = output[..., 4:].sigmoid() if activated else output[..., 4:]
    boxes, scores = decode(output, [YOLOXHead(classes, strides, (height, width), activated)])
    for n, image in enumerate(output.double().tolist()):
        for (s, y, x), cell, box, score in zip(cells, image, boxes[n], scores[n], strict=True):
            cx, cy, w, h = (cell[0] + x) * s, (cell[1] + y) * s, math.exp(cell[2]) * s, math.exp(cell[3]) * s
            want = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
            p = cell[4:] if activated else [_sigmoid(v) for v in cell[4:]]
            assert box.tolist() == pytest.approx(want, rel=1e-5, abs=1e-4)
            assert score.tolist() == pytest.approx([p[0] * q for q in p[1:]], abs=1e-6)


def test_yolox_maps_are_the_same_cells() -> None:
    maps = [torch.randn(1, 7, 64 // stride, 64 // stride) for stride in (8, 16)]
    rows = torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1)
    one = decode(rows, [YOLOXHead(2, (8, 16), (64, 64))])
    several = decode(maps, [YOLOXHead(2, (8,)), YOLOXHead(2, (16,))])
    for a, b in zip(one, several, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_ssd_equals_torchvision(weights: tuple[float, float, float, float]) -> None:
    generator = DefaultBoxGenerator([[2], [2, 3]], min_ratio=0.2, max_ratio=0.9)
    maps = [torch.zeros(1, 1, 5, 7), torch.zeros(1, 1, 2, 3)]
    anchors = generator(ImageList(torch.zeros(1, 3, 50, 70), [(50, 70)]), maps)[0]
    grids = []
    for found, pairs in zip(maps, generator._wh_pairs, strict=True):
        rows, columns = found.shape[2:]
        sizes = tuple((70 * w, 50 * h) for w, h in pairs.clamp(0, 1).tolist())
        grids.append(AnchorGrid(rows, columns, (70 / columns, 50 / rows), sizes))
    head = AnchorHead(3, tuple(grids), "softmax", True, weights, boxes_first=True)
    moves, values = torch.randn(2, len(anchors), 4), torch.randn(2, len(anchors), 4)
    boxes, scores = decode({"bbox_regression": moves, "cls_logits": values}, [head])
    coder = BoxCoder(weights)
    for n in range(2):
        torch.testing.assert_close(boxes[n], coder.decode_single(moves[n], anchors), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(scores, values.softmax(-1)[..., 1:])


def test_retinanet_equals_torchvision() -> None:
    generator = AnchorGenerator(((32, 40),), ((0.5, 1.0, 2.0),))
    anchors = generator(ImageList(torch.zeros(1, 3, 48, 64), [(48, 64)]), [torch.zeros(1, 1, 6, 8)])[0]
    sizes = tuple((2 * x2, 2 * y2) for _, _, x2, y2 in generator.cell_anchors[0].tolist())
    head = AnchorHead(2, (AnchorGrid(6, 8, (8.0, 8.0), sizes, 0.0),), "sigmoid")
    moves, values = torch.randn(1, len(anchors), 4) * 4, torch.randn(1, len(anchors), 2)
    boxes, scores = decode((values, moves), [head])
    want = BoxCoder((1.0, 1.0, 1.0, 1.0)).decode_single(moves[0], anchors)
    torch.testing.assert_close(boxes[0], want, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(scores, values.sigmoid())


def test_a_decoder_of_ones_own() -> None:
    register_decode("corners", lambda boxes, scores: (boxes, scores))
    boxes = torch.tensor([[[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 4.5], [9.0, 9.0, 12.0, 12.0]]])
    scores = torch.tensor([[[0.9], [0.8], [0.7]]])
    (found,) = detections_from_maps((boxes, scores), [CustomHead("corners", 1, 2)])
    assert found.scores.tolist() == pytest.approx([0.9, 0.7])  # two overlap
    with pytest.raises(
        InputError, match="'corners' returned .* boxes \\[1, M, 4\\] and scores \\[1, M, 2\\]"
    ):
        decode((boxes, scores), [CustomHead("corners", 2, 2)])
    with pytest.raises(InputError, match="not registered"):
        decode(boxes, [CustomHead("of another program", 1)])
    with pytest.raises(InputError, match="a name and a function"):
        register_decode("", lambda: None)


HEADS = [
    HeadSpec(((10.0, 12.0), (20.0, 30.0)), 16, 3, scale_xy=1.05, new_coords=True),
    YOLOXHead(3, (8, 16), (64, 96), activated=True),
    AnchorHead(3, (AnchorGrid(2, 3, (8.0, 8.5), ((4.0, 5.0), (6.0, 7.0)), 0.0),), "sigmoid"),
    CustomHead("mine", 3, 2),
]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_json_holds_every_kind(head: Head) -> None:
    assert Head.from_json(json.loads(json.dumps(head.to_json()))) == head


def test_records_of_version_01_have_one_kind() -> None:
    old = {"anchors": [[10.0, 12.0]], "stride": 16, "num_classes": 3, "kind": "yolo"}
    assert Head.from_json(old) == HeadSpec(((10.0, 12.0),), 16, 3)


@pytest.mark.parametrize(
    ("outputs", "heads", "message"),
    [
        (torch.zeros(1, 4, 8), [YOLOXHead(3, (8,))], "with image_size given"),
        (torch.zeros(1, 5, 8), [YOLOXHead(3, (8,), (16, 16))], r"takes \[N, 4, 8\]; got \[1, 5, 8\]"),
        ((torch.zeros(1, 6, 3), torch.zeros(1, 12, 4)), [HEADS[2]], "12 anchors and 3 classes"),
        (torch.zeros(1, 12, 3), [HEADS[2]], "read 2 maps, and 1 came"),
        ((torch.zeros(1, 4, 8), torch.zeros(1, 2, 4, 4)), [YOLOXHead(3), YOLOXHead(4)], "the same classes"),
        (torch.zeros(1, 4, 8, dtype=torch.int64), [YOLOXHead(3)], "floating point"),
        (torch.full((1, 4, 8), math.nan), [YOLOXHead(3)], "holds NaN"),
    ],
)
def test_outputs_that_do_not_fit(outputs: object, heads: list[Head], message: str) -> None:
    with pytest.raises(InputError, match=message):
        decode(outputs, heads)


def test_bad_values_are_refused() -> None:
    with pytest.raises(InputError, match="1 or more"):
        YOLOXHead(0)
    with pytest.raises(InputError, match="sigmoid, softmax, probabilities"):
        AnchorHead(1, HEADS[2].grids, "raw")
    with pytest.raises(InputError, match="four positive weights"):
        AnchorHead(1, (), "softmax")
    for classes, weights in ((0, (1.0,) * 4), (1, (1.0,) * 3), (1, (1.0, 1.0, 0.0, 1.0))):
        with pytest.raises(InputError, match="four positive weights"):
            AnchorHead(classes, HEADS[2].grids, "sigmoid", weights=weights)
    assert AnchorHead(1, HEADS[2].grids, "sigmoid").num_classes == 1
    with pytest.raises(InputError, match="1 or more"):
        CustomHead("mine", 1, 0)
