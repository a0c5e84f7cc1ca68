from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sj_lowlat.detect import HeadSpec
from sj_lowlat.training.losses import Targets, assign

SPECS = (
    HeadSpec(((81.0, 82.0), (135.0, 169.0), (344.0, 319.0)), 32, 4),
    HeadSpec(((23.0, 27.0), (37.0, 58.0)), 16, 4),
)


def oracle(boxes: list[list[float]], image: list[int], size: int) -> list[dict[tuple[int, ...], set[int]]]:
    """Per head: (image, anchor, row, column) -> the objects that fit it best; several only on a tie."""
    claims: list[dict[tuple[int, ...], list[tuple[float, int]]]] = [{} for _ in SPECS]
    for g, (x1, y1, x2, y2) in enumerate(boxes):
        w, h = x2 - x1, y2 - y1
        fits = {}
        for s, spec in enumerate(SPECS):
            for a, (aw, ah) in enumerate(spec.anchors):
                inter = min(w, aw) * min(h, ah)
                fits[s, a] = inter / (w * h + aw * ah - inter)
        best = max(fits, key=lambda key: fits[key])
        for (s, a), fit in fits.items():
            aw, ah = SPECS[s].anchors[a]
            if max(w / aw, aw / w, h / ah, ah / h) < 4 or (s, a) == best:
                cells = size // SPECS[s].stride
                column = min(int((x1 + x2) / 2 / SPECS[s].stride), cells - 1)
                row = min(int((y1 + y2) / 2 / SPECS[s].stride), cells - 1)
                claims[s].setdefault((image[g], a, row, column), []).append((fit, g))
    return [
        {cell: {g for fit, g in found if fit > max(found)[0] - 1e-5} for cell, found in head.items()}
        for head in claims
    ]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(0, 30))
def test_against_a_loop(seed: int, count: int) -> None:
    size, pictures = 160, 3
    generator = torch.Generator().manual_seed(seed)
    # whole pixels plus 1/8: sums are exact in float32, so that both sides see the same cell
    corner = torch.randint(0, 150, (count, 2), generator=generator) + 0.125
    sides = torch.randint(1, 60, (count, 2), generator=generator).float() ** 1.5
    boxes = torch.cat((corner, (corner + (sides * 8).round() / 8).clamp(max=size)), 1)
    image = torch.randint(0, pictures, (count,), generator=generator)
    grids = [(size // spec.stride, size // spec.stride) for spec in SPECS]
    found = assign(Targets(boxes, torch.zeros(count, dtype=torch.int64), image), SPECS, grids)
    wanted = oracle(boxes.tolist(), image.tolist(), size)
    for spec, (rows, columns), have, want in zip(SPECS, grids, found, wanted, strict=True):
        shape = (pictures, len(spec.anchors), rows, columns)
        cells = [tuple(int(i) for i in torch.unravel_index(c, shape)) for c in have.cell]
        assert sorted(cells) == sorted(want)
        assert cells == sorted(cells)
        for cell, target in zip(cells, have.target.tolist(), strict=True):
            assert target in want[cell]


def test_every_object_has_an_anchor_even_if_none_is_near() -> None:
    targets = Targets(torch.tensor([[1.0, 1.0, 3.0, 3.0]]), torch.tensor([0]), torch.tensor([0]))
    coarse, fine = assign(targets, SPECS, [(5, 5), (10, 10)])
    assert len(coarse.cell) == 0
    assert fine.cell.tolist() == [0]


def test_a_centre_on_the_far_edge_stays_in_the_map() -> None:
    targets = Targets(torch.tensor([[140.0, 140.0, 180.0, 180.0]]), torch.tensor([0]), torch.tensor([0]))
    for assignment, cells in zip(assign(targets, SPECS, [(5, 5), (10, 10)]), (5, 10), strict=True):
        assert len(assignment.cell)
        assert all(cell % cells == cells - 1 for cell in assignment.cell.tolist())
