"""Public weights of other projects: classifiers agree with their float network, detectors settle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sj_lowlat.conversion import convert, prepare
from sj_lowlat.data import ImageFolderDataset, letterbox
from sj_lowlat.detect import detections_from_maps
from sj_lowlat.models import darknet, load_darknet_weights, save_darknet_weights
from sj_lowlat.simulation import simulate


class Block(nn.Module):
    """Of CIFAR-10's ResNets (He et al. 2015), with the shortcut that pads channels with zeros."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(into, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.more = (out - into) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.more:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.more, self.more))
        return F.relu(y + x)


class ResNet(nn.Module):
    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        widths = [16, 16, 32, 64]
        for stage in (1, 2, 3):
            into, out = widths[stage - 1], widths[stage]
            first = Block(into, out, 1 if stage == 1 else 2)
            rest = [Block(out, out, 1) for _ in range(blocks - 1)]
            setattr(self, f"layer{stage}", nn.Sequential(first, *rest))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(F.avg_pool2d(x, x.size()[3]).view(x.size(0), -1))


def photos(data_dir: Path, count: int, size: int) -> Tensor:
    folder = data_dir / "photos"
    if not folder.is_dir():
        pytest.skip(f"no photos at {folder}")
    data = ImageFolderDataset(folder)
    return torch.stack([letterbox(data[i].image, size, "stretch")[0] for i in range(count)])


@pytest.mark.parametrize(("blocks", "name"), [(3, "resnet20-12fca82f.th"), (9, "resnet56-4bfd9763.th")])
def test_resnets_of_cifar10(data_dir: Path, blocks: int, name: str) -> None:
    path = data_dir / "nets" / "resnet_cifar10" / name
    if not path.is_file():
        pytest.skip(f"no weights at {path}")
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    net = ResNet(blocks)
    net.load_state_dict({key.removeprefix("module."): value for key, value in state.items()})
    images = photos(data_dir, 64, 32)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    images = ((images - mean.view(3, 1, 1)) / std.view(3, 1, 1)).double()
    net.double().eval()
    quant = prepare(net, 32, images[:32], scale="99.9%").eval()
    out = simulate(convert(quant), images[32:], mode="counts").final
    with torch.no_grad():
        torch.testing.assert_close(out, quant(images[32:]), rtol=0, atol=1e-8)  # settled
        agree = (out.argmax(1) == net(images[32:]).argmax(1)).double().mean()
    assert agree >= 0.75  # of 32 photos, which are none of CIFAR-10's


DARKNET = [
    "mobilenet-yolo/MobileNetV2-YOLO-Fastest/v2/MobileNetV2-YOLO-Fastest-voc-v2",
    "mobilenet-yolo/MobileNetV2-YOLOv3-Nano/COCO/MobileNetV2-YOLOv3-Nano-coco",
    "yolo-fastest/history/first-se/Yolo-Fastest-se",
    "yolo-fastest/yolo-fastest-1.0_coco/yolo-fastest",
    "yolo-fastest/yolo-fastest-1.1_body/yolo-fastest-1.1_body",
    "yolo-fastest/yolo-fastest-1.1_coco/yolo-fastest-1.1",
    "yolo-fastest/yolo-fastest-1.1_coco/yolo-fastest-1.1-xl",
    "yolo-lite/coco/trial6",
    "yolo-lite/voc/tiny-yolov2-trial3-noBatch",
    "yoloface/50k/yoloface-50k",
    "yoloface/500k-v1/yoloface-500k",
    "yoloface/500k-v2/yoloface-500k-v2",
    "yoloface/history/100k/yoloface-100k",
    "yolov3-tiny",
]


def darknet_files(data_dir: Path, stem: str) -> tuple[Path, Path]:
    """The cfg and the weights of a network."""
    cfg, weights = (data_dir / "darknet" / f"{stem}.{suffix}" for suffix in ("cfg", "weights"))
    if not cfg.is_file() or not weights.is_file():
        pytest.skip(f"no network at {cfg}")
    return cfg, weights


def test_all_darknet_networks_are_tested(data_dir: Path) -> None:
    root = data_dir / "darknet"
    found = {str(path.relative_to(root).with_suffix("")) for path in root.rglob("*.weights")}
    assert found <= set(DARKNET)


@pytest.mark.parametrize("stem", DARKNET)
def test_darknet_networks_load_and_detect(data_dir: Path, tmp_path: Path, stem: str) -> None:
    """Every value of the file is in the network: they are written again as they were."""
    cfg, weights = darknet_files(data_dir, stem)
    net = darknet(cfg).eval()
    save_darknet_weights(net, tmp_path / "again.weights", load_darknet_weights(net, weights))
    have, want = (
        np.frombuffer(path.read_bytes()[20:], "<f4") for path in (tmp_path / "again.weights", weights)
    )
    np.testing.assert_allclose(have, want, rtol=0, atol=1e-40)  # denormal variances become 0
    _, height, width = net.input_shape
    pictures = [F.interpolate(x[None], (height, width)) for x in photos(data_dir, 8, max(height, width))]
    with torch.no_grad():
        found = detections_from_maps(net(torch.cat(pictures)), net.head_specs, score_threshold=0.2)
    assert any(len(read.scores) for read in found)


@pytest.mark.parametrize("stem", DARKNET)
def test_darknet_networks_settle(data_dir: Path, stem: str) -> None:
    """Shortcuts, linear bottlenecks, squeeze and excitation, two kinds of heads, leaky ReLUs and ReLUs."""
    cfg, weights = darknet_files(data_dir, stem)
    net = darknet(cfg, weights).double().eval()
    images = photos(data_dir, 2, min(64, net.input_size)).double()
    quant = prepare(net, 16, images, scale="mse").eval()
    out = simulate(convert(quant), images[:1], 2, flush=20, burst=16, charge=16).final
    with torch.no_grad():
        for have, want in zip(out, quant(images[:1]), strict=True):
            torch.testing.assert_close(have, want, rtol=0, atol=1e-8)
