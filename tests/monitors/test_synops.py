from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.op_counter import DispatchCounterMode, MACCounter, SynOpCounter
from torch import Tensor, nn

from sj_lowlat.conversion import convert, prepare
from sj_lowlat.errors import InputError
from sj_lowlat.layers import Pass, RateReadout, ResidualFixIFNode, SignedIFNode, share_clock
from sj_lowlat.monitors import SynOpMonitor, dense_macs, fan_out
from sj_lowlat.simulation import simulate

Run = Callable[..., Tensor]
CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


@settings(max_examples=150, deadline=None)
@given(data=st.data(), dims=st.integers(1, 3), transposed=st.booleans())
def test_fan_out_is_the_gradient_of_the_summed_output(data: Any, dims: int, transposed: bool) -> None:
    """With weights of one, d(sum of outputs)/d(input) counts the outputs that an input reaches."""

    def each(low: int, high: int) -> tuple[int, ...]:
        return data.draw(st.tuples(*[st.integers(low, high)] * dims))

    groups = data.draw(st.integers(1, 2))
    stride, kernel, dilation = each(1, 3), each(1, 4), each(1, 2)
    options: dict[str, Any] = {
        "stride": stride,
        "dilation": dilation,
        "groups": groups,
        "padding": each(0, 2),
    }
    if transposed:
        options["output_padding"] = tuple(
            data.draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)
        )
    elif data.draw(st.booleans()):
        options |= {"padding": data.draw(st.sampled_from(["same", "valid"])), "stride": 1}
    layer = (TRANSPOSED if transposed else CONV)[dims](2 * groups, 3 * groups, kernel, bias=False, **options)
    nn.init.ones_(layer.weight)
    size = each(1, 7)
    x = torch.ones(1, 2 * groups, *size, requires_grad=True)
    try:
        out = layer(x)
    except RuntimeError:  # the kernel does not fit into the input
        assume(False)
    out.sum().backward()
    expected = x.grad[0]
    assert torch.equal(fan_out(layer, size).expand_as(expected), expected.long())


@settings(max_examples=40, deadline=None)
@given(
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    groups=st.sampled_from([1, 2]),
    size=st.tuples(st.integers(4, 9), st.integers(4, 9)),
    mode=st.sampled_from(["s", "merged"]),
    chunk=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_counts_agree_with_spikingjelly_where_it_sees_the_spikes(
    stride: int, padding: int, groups: int, size: tuple[int, int], mode: str, chunk: int, seed: int, run: Run
) -> None:
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        ResidualFixIFNode(v_threshold=0.3),
        nn.Conv2d(4, 6, 3, stride=stride, padding=padding, groups=groups),
        ResidualFixIFNode(v_threshold=0.3),
        nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1, groups=groups),
        ResidualFixIFNode(v_threshold=0.3),
        nn.Flatten(1),
        nn.LazyLinear(5),
        ResidualFixIFNode(),
    )
    image = torch.rand(2, 3, *size) + 0.01
    steps = 4
    with torch.no_grad():
        net(image)  # gives the lazy layer its shape
        functional.reset_net(net)
        synop_counter, mac_counter = SynOpCounter(), MACCounter()
        with SynOpMonitor(net) as monitor, DispatchCounterMode([synop_counter, mac_counter]):
            run(net, image.expand(steps, *image.shape), mode, chunk)
    assert monitor.synops == synop_counter.get_total() > 0
    assert monitor.images == 2
    # SpikingJelly counts the image's convolution in every step
    assert monitor["0"].macs == 2 * dense_macs(net[0], size)
    assert mac_counter.get_total() == steps * 2 * dense_macs(net[0], size)
    assert [layer.macs for layer in monitor.layers()[1:]] == [0, 0, 0]


@pytest.mark.parametrize("mode", ["s", "merged"])
def test_signed_spikes_and_bursts_count_by_their_size(mode: str, run: Run) -> None:
    class Burst(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 3 * x

    conv = nn.Conv2d(2, 5, 3, stride=2, padding=1)
    net = nn.Sequential(SignedIFNode(), Burst(), conv)
    with torch.no_grad():
        currents = torch.randn(6, 2, 2, 7, 6)
        spikes = run(net[:1], currents, "s")
        assert (spikes < 0).any()
        with SynOpMonitor(net) as monitor:
            run(net, currents, mode, 4)
    assert monitor["2"].spikes == 3 * int(spikes.abs().sum())
    assert monitor["2"].synops == 3 * int((spikes.abs() * fan_out(conv, (7, 6))).sum())
    assert monitor["2"].macs == 0


@pytest.mark.parametrize("mode", ["s", "m", "merged"])
def test_a_read_out_costs_the_spikes_it_collects(mode: str, run: Run) -> None:
    head = RateReadout(nn.Conv2d(2, 4, 3, padding=1))
    net = nn.Sequential(ResidualFixIFNode(), head)
    currents = torch.rand(6, 2, 2, 5, 4)
    with torch.no_grad():
        spikes = run(net[:1], currents, "s")
        with SynOpMonitor(net) as monitor:
            functional.reset_net(net)
            functional.set_step_mode(net, "m" if mode == "m" else "s")
            if mode == "merged":
                with share_clock(net).during(Pass(6, 2, readout=(3,))):
                    net(currents.flatten(0, 1))
            else:
                for x in [currents] if mode == "m" else currents:
                    net(x)
    assert [layer.name for layer in monitor.layers()] == ["1"]
    assert monitor["1"].synops == int((spikes * fan_out(head.layer, (5, 4))).sum()) > 0
    assert monitor["1"].ann_macs == dense_macs(head.layer, (5, 4)) and monitor.macs == 0


@pytest.mark.parametrize("mode", ["s", "merged"])
def test_a_constant_image_costs_its_convolution_once_per_presentation(mode: str, run: Run) -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 1), ResidualFixIFNode())
    once = dense_macs(net[0], (5, 5)) + dense_macs(net[1], (3, 3))
    image, other = torch.rand(2, 3, 1, 5, 5)
    with torch.no_grad(), SynOpMonitor(net) as monitor:
        run(net, image.expand(5, -1, -1, -1, -1), mode, 2)
        assert (monitor.macs, monitor.images) == (3 * once, 3)
        run(net, image.expand(5, -1, -1, -1, -1), mode, 2)  # the same picture shown again
        assert (monitor.macs, monitor.images) == (6 * once, 6)
        run(net, torch.stack([image, other]), mode)  # a film costs every frame
        assert (monitor.macs, monitor.images) == (12 * once, 9)
        assert monitor.ann_macs == once
        monitor.clear_recorded_data()
        assert (monitor.macs, monitor.images, monitor.synops) == (0, 0, 0)
    assert monitor.ann_macs == 0 and not net[0]._forward_pre_hooks and not net[2]._forward_hooks


def test_a_constant_current_of_multi_step_layers_costs_once() -> None:
    from spikingjelly.activation_based import layer

    net = nn.Sequential(layer.Conv2d(1, 2, 3, step_mode="m"), ResidualFixIFNode(step_mode="m"))
    image = torch.rand(3, 1, 5, 5)
    with torch.no_grad(), SynOpMonitor(net) as monitor:
        net(image.expand(4, 3, 1, 5, 5))
    assert monitor.macs == 3 * dense_macs(net[0], (5, 5))


def test_memory_does_not_grow_with_time(run: Run) -> None:
    held = []
    for steps in (2, 32):
        net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), ResidualFixIFNode(), nn.Conv2d(2, 2, 3))
        with torch.no_grad(), SynOpMonitor(net) as monitor:
            run(net, torch.rand(1, 2, 1, 6, 6).expand(steps, -1, -1, -1, -1), "s")
            held.append(sum(t.numel() for t in [*monitor._analog.values(), *monitor._maps.values()]))
    assert held[0] == held[1] == 2 * 36 + 36
    assert not monitor._analog


def test_json_and_table(run: Run) -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), ResidualFixIFNode(), nn.Conv2d(2, 2, 1))
    with torch.no_grad(), SynOpMonitor(net) as monitor:
        run(net, torch.rand(2, 3, 1, 5, 5), "s")
    record = json.loads(json.dumps(monitor.to_json()))
    assert record["images"] == 3 and record["layers"][1]["synops"] == monitor["2"].synops == monitor[1].synops
    lines = monitor.table().splitlines()
    assert len(lines) == 4 and len({len(line) for line in lines}) == 1


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="no spiking neuron"):
        SynOpMonitor(nn.Linear(2, 2))
    with pytest.raises(InputError, match="Bilinear"):
        SynOpMonitor(nn.Sequential(nn.Bilinear(2, 2, 2), ResidualFixIFNode()))
    with pytest.raises(InputError, match="zero padding"):
        fan_out(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"), (4, 4))
    with pytest.raises(InputError, match="no layer"):
        SynOpMonitor(nn.Sequential(nn.Linear(2, 2), ResidualFixIFNode()))["nowhere"]


def test_an_image_of_whole_grey_levels_is_analog() -> None:
    """As networks take it that were trained on 0 to 255."""

    class Grey(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x * 255)

    images = torch.randint(0, 256, (2, 3, 8, 8)).double() / 255
    snn = convert(prepare(Grey().double(), 4, images))
    with SynOpMonitor(snn) as synops:
        simulate(snn, images, 4)
    first = synops[0]
    assert (first.spikes, first.synops, first.macs) == (0, 0, 2 * first.ann_macs)
