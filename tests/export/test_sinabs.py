"""Networks as layers of sinabs: every spike, and what the chip Speck holds against sinabs' own check."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from torch import nn

from sj_lowlat.conversion import convert
from sj_lowlat.errors import ConversionError, InputError
from sj_lowlat.export import run_sinabs, speck_network, speck_plan, to_sinabs
from sj_lowlat.layers import LowLatencyIFNode
from sj_lowlat.network import SpikingNetwork
from sj_lowlat.simulation import simulate
from tests.export.watch import watched

sinabs = pytest.importorskip("sinabs")

BLOCK = st.tuples(
    st.integers(1, 5), st.sampled_from([1, 2, 3]), st.sampled_from([1, 2]), st.sampled_from([0, 0, 2])
)


def spiking(blocks: list[tuple[int, int, int, int]], seed: int) -> SpikingNetwork:
    """A host layer, blocks (channels, kernel, stride, sum pool or 0) and a head; its sums are exact."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Conv2d(3, 2, 1), nn.ReLU()]
    before = 2
    for channels, kernel, stride, pool in blocks:
        layers += [nn.Conv2d(before, channels, kernel, stride, kernel // 2), nn.ReLU()]
        layers += [nn.AvgPool2d(pool, divisor_override=1)] if pool else []
        before = channels
    net = nn.Sequential(*layers, nn.Conv2d(before, 4, 1))
    snn = convert(net, neuron="residual-fix", scale="99%", calibration=torch.rand(4, 3, 16, 12))
    for parameter in snn.parameters():
        parameter.data.copy_((64 * parameter.data).round() / 64)
    return snn


def theirs_of(network: nn.Sequential, images: torch.Tensor, steps: int) -> tuple[list[torch.Tensor], Any]:
    found: dict[nn.Module, torch.Tensor] = {}
    layers = [m for m in network.modules() if isinstance(m, sinabs.layers.IAFSqueeze)]
    for module in layers:
        module.register_forward_hook(lambda m, _i, out: found.update({m: out}))
    map_ = run_sinabs(network, images, steps)
    return [found[module].unflatten(0, (len(images), steps)) for module in layers], map_


@settings(max_examples=20, deadline=None)
@given(st.lists(BLOCK, min_size=1, max_size=3), st.sampled_from([1, 3]), st.booleans(), st.integers(0, 999))
def test_every_spike(blocks: Any, burst: int, rounded: bool, seed: int) -> None:
    images = torch.randint(0, 65, (2, 3, 16, 12), generator=torch.Generator().manual_seed(seed)) / 64
    try:
        snn = spiking(blocks, seed)
    except (RuntimeError, InputError):  # maps smaller than a window
        reject()
    snn = speck_network(snn) if rounded else snn
    network = to_sinabs(snn, f"5+0b{burst}c5", batch_size=2)
    ours, read = watched(snn, images, f"5+0b{burst}c5")
    theirs, their_map = theirs_of(network, images, 5)
    assert len(ours) == len(theirs) == len(blocks) + 1
    assert [type(layer).__name__ for layer in network].count("IAFSqueeze") == len(ours)
    for mine, their in zip(ours.values(), theirs, strict=True):
        assert torch.equal(mine.transpose(0, 1), their)
    assert torch.allclose(read[-1], their_map, atol=1e-4)
    if rounded:  # whole numbers on the chip
        for layer in list(network)[2:-1]:
            assert all(torch.equal(value, value.round()) for value in layer.state_dict().values())
            if isinstance(layer, nn.Conv2d):
                assert max(value.abs().max() for value in layer.parameters()) == 127
            if isinstance(layer, sinabs.layers.IAFSqueeze):
                assert torch.equal(layer.start, layer.spike_threshold / 2)


def test_a_run_starts_anew_whatever_was_before() -> None:
    snn = spiking([(4, 3, 2, 0)], 1)
    network = to_sinabs(snn, "4+0c4")
    images = torch.rand(1, 3, 16, 12)
    states = [layer.v_mem for layer in network if isinstance(layer, sinabs.layers.IAFSqueeze)]
    assert [state.shape for state in states] == [(1, 2, 16, 12), (1, 4, 8, 6)]
    assert all((state == 0.5).all() for state in states)
    again = to_sinabs(snn, "4+0c4", 1)(images.expand(4, -1, -1, -1)).mean(0)
    assert torch.equal(again, run_sinabs(network, images, 4)[0])
    images = torch.rand(3, 3, 16, 12)
    first = run_sinabs(network, images, 4)
    run_sinabs(network, torch.rand(1, 3, 8, 8), 2)
    assert torch.equal(run_sinabs(network, images, 4), first)
    assert torch.allclose(first, simulate(snn, images, "4+0c4").final, atol=1e-5)


def test_a_threshold_for_each_channel_and_linear_layers() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 8), nn.ReLU(), nn.Linear(8, 2)
    )
    snn = convert(net, neuron="if", scale="max", calibration=torch.rand(4, 3, 8, 8))
    for number, module in enumerate(m for m in snn.modules() if isinstance(m, LowLatencyIFNode)):
        module.v_threshold = 0.5 + torch.rand(4 * (number + 1))
        module.set_ratio(torch.rand(4 * (number + 1)))
    images = torch.rand(2, 3, 8, 8)
    ours, read = watched(snn, images, "6+0c6")
    theirs, their_map = theirs_of(to_sinabs(snn, "6+0c6"), images, 6)
    for mine, their in zip(ours.values(), theirs, strict=True):
        assert mine.sum() > 0 and torch.equal(mine.transpose(0, 1), their)
    assert torch.allclose(read[-1], their_map, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 64), st.integers(1, 200), st.integers(1, 16), st.sampled_from([1, 2, 4, 8]),
    st.integers(0, 3), st.integers(16, 128), st.integers(16, 128),
)  # fmt: skip
def test_memory_is_what_sinabs_says(
    before: int, after: int, kernel: int, stride: int, padding: int, height: int, width: int
) -> None:
    from sj_lowlat.export.speck import CORES

    net = nn.Sequential(
        nn.Conv2d(1, before, 1), nn.ReLU(), nn.Conv2d(before, after, kernel, stride, padding), nn.ReLU(),
        nn.Conv2d(after, 1, 1),
    )  # fmt: skip
    calibration = torch.rand(1, 1, height, width)
    snn = convert(net, neuron="if", scale={"1": torch.ones(()), "3": torch.ones(())}, example=calibration)
    check = sinabs.ValidateMapping(
        before, after, (kernel,) * 2, (stride,) * 2, (padding,) * 2, (height, width)
    )
    weights, states, *errors = check.calculate_total_memory()
    fits = any(weights <= most and states <= room for most, room in CORES)
    try:
        plan = speck_plan(snn)
    except ConversionError as error:
        assert "layer '2'" in str(error) and not fits
        return
    (row,) = plan.layers
    # sinabs leaves sides as fractions before it takes their logarithm
    assert row.weights == 1024 * weights and row.states <= 1024 * states
    assert plan.host == ("0", "4")
    if not any(errors) and row.states == 1024 * states:
        assert fits


def test_layers_make_room_for_each_other() -> None:
    # the first, small one may lie anywhere; later ones need the cores of 32 Ki and 64 Ki weights
    snn = spiking([(32, 3, 2, 0), (64, 3, 1, 0), (64, 3, 1, 0), (64, 3, 1, 0)], 0)
    plan = speck_plan(snn)
    assert len({row.core for row in plan.layers}) == 4
    assert [row.core for row in plan.layers][2:] in ([5, 6], [6, 5])
    assert "of" in plan.table() and len(plan.table().splitlines()) == 6
    with pytest.raises(ConversionError, match="no core is left for 65536"):
        speck_plan(spiking([(32, 3, 2, 0)] + [(64, 3, 1, 0)] * 4, 0))


def test_what_does_not_fit_is_named() -> None:
    def converted(*layers: nn.Module, neuron: str = "if") -> SpikingNetwork:
        net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), *layers, nn.Conv2d(2, 1, 1))
        return convert(net, neuron=neuron, scale="max", calibration=torch.rand(1, 3, 16, 12))

    conv = nn.Conv2d(2, 2, 3)
    for snn, message in (
        (converted(nn.Conv2d(2, 2, 3, dilation=2), nn.ReLU()), "layer '2'.*dilation"),
        (converted(nn.Conv2d(2, 2, 3, 3), nn.ReLU()), "layer '2'.*stride"),
        (converted(nn.Conv2d(2, 2, (3, 1)), nn.ReLU()), "layer '2'.*square"),
        (converted(conv, nn.ReLU(), nn.AvgPool2d(2)), "layer '4'.*AvgPool2d"),
        (converted(conv, nn.ReLU(), nn.AvgPool2d(3, divisor_override=1)), "layer '4'.*pool"),
        (converted(nn.ConvTranspose2d(2, 2, 2), nn.ReLU()), "layer '2'.*ConvTranspose2d"),
    ):
        with pytest.raises(ConversionError, match=message):
            speck_plan(snn)
    with pytest.raises(ConversionError, match="layer '1' cannot be a layer of sinabs: SignedIFNode"):
        to_sinabs(converted(neuron="signed"), "4+0c4")
    with pytest.raises(ConversionError, match="ConvTranspose2d"):
        to_sinabs(converted(nn.ConvTranspose2d(2, 2, 2), nn.ReLU()), "4+0c4")
    for schedule in ("4+2c4", "4+0c8"):
        with pytest.raises(InputError, match="constant input and biases: .* such as"):
            to_sinabs(converted(), schedule)
    with pytest.raises(InputError, match="call sj_lowlat.convert first"):
        to_sinabs(nn.Conv2d(1, 1, 1))
    with pytest.raises(InputError, match="spiking network"):
        speck_plan(nn.Conv2d(1, 1, 1))

    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.act, self.b, self.c = (
                nn.Conv2d(3, 2, 1),
                nn.ReLU(),
                nn.Conv2d(2, 1, 1),
                nn.Conv2d(2, 1, 1),
            )

        def forward(self, x: torch.Tensor) -> Any:
            x = self.act(self.a(x))
            return self.b(x), self.c(x)

    with pytest.raises(ConversionError, match="branches here"):
        to_sinabs(convert(Branches(), neuron="if", scale="max", calibration=torch.rand(1, 3, 8, 8)), "4+0c4")
