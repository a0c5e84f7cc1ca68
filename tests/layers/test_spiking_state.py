"""The neurons as modules: copies, pickles, state dicts, dtypes, devices, SpikingJelly's monitors."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from spikingjelly.activation_based import functional, monitor
from spikingjelly.activation_based.neuron import IFNode
from torch import Tensor, nn

from sj_lowlat.errors import InputError
from sj_lowlat.layers import ImbalancedIFNode, LowLatencyIFNode, ResidualFixIFNode, SignedIFNode

CLASSES = [ResidualFixIFNode, SignedIFNode, ImbalancedIFNode]
every_class = pytest.mark.parametrize("cls", CLASSES)
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]
THRESHOLDS, RATIOS = torch.tensor([0.5, 1.0, 2.5]), torch.tensor([0.0, 0.5, 0.25])


@every_class
@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save"])
@pytest.mark.parametrize("thresholds", [1.25, THRESHOLDS])
def test_copies_go_on_from_the_same_state(
    cls: type[LowLatencyIFNode], how: str, thresholds: float | torch.Tensor
) -> None:
    node, currents = cls(thresholds, step_mode="m"), torch.randn(8, 2, 3) + 0.3
    node(currents[:4])
    if how == "deepcopy":
        twin = copy.deepcopy(node)
    elif how == "pickle":
        twin = pickle.loads(pickle.dumps(node))
    else:
        buffer = io.BytesIO()
        torch.save(node, buffer)
        buffer.seek(0)
        twin = torch.load(buffer, weights_only=False)  # our own bytes
    want, steps = node(currents[4:]), node.steps
    assert torch.equal(twin(currents[4:]), want) and twin.steps == steps  # state of its own
    functional.reset_net(node), functional.reset_net(twin)
    assert torch.equal(twin(currents), node(currents))


@every_class
@pytest.mark.parametrize("used", [False, True])
def test_state_dict_round_trip(cls: type[LowLatencyIFNode], used: bool) -> None:
    source = nn.Sequential(nn.Linear(4, 3), cls(THRESHOLDS, RATIOS, step_mode="m"))
    target = nn.Sequential(nn.Linear(4, 3), cls(torch.ones(3), torch.ones(3), step_mode="m"))
    state = source.state_dict()
    assert torch.equal(state["1.threshold"], THRESHOLDS) and torch.equal(state["1.ratio"], RATIOS)
    assert set(state) == {"0.weight", "0.bias", "1.threshold", "1.ratio"}
    currents = 3 * torch.randn(5, 2, 4)
    with torch.no_grad():
        assert source(currents).any()
        functional.reset_net(source)
        if used:
            target(currents)
        target.load_state_dict(state)
        assert torch.equal(target[1].v, RATIOS * THRESHOLDS)  # without a reset
        assert torch.equal(target(currents), source(currents))


@every_class
@pytest.mark.parametrize("key", ["threshold", "v_threshold"])
def test_state_dicts_of_before(cls: type[LowLatencyIFNode], key: str) -> None:
    """Those had scalars as well, and another name."""
    target = cls()
    target.load_state_dict({key: torch.tensor(3.0), "ratio": torch.tensor(0.25)})
    assert target.v_threshold == 3.0 and target.v == 0.75 and float(target.v_initial) == 0.75
    wide = cls(THRESHOLDS, 0.5)
    wide.load_state_dict({key: 2 * THRESHOLDS, "ratio": torch.tensor(0.25)})
    assert torch.equal(wide.v, 0.5 * THRESHOLDS)


@every_class
def test_state_dicts_of_spikingjellys_neurons_fit_both_ways(cls: type[LowLatencyIFNode]) -> None:
    theirs = nn.Sequential(nn.Linear(4, 3), IFNode(v_reset=None))
    ours = nn.Sequential(nn.Linear(4, 3), cls(0.7, 0.25))
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    assert ours[1].v_threshold == pytest.approx(0.7) and isinstance(ours[1].v_threshold, float)
    wide = nn.Sequential(nn.Linear(4, 3), cls(THRESHOLDS, RATIOS))
    wide.load_state_dict(theirs.state_dict())
    assert torch.equal(wide[1].v_threshold, THRESHOLDS) and torch.equal(wide[1].ratio, RATIOS)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("start", [1.0, THRESHOLDS])
def test_bad_thresholds_do_not_come_in(bad: float, start: float | Tensor) -> None:
    node = ResidualFixIFNode(start)
    with pytest.raises(RuntimeError, match=r"threshold is .* give finite numbers, thresholds above 0"):
        node.load_state_dict({"threshold": torch.full_like(node.threshold, bad)})
    with pytest.raises(RuntimeError, match="the neuron's is"):
        node.load_state_dict({"threshold": torch.ones(5)})
    with pytest.raises(InputError, match="v_threshold must be"):
        node.v_threshold = bad
    assert torch.equal(node.threshold, torch.as_tensor(start))


def test_a_threshold_is_set_as_in_spikingjelly() -> None:
    node = ResidualFixIFNode(1.0).double()
    node.v_threshold = 2.0
    assert node.v_threshold == 2.0 and node.threshold.dtype == torch.float64
    functional.reset_net(node)
    assert node.v == 1.0


def test_changed_thresholds_count_from_the_next_reset() -> None:
    node = ResidualFixIFNode()
    node.threshold.fill_(4.0)
    functional.reset_net(node)
    assert node.v == 2.0


@every_class
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("start", [(THRESHOLDS, RATIOS), (0.7, 0.5)])
def test_16_bit_currents(
    cls: type[LowLatencyIFNode], dtype: torch.dtype, mode: str, grad: bool, start: tuple
) -> None:
    node, wide = (cls(*start, step_mode="m") for _ in range(2))
    currents = torch.randn(12, 2, 3).to(dtype)
    want = wide(currents.float())
    node.step_mode = mode
    x = currents.clone().requires_grad_(grad)
    spikes = node(x) if mode == "m" else torch.stack([node(step) for step in x])
    assert spikes.dtype == dtype and torch.equal(spikes.float(), want)
    assert node.v.dtype == torch.float32 and torch.equal(node.v, wide.v)
    if grad:
        spikes.float().sum().backward()
        assert x.grad is not None and x.grad.dtype == dtype


@every_class
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("device", DEVICES)
def test_moves(cls: type[LowLatencyIFNode], dtype: torch.dtype, device: str) -> None:
    """Thresholds, V(0) and V move; the run goes on. Multiples of 1/8 keep every dtype exact."""
    currents = (torch.randn(8, 2, 3).clamp(-2, 2) * 8).round() / 8
    node, stay = (
        cls(THRESHOLDS, RATIOS, step_mode="m", **({"slope": 0.5} if cls is ImbalancedIFNode else {}))
        for _ in range(2)
    )
    node(currents[:4]), stay(currents[:4])
    node.to(device, dtype)
    assert {buffer.dtype for buffer in node.buffers()} == {dtype}
    moved = currents.to(device, dtype)
    spikes = node(moved[4:])
    membrane = torch.promote_types(dtype, torch.float32)
    assert spikes.dtype == dtype and {memory.dtype for memory in node.memories()} == {membrane}
    assert torch.equal(spikes.cpu().float(), stay(currents[4:]))
    node.reset(), stay.reset()
    assert node.v.dtype == dtype and node.v.device.type == device
    assert torch.equal(node(moved).cpu().float(), stay(currents))


@every_class
def test_inference_mode(cls: type[LowLatencyIFNode]) -> None:
    node, currents = cls(step_mode="m"), torch.randn(8, 2, 3)
    want = node(currents)
    functional.reset_net(node)
    with torch.inference_mode():
        first = node(currents[:4])
    assert torch.equal(torch.cat([first, node(currents[4:])]), want)


@every_class
@pytest.mark.parametrize("mode", ["s", "m"])
def test_spikingjelly_monitors(cls: type[LowLatencyIFNode], mode: str) -> None:
    net = nn.Sequential(nn.Linear(4, 3), cls(step_mode=mode))
    currents = 3 * torch.randn(6, 2, 4)
    calls = list(currents) if mode == "s" else list(currents.split(2))
    with (
        torch.no_grad(),
        monitor.OutputMonitor(net, cls) as spikes,
        monitor.AttributeMonitor("v", False, net, cls) as potentials,
    ):
        outputs = [net(x) for x in calls]
    assert spikes.monitored_layers == ["1"]
    assert all(map(torch.equal, spikes["1"], outputs)) and torch.cat(outputs).any()
    functional.reset_net(net)
    for i, potential in enumerate(potentials["1"]):  # each the potential of its own time
        net(calls[i])
        assert torch.equal(potential, net[1].v)


@pytest.mark.parametrize("value", [0.25, torch.tensor([0.25, 0.5])])
def test_another_initial_potential_by_spikingjellys_way(value: float | torch.Tensor) -> None:
    node = ResidualFixIFNode(v_threshold=torch.tensor([1.0, 2.0]), ratio=0.0)
    node.set_reset_value("v", value)
    node.reset()
    want = torch.as_tensor(value).expand(2)
    torch.testing.assert_close(node.v_initial, want)
    node(torch.zeros(3, 2))
    torch.testing.assert_close(node.v, want.expand(3, 2))
    functional.reset_net(node)
    torch.testing.assert_close(torch.as_tensor(node.get_reset_value("v")), want)
