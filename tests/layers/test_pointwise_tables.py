"""Neurons of any function and their tables: when these are made, and that training and inference agree."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import functional
from torch import nn

from sj_lowlat.conversion import convert, prepare, set_precision
from sj_lowlat.layers import Int8Conv2d, PointwiseIFNode
from sj_lowlat.layers import pointwise as module
from sj_lowlat.simulation import simulate


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The levels of each table that is made."""
    levels: list[int] = []
    make = module.level_table

    def spy(fn: nn.Module, scale: torch.Tensor, number: int, *args: object) -> object:
        levels.append(number)
        return make(fn, scale, number, *args)

    monkeypatch.setattr(module, "level_table", spy)
    return levels


def test_a_table_is_made_anew_when_what_it_was_made_of_changes(made: list[int]) -> None:
    node = PointwiseIFNode(nn.PReLU(), 0.5, 4)
    u = torch.linspace(-20, 20, 101).view(1, -1)

    def right() -> bool:
        exact = copy.deepcopy(node).double()
        want = (exact.target(u.double(), 4) + 0.5).floor().clamp(-4, 4)
        return torch.equal(node.level(u, 4).double(), want)

    assert right() and right() and made == [4]
    node.level(u, 8)
    assert right() and made == [4, 8]
    node.scale.mul_(1.37)
    assert right() and made[2:] == [4]
    with torch.no_grad():
        node.fn.weight.fill_(-0.31)
    assert right() and made[3:] == [4]
    node.fn = nn.Mish()
    assert right() and made[4:] == [4]
    node.load_state_dict({**node.state_dict(), "scale": torch.tensor(0.81)})
    assert right() and made[5:] == [4]
    node.level(u.double(), 4)
    assert made[6:] == [4]
    node.double()
    assert right() and made[7:] == [4]


def test_copies_bring_no_tables(made: list[int]) -> None:
    node, u = PointwiseIFNode(nn.SiLU(), torch.tensor([0.5, 0.7]), 4), torch.randn(3, 2, 5)
    size = len(pickle.dumps(node))
    want = node.level(u)
    assert len(pickle.dumps(node)) == size
    for again in (copy.deepcopy(node), pickle.loads(pickle.dumps(node))):
        assert torch.equal(again.level(u), want)
    assert made == [4] * 3 and "_tables" not in str(node.state_dict())


@settings(max_examples=30)
@given(
    fn=st.sampled_from([nn.SiLU(), nn.Mish(), nn.Hardswish(), nn.PReLU(3), nn.Sigmoid()]),
    levels=st.integers(1, 20),
    burst=st.integers(1, 4),
    per_channel=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_training_and_inference_agree_to_the_last_bit(
    fn: nn.Module, levels: int, burst: int, per_channel: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    scale = torch.rand(3) + 0.2 if per_channel else torch.tensor(0.6)
    node = PointwiseIFNode(fn, scale, levels, step_mode="m", burst=burst, max_count=levels)
    borders = node._table(torch.zeros(1, 3)).steps[..., 0]
    borders = borders[borders.isfinite()]
    x = 3 * torch.randn(6, 2, 3, 4)
    x[0] = borders[torch.randint(len(borders), x[0].shape)]  # U lies on a border
    with torch.no_grad():
        want = node(x)
    functional.reset_net(node)
    needs_grad = x.clone().requires_grad_()
    have = node(needs_grad)
    assert torch.equal(have, want)
    have.sum().backward()
    assert needs_grad.grad is not None and bool(needs_grad.grad.isfinite().all())


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_other_precisions(precision: str) -> None:
    torch.manual_seed(0)
    net, images = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 8, 3), nn.Hardswish(), nn.Conv2d(8, 4, 1)
    ), torch.rand(2, 3, 12, 12)  # fmt: skip
    snn = convert(prepare(net, 8, images))
    low = set_precision(snn, precision)
    nodes = [m for m in low.modules() if isinstance(m, PointwiseIFNode)]
    assert {node.spike_dtype for node in nodes} == {torch.int8 if precision == "int8" else torch.bfloat16}
    assert any(isinstance(m, Int8Conv2d) for m in low.modules()) == (precision == "int8")
    run = {"schedule": "4+8b4", "readout": [4, 12]}
    by_kernel = [simulate(low, images, **run)]
    for node in nodes:
        node.kernel = "reference"
    by_kernel.append(simulate(low, images, **run))
    assert torch.equal(by_kernel[0].final, by_kernel[1].final)
    exact = simulate(snn, images, **run).final
    assert float((by_kernel[0].final - exact).norm() / exact.norm()) < 0.1
