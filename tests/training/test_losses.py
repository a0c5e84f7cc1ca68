from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sj_lowlat.detect import HeadSpec, decode
from sj_lowlat.detect.heads import boxes_of, split_head
from sj_lowlat.errors import InputError
from sj_lowlat.training.losses import BOX_GAIN, IGNORE_IOU, Targets, assign, detection_loss


def specs(kind: str = "yolo") -> tuple[HeadSpec, HeadSpec]:
    return (HeadSpec(((40.0, 40.0), (60.0, 30.0)), 32, 3, kind), HeadSpec(((12.0, 12.0),), 16, 3, kind))


def random_case(seed: int, count: int, pictures: int = 2) -> tuple[list[Tensor], Targets]:
    generator = torch.Generator().manual_seed(seed)
    maps = [
        torch.randn(pictures, spec.channels, 96 // spec.stride, 96 // spec.stride, generator=generator)
        for spec in specs()
    ]
    corner = torch.rand(count, 2, generator=generator) * 60
    boxes = torch.cat((corner, corner + 4 + torch.rand(count, 2, generator=generator) * 50), 1)
    labels = torch.randint(0, 3, (count,), generator=generator)
    return maps, Targets(boxes, labels, torch.randint(0, pictures, (count,), generator=generator))


def iou(a: list[float], b: list[float]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inter = max(wide, 0) * max(high, 0)
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def ciou_loss(a: list[float], b: list[float]) -> float:
    """1 - CIoU, Eq. (8)-(11) of arXiv:1911.08287, in plain Python."""
    centres = [((p[0] + p[2]) / 2, (p[1] + p[3]) / 2) for p in (a, b)]
    distance = (centres[0][0] - centres[1][0]) ** 2 + (centres[0][1] - centres[1][1]) ** 2
    diagonal = (max(a[2], b[2]) - min(a[0], b[0])) ** 2 + (max(a[3], b[3]) - min(a[1], b[1])) ** 2
    angles = [math.atan((p[2] - p[0]) / (p[3] - p[1])) for p in (a, b)]
    v = 4 / math.pi**2 * (angles[0] - angles[1]) ** 2
    overlap = iou(a, b)
    return 1 - overlap + distance / diagonal + v * v / (1 - overlap + v + 1e-12)


def bce(logit: float, truth: float) -> float:
    return math.log1p(math.exp(-abs(logit))) + max(logit, 0) - logit * truth


def oracle(maps: list[Tensor], heads: tuple[HeadSpec, ...], targets: Targets) -> dict[str, float]:
    """Cell by cell in plain Python; assignments are tested elsewhere and taken from the package."""
    boxes, labels, image = targets.boxes.tolist(), targets.labels.tolist(), targets.image.tolist()
    assigned = assign(targets, heads, [(m.shape[2], m.shape[3]) for m in maps])
    total = {"box": 0.0, "objectness": 0.0, "classes": 0.0}
    for head_map, spec, given_cells in zip(maps, heads, assigned, strict=True):
        owner = dict(zip(given_cells.cell.tolist(), given_cells.target.tolist(), strict=True))
        weight = 1 / max(len(owner), len(head_map)) / len(heads)
        values, rows, columns = 5 + spec.num_classes, head_map.shape[2], head_map.shape[3]
        cell = 0
        for n in range(len(head_map)):
            for a, (aw, ah) in enumerate(spec.anchors):
                for r in range(rows):
                    for c in range(columns):
                        t = head_map[n, a * values : (a + 1) * values, r, c].tolist()
                        x, y = ((1 / (1 + math.exp(-t[i])) + (c, r)[i]) * spec.stride for i in (0, 1))
                        w, h = aw * math.exp(t[2]), ah * math.exp(t[3])
                        box = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
                        overlaps = [iou(box, boxes[g]) for g in range(len(boxes)) if image[g] == n]
                        if cell in owner:
                            g = owner[cell]
                            total["box"] += BOX_GAIN * weight * ciou_loss(box, boxes[g])
                            total["objectness"] += weight * bce(t[4], 1)
                            if spec.kind == "region":
                                total["classes"] -= weight * math.log(
                                    math.exp(t[5 + labels[g]]) / sum(math.exp(v) for v in t[5:])
                                )
                            else:
                                total["classes"] += weight * sum(
                                    bce(t[5 + k], k == labels[g]) for k in range(spec.num_classes)
                                )
                        elif max(overlaps, default=0) <= IGNORE_IOU:
                            total["objectness"] += weight * bce(t[4], 0)
                        cell += 1
    return total


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(0, 8), kind=st.sampled_from(["yolo", "region"]))
def test_against_a_loop(seed: int, count: int, kind: str) -> None:
    maps, targets = random_case(seed, count)
    found = detection_loss(maps, specs(kind), targets)
    wanted = oracle(maps, specs(kind), targets)
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        assert value.item() == pytest.approx(wanted[name], rel=1e-4, abs=1e-5), name


def test_ciou_by_hand() -> None:
    # equal shapes, 10 px apart: IoU 1/3, distance 100, diagonal 30^2 + 20^2
    assert ciou_loss([0, 0, 20, 20], [10, 0, 30, 20]) == pytest.approx(1 - 1 / 3 + 100 / 1300)
    spec = HeadSpec(((20.0, 20.0),), 32, 1)
    maps = [torch.zeros(1, 6, 2, 2)]  # centre (16, 16), size of the anchor: 6..26
    targets = Targets(torch.tensor([[16.0, 6.0, 36.0, 26.0]]), torch.tensor([0]), torch.tensor([0]))
    found = detection_loss(maps, (spec,), targets)  # centre x 26: the first cell
    assert found["box"].item() == pytest.approx(BOX_GAIN * (1 - 1 / 3 + 100 / 1300), rel=1e-5)
    assert found["objectness"].item() == pytest.approx(4 * math.log(2), rel=1e-5)
    assert found["classes"].item() == pytest.approx(math.log(2), rel=1e-5)


def test_a_free_cell_on_an_object_is_not_taught_to_be_empty() -> None:
    spec = HeadSpec(((20.0, 20.0), (18.0, 18.0), (200.0, 200.0)), 32, 1)
    head_map = torch.zeros(1, 18, 1, 1)
    head_map[0, 12 + 2 : 12 + 4] = math.log(
        0.1
    )  # the third anchor, too large to be assigned, predicts 20 x 20
    targets = Targets(torch.tensor([[6.0, 6.0, 26.0, 26.0]]), torch.tensor([0]), torch.tensor([0]))
    found = detection_loss([head_map], (spec,), targets)
    assert found["objectness"].item() == pytest.approx(2 * math.log(2) / 2, rel=1e-5)


def test_boxes_are_those_of_decode() -> None:
    maps, _ = random_case(5, 0)
    maps[0][0, 2] = 30.0  # beyond the largest size that is decoded
    boxes = torch.cat(
        [boxes_of(split_head(m, s), s).flatten(1, 3) for m, s in zip(maps, specs(), strict=True)], 1
    )
    torch.testing.assert_close(boxes, decode(maps, specs())[0])


def test_gradients_reach_every_channel_of_an_answering_anchor() -> None:
    maps, targets = random_case(3, 6)
    for head_map in maps:
        head_map.requires_grad_(True)
    sum(detection_loss(maps, specs(), targets).values()).backward()  # type: ignore[union-attr]
    for head_map in maps:
        assert head_map.grad is not None
        assert head_map.grad.isfinite().all()
        assert (head_map.grad.abs().amax((0, 2, 3)) > 0).all()


def test_no_objects_leave_objectness_alone() -> None:
    maps, targets = random_case(1, 0)
    found = detection_loss(maps, specs(), targets)
    assert found["box"] == found["classes"] == 0
    assert found["objectness"] > 0


def test_bad_maps_are_refused() -> None:
    maps, targets = random_case(1, 2)
    with pytest.raises(InputError, match="1 maps and names 2 head_specs"):
        detection_loss(maps[:1], specs(), targets)
    with pytest.raises(InputError, match="needs \\[N"):
        detection_loss(maps[::-1], specs(), targets)
