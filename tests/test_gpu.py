"""Whole networks on a GPU: kernels give what the reference gives, and all that has a device takes one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from sj_lowlat import FinetuneConfig, checkpoint, convert, evaluate, finetune, models, prepare
from sj_lowlat.cli.entry import main
from sj_lowlat.conversion import set_precision
from sj_lowlat.data import TrafficDataset, letterbox
from sj_lowlat.layers import LowLatencyIFNode
from sj_lowlat.monitors import FiringRateMonitor, SynOpMonitor
from sj_lowlat.pretrained import load
from sj_lowlat.simulation import simulate

DEVICE = "cuda"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
SHIPPED = "snn-tiny-yolov3-coco"


@pytest.fixture(autouse=True)
def _same_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def scenes(count: int, size: int = 96) -> Tensor:
    data = TrafficDataset(count, size, seed=3)
    return torch.stack([letterbox(data[i].image, size)[0] for i in range(count)])


def small(device: str) -> nn.Module:
    torch.manual_seed(0)
    net = models.snn_tiny_yolov3(2, width=0.125, input_size=64, class_names=("person", "car"))
    return net.to(device).eval()


def run(snn: nn.Module, images: Tensor, schedule: str) -> tuple[list[Tensor], list[Tensor]]:
    """Heads and net counts of all neurons, at every step."""
    nodes = [module for module in snn.modules() if isinstance(module, LowLatencyIFNode)]
    counts: list[Tensor] = []

    def note(_read: object) -> None:
        counts.extend(node.count.clone() for node in nodes)

    total = sum(map(int, schedule.split("b")[0].split("+")))
    result = simulate(snn, images, schedule, readout=range(1, total + 1), chunk=1, callback=note)
    return [head for outputs in result.outputs for head in outputs], counts


@pytest.mark.parametrize("schedule", ["4+2b4", "16+8"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernel_is_the_reference(schedule: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    snn, images = load(SHIPPED).to(DEVICE).to(dtype), scenes(2).to(DEVICE).to(dtype)
    found = run(snn, images, schedule)
    monkeypatch.setenv("SJ_LOWLAT_KERNEL", "reference")
    for have, want in zip(found, run(snn, images, schedule), strict=True):
        assert all(torch.equal(*pair) for pair in zip(have, want, strict=True)) and len(have) == len(want)


def test_gpu_agrees_with_the_cpu() -> None:
    images = scenes(2).double()
    here, there = (
        run(load(SHIPPED).double().to(device), images.to(device), "4+2b4") for device in ("cpu", DEVICE)
    )
    differ = sum(int((a != b.cpu()).sum()) for a, b in zip(here[1], there[1], strict=True))
    assert differ <= 1e-6 * sum(a.numel() for a in here[1])  # sums in another order: a neuron on a border
    if not differ:
        for a, b in zip(here[0], there[0], strict=True):
            torch.testing.assert_close(b.cpu(), a, rtol=1e-9, atol=1e-9)


def test_settled_network_is_the_quantised_one() -> None:
    images = scenes(2).to(DEVICE).double()
    quant, snn = load(SHIPPED, spiking=False).to(DEVICE).double(), load(SHIPPED).to(DEVICE).double()
    with torch.no_grad():
        wanted = quant(images)
    for want, have in zip(wanted, simulate(snn, images, "16+32").final, strict=True):
        torch.testing.assert_close(have, want, rtol=1e-5, atol=1e-5)  # weights were scaled in float32


@pytest.mark.parametrize("activation", [nn.SiLU, nn.Hardswish, nn.Mish])
def test_activations_of_both_signs(activation: type[nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), activation(), nn.Conv2d(8, 8, 3, 1, 1, groups=8),
        nn.BatchNorm2d(8), activation(), nn.Conv2d(8, 6, 1),
    ]  # fmt: skip
    net, images = nn.Sequential(*layers).to(DEVICE).double().eval(), scenes(3, 64).to(DEVICE).double()
    quant = prepare(net, levels=16, calibration=images)
    snn = convert(quant)
    found = run(snn, images, "4+30b4")
    with torch.no_grad():
        torch.testing.assert_close(torch.stack(found[0][-3:]), quant(images), rtol=1e-9, atol=1e-9)
    monkeypatch.setenv("SJ_LOWLAT_KERNEL", "reference")
    for have, want in zip(found, run(snn, images, "4+30b4"), strict=True):
        assert all(torch.equal(*pair) for pair in zip(have, want, strict=True)) and len(have) == len(want)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_rounded_networks_run(precision: str) -> None:
    snn, images = load(SHIPPED), scenes(1)
    rounded = set_precision(snn, precision)
    here, there = (simulate(rounded.to(device), images.to(device)).final for device in ("cpu", DEVICE))
    for a, b in zip(here, there, strict=True):
        assert torch.nn.functional.cosine_similarity(a.flatten(), b.cpu().flatten(), dim=0) > 0.99


def test_monitors_count_what_they_count_on_the_cpu() -> None:
    images, tables = scenes(1).double(), []
    for device in ("cpu", DEVICE):
        snn = load(SHIPPED).double().to(device)
        with FiringRateMonitor(snn) as rates, SynOpMonitor(snn) as energy:
            simulate(snn, images.to(device))
        tables.append((rates.table(), energy.table()))
    assert tables[0] == tables[1]


@pytest.mark.parametrize("on_device", [False, True])
def test_from_training_to_a_score(tmp_path: Path, on_device: bool) -> None:
    data, images = TrafficDataset(4, 64, seed=1), scenes(2, 64).to(DEVICE)
    net = small(DEVICE)
    quant = prepare(net, levels=8, calibration=images)
    config = FinetuneConfig(
        iterations=3, batch_size=2, size=64, feature_weight=1, mix=0.5, workers=1, augment_on_device=on_device
    )
    quant = finetune(quant, data, net, config, tmp_path / "run")
    snn = convert(quant)
    assert {p.device.type for p in snn.parameters()} == {DEVICE}
    out = simulate(snn, images, "8+8b8")
    with torch.no_grad():
        for want, have in zip(quant(images), out.final, strict=True):
            torch.testing.assert_close(have, want, rtol=1e-4, atol=1e-4)
    assert evaluate(snn, data, "8+4").final.map50 >= 0
    again = checkpoint.load(checkpoint.save(snn, tmp_path / "snn")).to(DEVICE)
    assert all(map(torch.equal, simulate(again, images, "8+8b8").final, out.final))


def test_detect_on_the_command_line(tmp_path: Path) -> None:
    picture = tmp_path / "scene.png"
    Image.fromarray((scenes(1)[0] * 255).byte().permute(1, 2, 0).numpy()).save(picture)
    assert main(["detect", str(picture), "--device", DEVICE, "--output", str(tmp_path / "out")]) == 0
    assert list((tmp_path / "out").iterdir())
