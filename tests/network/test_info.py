"""What is known of a network, whatever it is wrapped in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from sj_lowlat.detect import HeadSpec
from sj_lowlat.errors import InputError
from sj_lowlat.network import NetworkInfo, heads_of, info_of, schedule_for, unwrapped
from sj_lowlat.schedule import Schedule

HEADS = (HeadSpec(((10.0, 20.0),), 16, 2),)


def network(**fields: Any) -> nn.Module:
    model: Any = nn.Conv2d(3, 7, 1)
    model.info = NetworkInfo(heads=HEADS, class_names=("cat", "dog"), **fields)
    return model


def of_ones_own() -> nn.Module:
    model: Any = nn.Sequential(nn.Conv2d(3, 7, 1))
    model.head_specs, model.class_names = list(HEADS), ["cat", "dog"]
    model.input_shape, model.stride = [3, 64, 64], 32
    return model


def compiled(model: nn.Module) -> nn.Module:
    """Wrapped as ``torch.compile`` does it; nothing is compiled before the first call."""
    return torch.compile(model)  # type: ignore[return-value]


WRAPPERS: list[Callable[[nn.Module], nn.Module]] = [
    lambda model: model,
    nn.DataParallel,
    compiled,
    lambda model: compiled(nn.DataParallel(model)),
    lambda model: nn.Sequential(nn.Identity(), model),
    lambda model: nn.Sequential(nn.Sequential(nn.ReLU(), nn.DataParallel(model))),
]


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_a_wrapped_network_is_known(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = network(levels=8, stride=32)
    assert info_of(wrap(model)) is model.info
    own = info_of(wrap(of_ones_own()))
    assert own.heads == HEADS == heads_of(wrap(of_ones_own())) and own.class_names == ("cat", "dog")
    assert own.input_shape == (3, 64, 64) and own.size == 64 and own.stride == 32


def test_only_wrappers_are_taken_off() -> None:
    model = network()
    assert unwrapped(compiled(nn.DataParallel(model))) is model
    container = nn.Sequential(model)
    assert unwrapped(container) is container


def test_two_networks_in_a_container_are_refused() -> None:
    for pair in ((network(), network()), (network(), of_ones_own()), (of_ones_own(), of_ones_own())):
        with pytest.raises(InputError, match="Sequential holds 2 networks.*give one of them"):
            info_of(nn.Sequential(*pair))
    twice = network()
    assert info_of(nn.Sequential(twice, twice)) is twice.info


def test_a_network_that_says_nothing() -> None:
    for model in (nn.ReLU(), nn.Conv2d(3, 1, 1, stride=2), nn.Sequential(nn.Conv2d(3, 1, 1, stride=2))):
        assert info_of(model) == NetworkInfo()
    with pytest.raises(InputError, match=r"ReLU has no head_specs.*set model.head_specs"):
        heads_of(nn.ReLU())


def test_the_networks_own_schedule_is_the_default() -> None:
    own = Schedule(4, 2, 4, 8)
    assert schedule_for(network(levels=8, schedule=own)) == own
    assert schedule_for(nn.Sequential(network(levels=8, schedule=own))) == own
    assert schedule_for(network(levels=8)) == Schedule(8, charge=8)
    with pytest.raises(InputError, match="does not know its levels: give time_steps"):
        schedule_for(network())


def test_the_charge_is_that_of_the_levels() -> None:
    assert schedule_for(network(levels=8, schedule=Schedule(4, 2))) == Schedule(4, 2, charge=8)
    assert schedule_for(network(levels=8), "4+2b4") == Schedule(4, 2, 4, 8)
    assert schedule_for(network(levels=8), Schedule(4, charge=16)) == Schedule(4, charge=16)
    assert schedule_for(network(), 16) == Schedule(16, charge=16)


def test_changes() -> None:
    model = network(levels=8, schedule=Schedule(4, 2, 4))
    assert schedule_for(model, flush=6, burst=None) == Schedule(4, 6, 4, 8)
    assert schedule_for(model, "3", flush=6) == Schedule(3, 6, 1, 8)
    # time steps by name start from a new schedule, as in version 0.1
    assert schedule_for(model, time_steps=2, flush=1) == Schedule(2, 1, 1, 8)
    assert schedule_for(model, levels=16) == schedule_for(model, charge=16) == Schedule(4, 2, 4, 16)
    with pytest.raises(TypeError, match="'steps'; a schedule has time_steps, flush, burst, charge"):
        schedule_for(model, steps=2)
    with pytest.raises(InputError, match="flush is -1"):
        schedule_for(model, flush=-1)
    with pytest.raises(InputError, match="'fast'"):
        schedule_for(model, "fast")
