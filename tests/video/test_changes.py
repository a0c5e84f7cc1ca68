"""Dead zones and cuts, against loops over blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sj_lowlat.errors import InputError
from sj_lowlat.video import DeadZone, is_cut


@given(
    height=st.integers(1, 9), width=st.integers(1, 9), block=st.integers(1, 4), seed=st.integers(0, 2**31),
    threshold=st.floats(0.01, 0.6),
)  # fmt: skip
def test_blocks_are_sent_where_their_mean_change_is_large(
    height: int, width: int, block: int, seed: int, threshold: float
) -> None:
    random = np.random.default_rng(seed)
    sent, image = random.random((2, 1, 3, height, width))
    want = sent.copy()
    for top in range(0, height, block):
        for left in range(0, width, block):
            part = np.s_[:, :, top : top + block, left : left + block]
            if np.abs(image[part] - sent[part]).mean() > threshold:
                want[part] = image[part]
    found = DeadZone(threshold, block).update(torch.from_numpy(sent), torch.from_numpy(image))
    np.testing.assert_array_equal(found.numpy(), want)


def test_what_waits_is_sent_later() -> None:
    zone, sent = DeadZone(0.1), torch.zeros(1, 1, 1, 1)
    seen = []
    for grey in (0.04, 0.08, 0.12, 0.16, 0.24):
        sent = zone.update(sent, torch.full_like(sent, grey))
        seen.append(round(float(sent), 2))
    assert seen == [0.0, 0.0, 0.12, 0.12, 0.24]
    image = torch.rand(1, 3, 4, 4)
    assert torch.equal(DeadZone().update(sent.expand(1, 3, 4, 4), image), image)


def test_cuts() -> None:
    one, other = torch.rand(2, 1, 3, 32, 32).unbind()
    # E|x - y| = 1/3 of uniform values, E|x - 1/2| = 1/4: ratio 4/3
    assert is_cut(one, other, 1.2) and not is_cut(one, other, 1.5)
    moved = one.clone()
    moved[..., :8] = other[..., :8]  # a quarter of the picture
    assert not is_cut(one, moved, 1.0) and not is_cut(one, one, 1.0)


@pytest.mark.parametrize("options", [{"threshold": -0.1}, {"threshold": 1.0}, {"block": 0}])
def test_refusals(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        DeadZone(**options)  # type: ignore[arg-type]
