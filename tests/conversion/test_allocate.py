"""Levels by measured sensitivity under a budget of spikes."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sj_lowlat.conversion import convert, prepare
from sj_lowlat.conversion.allocate import Sensitivity, choose_factors
from sj_lowlat.errors import InputError
from sj_lowlat.layers import QuantReLU
from sj_lowlat.network import GraphNetwork
from sj_lowlat.simulation import simulate

IMAGES = torch.rand(6, 2, 16, 16, generator=torch.Generator().manual_seed(0)).double()


def chain(width: int = 6) -> nn.Module:
    """A large first map with few channels, and small maps behind it."""
    torch.manual_seed(1)
    sizes = [(2, width, 1), (width, 2 * width, 2), (2 * width, 2 * width, 1), (2 * width, 3 * width, 2)]
    layers = [
        layer
        for inner, outer, stride in sizes
        for layer in (nn.Conv2d(inner, outer, 3, stride, 1), nn.LeakyReLU(0.1))
    ]
    return nn.Sequential(*layers, nn.Conv2d(3 * width, 4, 1)).double().eval()


@torch.no_grad()
def error_and_spikes(quant: GraphNetwork, net: nn.Module) -> tuple[float, float]:
    spikes = 0.0

    def count(module: QuantReLU, args: object, out: torch.Tensor) -> None:
        nonlocal spikes
        spikes += float((out.abs() / module.clip * module.levels).sum())

    for module in quant.modules():
        if isinstance(module, QuantReLU):
            module.register_forward_hook(count)
    return float((quant.eval()(IMAGES) - net(IMAGES)).square().mean()), spikes


def test_less_error_for_the_same_spikes() -> None:
    net = chain()
    auto = prepare(net, 4, IMAGES, scale="mse", budget=16)
    factors = {module.levels // 4 for module in auto.modules() if isinstance(module, QuantReLU)}
    assert len(factors) > 1 and auto.levels == 4
    error, spikes = error_and_spikes(auto, net)
    uniform = [error_and_spikes(prepare(net, levels, IMAGES, scale="mse"), net) for levels in range(4, 25)]
    assert spikes <= 1.05 * uniform[16 - 4][1]
    assert error < 0.9 * min(other for other, cost in uniform if cost <= spikes)


def test_it_is_repeatable_and_settles() -> None:
    net = chain(3)
    one, other = (prepare(net, 2, IMAGES, scale="mse", budget=9.5).eval() for _ in "ab")
    ours, theirs = one.state_dict(), other.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    snn = convert(one)
    bursts = [node.burst for node in snn.modules() if hasattr(node, "burst")]
    assert bursts == [m.levels // 2 for m in one.modules() if isinstance(m, QuantReLU)] and max(bursts) > 1
    with torch.no_grad():
        want = one(IMAGES)
    torch.testing.assert_close(simulate(snn, IMAGES, 2, flush=40).final, want)


@given(
    rows=st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=1, max_size=4),
    budget=st.floats(1, 20),
)
def test_the_budget_is_kept(rows: list[tuple[float, float]], budget: float) -> None:
    given = {str(place): Sensitivity(*row) for place, row in enumerate(rows)}
    factors = choose_factors(given, budget)
    assert set(factors.values()) <= {1, 2, 4, 8, 16}
    cost = sum(own.spikes * factors[name] for name, own in given.items())
    assert cost <= budget * sum(own.spikes for own in given.values()) * (1 + 1e-9)


def test_equal_spikes_make_the_greedy_choice_the_best() -> None:
    given = {name: Sensitivity(error, 1.0) for name, error in zip("abcd", (9.0, 3.0, 1.0, 0.1), strict=True)}

    def error(factors: tuple[int, ...]) -> float:
        return sum(own.error / factor**2 for own, factor in zip(given.values(), factors, strict=True))

    for total in range(4, 24):
        chosen = tuple(choose_factors(given, total / 4).values())
        spent = sum(chosen)
        allowed = (f for f in itertools.product((1, 2, 4, 8, 16), repeat=4) if sum(f) <= spent)
        assert error(chosen) == min(map(error, allowed))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 2}, "budget is 2, it must be at least the levels, 4"),
        ({"budget": float("nan")}, "budget is nan"),
        ({"budget": 8, "finer": {"1": 2}}, "leave one out"),
    ],
)
def test_bad_budgets(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare(chain(2), 4, IMAGES, **options)


def test_auto_is_half_of_the_budget() -> None:
    net = chain(2)
    for auto, same in (({}, {"budget": 32}), ({"budget": 9.5}, {"budget": 9.5})):
        one = prepare(net, "auto", IMAGES, **auto)
        other = prepare(net, 16 if not auto else 4, IMAGES, **same)
        assert one.levels == other.levels
        ours, theirs = one.state_dict(), other.state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    with pytest.raises(InputError, match="levels is 'many', it must be a whole number or \"auto\""):
        prepare(net, "many", IMAGES)
    with pytest.raises(InputError, match="at least 2"):
        prepare(net, "auto", IMAGES, budget=1)


def test_a_prepared_network_is_refused() -> None:
    with pytest.raises(InputError, match="are for a network that is not prepared yet"):
        prepare(prepare(chain(2), 4, IMAGES), 4, IMAGES, budget=8)
