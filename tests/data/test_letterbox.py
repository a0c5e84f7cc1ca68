from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sj_lowlat.data import Letterbox, Sample, TrafficDataset, batches, collate, letterbox
from sj_lowlat.errors import InputError

sides = st.integers(1, 900)


@settings(deadline=None, max_examples=150)
@given(
    width=sides,
    height=sides,
    size=st.integers(1, 640),
    resize=st.sampled_from(["letterbox", "stretch"]),
    seed=st.integers(0, 2**31),
)
def test_back_projection_is_exact(width: int, height: int, size: int, resize: str, seed: int) -> None:
    box = Letterbox.fit(width, height, size, resize)
    corners = torch.rand(5, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    boxes = torch.cat([corners.amin(1), corners.amax(1)], dim=1) * torch.tensor([width, height] * 2)
    network = box.to_network(boxes)
    assert ((network >= 0) & (network <= size)).all()
    torch.testing.assert_close(box.to_image(network), boxes, rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=60)
@given(width=st.integers(1, 200), height=st.integers(1, 200), size=st.integers(8, 128))
def test_the_whole_picture_maps_onto_its_pixels(width: int, height: int, size: int) -> None:
    white = torch.full((3, height, width), 255, dtype=torch.uint8)
    square, box = letterbox(white, size)
    assert square.shape == (3, size, size) and square.dtype == torch.float32
    rows, columns = torch.nonzero(square[0] == 1, as_tuple=True)
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert box.to_network(torch.tensor([[0.0, 0, width, height]]))[0].tolist() == pytest.approx(
        [int(s) for s in seen]
    )
    assert set(square.unique().tolist()) <= {0.5, 1.0}
    assert max(seen[2] - seen[0], seen[3] - seen[1]) == size


def test_stretched_pictures_fill_the_input() -> None:
    image = torch.randint(256, (3, 30, 70), dtype=torch.uint8)
    square, box = letterbox(image, 32, "stretch")
    want = torch.nn.functional.interpolate(image[None].float(), (32, 32), mode="bilinear", antialias=True)
    torch.testing.assert_close(square, want[0] / 255, rtol=0, atol=1.01 / 255)  # whole grey values
    assert box.to_network(torch.tensor([[0.0, 0, 70, 30]])).tolist() == [[0, 0, 32, 32]]
    with pytest.raises(InputError, match="resize is 'crop', it must be one of letterbox, stretch"):
        letterbox(image, 32, "crop")


def test_boxes_follow_the_pixels() -> None:
    # a bright block stays under its box when the picture shrinks by a factor that needs rounding
    image = torch.zeros(3, 333, 501, dtype=torch.uint8)
    image[:, 120:240, 60:300] = 255
    square, box = letterbox(image, 200)
    x1, y1, x2, y2 = box.to_network(torch.tensor([60.0, 120, 300, 240])).tolist()
    rows, columns = torch.nonzero((square > 0.6).all(0), as_tuple=True)
    assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == pytest.approx(
        [x1, y1, x2, y2], abs=1.0
    )


def test_a_picture_of_the_right_size_is_untouched() -> None:
    image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    square, box = letterbox(image, 64)
    assert torch.equal(square, image / 255) and (box.scale, box.pad_x, box.pad_y) == (1, 0, 0)


def test_boxes_in_the_padding_are_clipped_to_the_picture() -> None:
    box = Letterbox.fit(100, 50, 100)
    assert box.to_image(torch.tensor([-5.0, 0, 120, 100])).tolist() == [0, 0, 100, 50]


def test_shrinking_is_antialiased() -> None:
    checks = torch.zeros(3, 64, 64, dtype=torch.uint8)
    checks[:, ::2, ::2] = checks[:, 1::2, 1::2] = 255
    assert (letterbox(checks, 16)[0] - 0.5).abs().max() < 0.1


@pytest.mark.parametrize(
    "image", [torch.zeros(3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8), torch.zeros(3, 0, 4).byte()]
)
def test_not_a_picture(image: torch.Tensor) -> None:
    with pytest.raises(InputError, match="uint8"):
        letterbox(image, 32)


def test_size_must_be_positive() -> None:
    with pytest.raises(InputError, match="at least 1"):
        letterbox(torch.zeros(3, 4, 4, dtype=torch.uint8), 0)


def test_collate_stacks_letterboxed_samples() -> None:
    samples = [TrafficDataset(1, size)[0] for size in (48, 64)]
    batch = collate(samples, 40)
    for place, sample in enumerate(samples):
        alone, box = letterbox(sample.image, 40)
        assert torch.equal(batch.images[place], alone) and batch.letterboxes[place] == box
    assert batch.samples == samples


def _order(seed: int, shuffle: bool) -> list[int | str]:
    loader = batches(TrafficDataset(7, 32), 3, 32, shuffle=shuffle, seed=seed)
    assert len(loader) == 3
    return [sample.image_id for batch in loader for sample in batch.samples]


def test_batches_cover_the_set_in_a_seeded_order() -> None:
    before = torch.random.get_rng_state()
    assert _order(0, False) == list(range(7))
    assert _order(1, True) == _order(1, True) != _order(2, True)
    assert sorted(map(int, _order(1, True))) == list(range(7))
    assert torch.equal(before, torch.random.get_rng_state())


def test_workers_give_the_same_batches() -> None:
    data = TrafficDataset(4, 32)
    pairs = zip(batches(data, 2, 32), batches(data, 2, 32, workers=1), strict=True)
    assert all(torch.equal(a.images, b.images) for a, b in pairs)


def test_batch_size_must_be_positive() -> None:
    with pytest.raises(InputError, match="batch_size 0"):
        batches(TrafficDataset(1), 0, 32)


def test_sample_checks_its_shapes() -> None:
    image, flags = torch.zeros(3, 4, 4, dtype=torch.uint8), torch.zeros(1, dtype=torch.bool)
    with pytest.raises(InputError, match=r"\[2, 4\]|labels has the shape \[1\]"):
        Sample(image, torch.zeros(2, 4), torch.zeros(1).long(), flags, flags, 0)
    with pytest.raises(InputError, match=r"give \[M, 4\]"):
        Sample(image, torch.zeros(4), torch.zeros(1).long(), flags, flags, 0)
