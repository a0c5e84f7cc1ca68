"""Rounded weights: what is rounded, what stays, and that spikes are exact."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from sj_lowlat import checkpoint
from sj_lowlat.conversion import convert, prepare, set_precision
from sj_lowlat.errors import InputError
from sj_lowlat.layers import Int8Conv2d, LowLatencyIFNode
from sj_lowlat.models import snn_tiny_yolov3, tiny_yolov3
from sj_lowlat.monitors import FiringRateMonitor, SynOpMonitor
from sj_lowlat.simulation import simulate

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
LEVELS = 8


@pytest.fixture(scope="module", params=[snn_tiny_yolov3, tiny_yolov3], ids=["strided", "pooled"])
def snn(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    model = request.param(3, input_size=64, **({"width": 0.25} if request.param is snn_tiny_yolov3 else {}))
    return convert(prepare(model.eval(), LEVELS, IMAGES, scale="99%"))


def largest_rounding(weight: torch.Tensor, precision: str) -> torch.Tensor:
    """Half a unit in the last place, by hand."""
    if precision == "bf16":
        return weight.double().abs() / 2**8
    return weight.double().abs().amax((1, 2, 3), keepdim=True) / 127 / 2


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_what_is_rounded_and_what_stays(snn: nn.Module, precision: str) -> None:
    before = {name: value.clone() for name, value in snn.state_dict().items()}
    low = set_precision(snn, precision)
    assert low.precision == precision and snn.precision == "fp32"
    assert all(torch.equal(value, before[name]) for name, value in snn.state_dict().items())
    kinds = set()
    for name, layer in low.named_modules():
        if not isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            continue
        want = before[f"{name}.weight"]
        if name in low.input_layers or name.endswith(".layer"):  # reads the image, or is a head
            assert torch.equal(layer.weight, want)
            continue
        kind = "int8" if isinstance(layer, Int8Conv2d) else "bf16"
        kinds.add(kind)
        rounding = (layer.weight.double() - want.double()).abs()
        assert rounding.any() and bool((rounding <= largest_rounding(want, kind) * 1.00001).all())
    assert precision in kinds


@pytest.mark.parametrize("precision", ["bf16", "int8"])
@pytest.mark.parametrize("burst", [1, 4])
def test_spikes_and_membranes_are_exact(snn: nn.Module, precision: str, burst: int) -> None:
    """Every neuron does in float64 what it did, from the currents that it got."""
    low = set_precision(snn, precision)
    currents: dict[str, list[torch.Tensor]] = {}
    spikes: dict[str, list[torch.Tensor]] = {}

    def record(name: str, node: nn.Module, args: tuple[torch.Tensor], out: torch.Tensor) -> None:
        currents.setdefault(name, []).append(args[0].clone())
        spikes.setdefault(name, []).append(out.clone())

    nodes = {name: node for name, node in low.named_modules() if isinstance(node, LowLatencyIFNode)}
    for name, node in nodes.items():
        node.register_forward_hook(partial(record, name))
    simulate(low, IMAGES, LEVELS, flush=4, burst=burst, chunk=1)
    for name, node in nodes.items():
        count, charge = torch.zeros(()), torch.full((), 0.5, dtype=torch.float64)
        for current, spike in zip(currents[name], spikes[name], strict=True):
            assert spike.dtype in (torch.bfloat16, torch.int8) and torch.equal(spike, spike.round())
            count, charge = count + spike.double(), charge + current.double()
        assert node.v.dtype == torch.float32
        slope = getattr(node, "slope", 0.0)
        count = torch.where(count < 0, count / slope, count) if slope else count
        torch.testing.assert_close(node.v.double(), charge - count, rtol=0, atol=1e-4)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_detects_nearly_the_same(snn: nn.Module, precision: str) -> None:
    have = simulate(set_precision(snn, precision), IMAGES, mode="counts", time_steps=LEVELS).final
    want = simulate(snn, IMAGES, mode="counts", time_steps=LEVELS).final
    for a, b in zip(have, want, strict=True):
        assert a.dtype == torch.float32
        assert float((a - b).norm() / b.norm()) < 0.2


def test_monitors_count_in_a_rounded_network(snn: nn.Module) -> None:
    low = set_precision(snn, "int8")
    with FiringRateMonitor(low) as rates, SynOpMonitor(low) as ops:
        simulate(low, IMAGES, LEVELS)
    with SynOpMonitor(snn) as exact:
        simulate(snn, IMAGES, LEVELS)
    assert rates.spikes_per_neuron_and_image() > 0
    assert ops.ann_macs == exact.ann_macs and ops.synops == pytest.approx(exact.synops, rel=0.2)


def test_is_saved_and_loaded(snn: nn.Module, tmp_path: Path) -> None:
    low = set_precision(snn, "int8")
    checkpoint.save(low, tmp_path / "low")
    again = checkpoint.load(tmp_path / "low")
    for a, b in zip(simulate(again, IMAGES, 4).final, simulate(low, IMAGES, 4).final, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_fp32_is_a_copy(snn: nn.Module) -> None:
    same = set_precision(snn, "fp32")
    assert same is not snn and set_precision(same, "bf16").precision == "bf16"
    for a, b in zip(simulate(same, IMAGES, 4).final, simulate(snn, IMAGES, 4).final, strict=True):
        assert torch.equal(a, b)


def test_what_cannot_be(snn: nn.Module) -> None:
    with pytest.raises(InputError, match=r"precision is 'fp16'.*fp32, bf16, int8"):
        set_precision(snn, "fp16")
    with pytest.raises(InputError, match="call sj_lowlat.convert first"):
        set_precision(nn.Conv2d(1, 1, 1), "bf16")
    with pytest.raises(InputError, match="bf16 already"):
        set_precision(set_precision(snn, "bf16"), "int8")


def test_spikes_travel_in_8_bits_where_they_can(snn: nn.Module) -> None:
    nodes = [node for node in set_precision(snn, "int8").modules() if isinstance(node, LowLatencyIFNode)]
    dtypes = [node.spike_dtype for node in nodes]
    upsampled = any(isinstance(module, nn.Upsample) for module in snn.modules())
    assert dtypes.count(torch.bfloat16) == upsampled and torch.int8 in dtypes


@pytest.mark.parametrize("levels", [127, 128, 256])
def test_bursts_beyond_a_byte(snn: nn.Module, levels: int) -> None:
    """What travels in bytes as long as it fits, and in 16 bits beyond, comes to the same."""
    low = set_precision(snn, "int8")
    have = simulate(low, IMAGES, 2, levels=levels, mode="counts").final
    for node in low.modules():
        if isinstance(node, LowLatencyIFNode):
            node.spike_dtype = None
    want = simulate(low, IMAGES, 2, levels=levels, mode="counts").final
    torch.testing.assert_close(have, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", ["int8", "bf16"])
def test_bursts_that_do_not_fit(snn: nn.Module, precision: str) -> None:
    low, most = set_precision(snn, precision), 256
    simulate(low, IMAGES, 2, levels=most, mode="counts")
    with pytest.raises(InputError, match=f"up to {most + 1} spikes.*takes at most {most}.*smaller burst"):
        simulate(low, IMAGES, 2, levels=most + 1, mode="counts")
    assert all(node.burst == 1 for node in low.modules() if isinstance(node, LowLatencyIFNode))


def test_layers_that_read_averages_keep_16_bits() -> None:
    torch.manual_seed(0)
    parts = [
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
    ]
    net = nn.Sequential(*parts, nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1))
    snn = convert(prepare(net.eval(), LEVELS, IMAGES[:, :, :16, :16], scale="max"))
    low = set_precision(snn, "int8")
    assert low[3].weight.dtype == torch.bfloat16 and isinstance(low[5], Int8Conv2d)
    images = IMAGES[:, :, :16, :16]
    have, want = (simulate(each, images, LEVELS, mode="counts").final for each in (low, snn))
    assert float((have - want).norm() / want.norm()) < 0.2
