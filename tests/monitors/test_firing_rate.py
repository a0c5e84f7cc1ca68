from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.neuron import IFNode
from torch import Tensor, nn

from sj_lowlat.errors import InputError
from sj_lowlat.layers import ImbalancedIFNode, ResidualFixIFNode, SignedIFNode
from sj_lowlat.monitors import FiringRateMonitor, RemainderMonitor

NODES = {
    "residual-fix": ResidualFixIFNode,
    "signed": SignedIFNode,
    "imbalanced": lambda: ImbalancedIFNode(slope=0.5),
}
MODES = ["s", "m", "merged"]
Run = Callable[..., Tensor]


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors that a monitor holds, those of the network left out."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors(item)
    elif hasattr(value, "__dict__") and not isinstance(value, nn.Module):
        yield from tensors(vars(value))


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(NODES)),
    mode=st.sampled_from(MODES),
    space=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    presentations=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 3)), min_size=1, max_size=3),
    chunk=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_every_figure_equals_its_definition_on_the_raw_spikes(
    kind: str,
    mode: str,
    space: list[int],
    presentations: list[tuple[int, int]],
    chunk: int,
    seed: int,
    run: Run,
) -> None:
    g = torch.Generator().manual_seed(seed)
    net = nn.Sequential(NODES[kind]())
    oracle = copy.deepcopy(net)
    raw = []
    with FiringRateMonitor(net) as monitor:
        for steps, batch in presentations:
            currents = torch.randn(steps, batch, *space, generator=g) + 0.3
            run(net, currents, mode, chunk)
            raw.append(run(oracle, currents, "s"))  # [T, N, C, *]
    record = monitor["0"]
    channels = space[0]
    spikes = sum(r.abs().sum() for r in raw)
    neuron_steps = sum(r.numel() for r in raw)
    neurons = sum(r[0].numel() for r in raw)
    by_channel = torch.stack([sum(r.select(2, c).abs().sum() for r in raw) for c in range(channels)])
    net_by_channel = torch.stack([sum(r.select(2, c).sum() for r in raw) for c in range(channels)])
    assert record.name == "0"
    assert record.images == sum(batch for _, batch in presentations)
    assert record.neurons == raw[0][0, 0].numel()
    assert record.steps == pytest.approx(neuron_steps / neurons)
    assert record.spikes == spikes
    assert record.negative_spikes == sum((r < 0).sum() for r in raw)
    assert record.rate == pytest.approx(float(spikes) / neuron_steps)
    assert record.net_rate == pytest.approx(float(sum(r.sum() for r in raw)) / neuron_steps)
    assert record.rate_per_channel == pytest.approx((by_channel * channels / neuron_steps).tolist())
    assert record.net_rate_per_channel == pytest.approx((net_by_channel * channels / neuron_steps).tolist())
    assert record.silent == pytest.approx(sum(int((r == 0).all(0).sum()) for r in raw) / neurons)
    assert record.saturated == pytest.approx(sum(int((r != 0).all(0).sum()) for r in raw) / neurons)
    assert record.spikes_per_neuron_and_image == pytest.approx(float(spikes) / neurons)


@pytest.mark.parametrize("mode", MODES)
def test_silent_and_saturated_are_judged_by_whole_presentations(mode: str, run: Run) -> None:
    net = nn.Sequential(ResidualFixIFNode())
    always, never, half = 1.0, 0.0, 0.25  # the last one fires in the first presentation's second step only
    currents = torch.tensor([always, never, half]).expand(3, 1, 3)
    with FiringRateMonitor(net) as monitor:
        run(net, currents, mode)
        once = monitor[0]
        run(net, currents, mode)
    assert (once.silent, once.saturated) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert monitor[0].silent == once.silent and monitor[0].images == 2 * once.images
    assert monitor[0].rate_per_channel == pytest.approx([1.0, 0.0, 1 / 3])


@pytest.mark.parametrize("mode", MODES)
def test_a_new_batch_size_is_a_new_presentation_even_without_a_reset(mode: str, run: Run) -> None:
    net = nn.Sequential(ResidualFixIFNode())
    with FiringRateMonitor(net) as monitor:
        run(net, torch.ones(4, 2, 3), mode)
        run(net, torch.ones(2, 5, 3), mode, reset=False)
    assert (monitor[0].images, monitor[0].spikes) == (7, 4 * 6 + 2 * 15)
    assert monitor[0].saturated == 1.0


def test_reading_does_not_end_a_presentation(run: Run) -> None:
    net = nn.Sequential(ResidualFixIFNode())
    currents = torch.randn(6, 2, 3)
    with FiringRateMonitor(net) as watched, FiringRateMonitor(net) as undisturbed:
        run(net, currents[:3], "s")
        assert watched["0"].steps == 3 and watched["0"].images == 2
        watched.table()
        run(net, currents[3:], "s", reset=False)
    assert watched["0"] == undisturbed["0"] and watched["0"].images == 2


def test_memory_does_not_grow_with_time_and_is_per_channel_after_closing(run: Run) -> None:
    sizes = {}
    for kind in (FiringRateMonitor, RemainderMonitor):
        for steps in (2, 32):
            net = nn.Sequential(ResidualFixIFNode())
            with kind(net) as monitor:
                run(net, torch.randn(steps, 2, 3, 8, 8), "merged")
                held = sum(t.numel() for t in tensors([monitor._running, monitor._sums]))
                sizes[kind, steps] = held
            assert sum(t.numel() for t in tensors([monitor._running, monitor._sums])) <= 4 * 3
        assert sizes[kind, 2] == sizes[kind, 32] <= 3 * 2 * 3 * 8 * 8


@pytest.mark.parametrize("train", [False, True])
def test_nothing_watched_hangs_on_the_graph(train: bool, run: Run) -> None:
    net = nn.Sequential(nn.Linear(3, 4), SignedIFNode()).train(train)
    with FiringRateMonitor(net) as rates, RemainderMonitor(net) as residuals:
        out = run(net, torch.randn(4, 2, 3), "s")
        assert out.requires_grad
        held = list(tensors([rates._running, residuals._running]))
        assert held and not any(t.requires_grad for t in held)
    out.sum().backward()
    assert net[0].weight.grad is not None


def test_closing_removes_the_hooks_and_keeps_what_was_seen(run: Run) -> None:
    net = nn.Sequential(ResidualFixIFNode())
    with FiringRateMonitor(net) as monitor:
        assert net[0]._forward_hooks
        run(net, torch.ones(2, 1, 3), "s")
    assert not net[0]._forward_hooks
    run(net, torch.ones(2, 1, 3), "s")
    assert monitor["0"].spikes == 6


def test_disable_enable_and_clear(run: Run) -> None:
    net = nn.Sequential(ResidualFixIFNode())
    with FiringRateMonitor(net) as monitor:
        monitor.disable()
        run(net, torch.ones(2, 1, 3), "s")
        assert monitor.layers() == []
        monitor.enable()
        run(net, torch.ones(3, 1, 3), "s")
        assert monitor["0"].spikes == 9
        monitor.clear_recorded_data()
        assert monitor.layers() == []


def test_only_the_classes_asked_for_are_watched() -> None:
    net = nn.Sequential(ResidualFixIFNode(), SignedIFNode())
    with FiringRateMonitor(net, SignedIFNode) as monitor:
        net(torch.ones(1, 2))
        functional.reset_net(net)
    assert [layer.name for layer in monitor.layers()] == ["1"]


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="no spiking neuron"):
        FiringRateMonitor(nn.Linear(2, 2))
    with pytest.raises(InputError, match="OutputMonitor"):
        FiringRateMonitor(nn.Sequential(IFNode()), IFNode)
    monitor = FiringRateMonitor(nn.Sequential(ResidualFixIFNode()))
    for key in ("0", "nowhere"):
        with pytest.raises(InputError, match="nothing on layer"):
            monitor[key]


def test_table_json_rates_and_figure(run: Run) -> None:
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), ResidualFixIFNode(), nn.Conv2d(3, 4, 1), SignedIFNode()
    )
    with torch.no_grad(), FiringRateMonitor(net) as monitor:
        run(net, torch.rand(1, 2, 2, 5, 5).expand(4, -1, -1, -1, -1), "s")
    record = json.loads(json.dumps(monitor.to_json()))
    assert [layer["name"] for layer in record["layers"]] == ["1", "3"]
    assert record["layers"][1]["rate"] == monitor["3"].rate
    lines = monitor.table().splitlines()
    assert len(lines) == 4 and len({len(line) for line in lines}) == 1 and "silent" in lines[0]
    figure = monitor.plot()
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights == pytest.approx(list(monitor.rates().values()))
    assert monitor.plot(figure.axes[0]) is figure
    total = sum(layer.spikes for layer in monitor.layers())
    assert monitor.spikes_per_neuron_and_image() == pytest.approx(total / (2 * (75 + 100)))
