"""Who does what in several processes, and what cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sj_lowlat import distributed
from sj_lowlat.errors import InputError
from sj_lowlat.evaluation import shares
from sj_lowlat.zoo import find_device


def of_each(number: int, call: Callable[..., Any], *args: Any) -> list[Any]:
    """What a call gives in each of so many processes."""
    found = []
    for own in range(number):
        with pytest.MonkeyPatch.context() as patch:
            for module in (distributed, shares):
                patch.setattr(module, "processes", lambda: number)
                patch.setattr(module, "rank", lambda own=own: own)
            found.append(call(*args))
    return found


@given(number=st.integers(1, 9), count=st.integers(0, 40))
def test_a_batch_is_shared_in_order(number: int, count: int) -> None:
    if count < number:
        with pytest.raises(InputError, match=f"{count} cannot be shared by {number} processes: make"):
            of_each(number, distributed.share, count)
        return
    parts = of_each(number, distributed.share, count)
    assert [place for part in parts for place in part] == list(range(count))
    sizes = {len(part) for part in parts}
    assert max(sizes) - min(sizes) <= 1


@given(
    number=st.integers(1, 5), count=st.integers(1, 60), batch=st.integers(1, 7), monitored=st.integers(0, 70)
)
def test_each_image_is_one_process(number: int, count: int, batch: int, monitored: int) -> None:
    parts = of_each(number, shares.own_images, count, batch, monitored)
    assert sorted(image for part in parts for image in part) == list(range(count))
    assert parts[0][: min(monitored, count)] == list(range(min(monitored, count)))
    batches = [list(range(first, min(first + batch, count))) for first in range(0, count, batch)]
    loads = []
    for part in parts:  # whole batches, in order
        cut = [part[first : first + batch] for first in range(0, len(part), batch)]
        assert all(each in batches for each in cut) and part == sorted(part)
        loads.append(len(cut))
    if not monitored:
        assert max(loads) - min(loads) <= 1
    records = [(part, [f"image {i}" for i in part]) for part in parts]
    assert shares.in_order(records) == [f"image {i}" for i in range(count)]


def test_one_process_does_not_talk() -> None:
    value = torch.ones(3)
    assert distributed.total(value) is value and distributed.totals(2, 3) == [2, 3]
    assert distributed.gathered("record") == ["record"] and distributed.is_main()
    layer = torch.nn.Linear(2, 2)
    assert distributed.parallel(layer) is layer
    distributed.check_same({"seed": 1})


def test_each_process_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)

    def own(name: str) -> list[torch.device]:
        found = []
        for local in range(3):
            monkeypatch.setenv("LOCAL_RANK", str(local))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(distributed, "processes", lambda: 3)
                patch.setattr(distributed, "rank", lambda local=local: local)
                found.append(distributed.own_gpu(torch.device(name)))
        return found

    with pytest.raises(InputError, match=r"device is cuda, and this is process 2 of a machine with 2; give"):
        own("cuda")
    assert taken == [0, 1]
    with pytest.raises(InputError, match=r"device is cuda:1, and this is process 0 of a machine with 2"):
        own("cuda:1")
    assert find_device("cpu") == torch.device("cpu")
