"""RetinaNet and SSDLite of torchvision, unmodified."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import detection

from sj_lowlat import load, save
from sj_lowlat.conversion import convert, prepare
from sj_lowlat.detect import decode
from sj_lowlat.errors import ConversionError, InputError
from sj_lowlat.models import from_torchvision
from sj_lowlat.simulation import simulate

NETWORKS = [("ssdlite320_mobilenet_v3_large", 320, 90), ("retinanet_resnet50_fpn", 128, 91)]


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    network = getattr(detection, name)(weights=None, weights_backbone=None).eval()
    for module in network.modules():  # as fresh ones are, every score is the same
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return network


@pytest.mark.parametrize(("name", "size", "classes"), NETWORKS)
def test_boxes_are_those_of_torchvision(name: str, size: int, classes: int) -> None:
    detector = made(name)
    images = torch.rand(1, 3, size, size)
    network = from_torchvision(detector, size)
    assert network.head_specs[0].num_classes == classes == len(network.class_names)
    boxes, scores = decode(network(images), network.head_specs)
    with torch.no_grad():
        maps = list(detector.backbone(detector.transform(list(images))[0].tensors).values())
        if detector.transform.min_size[0] != size:  # torchvision would enlarge the image
            normal = detector.transform.normalize(images[0])[None]
            maps = list(detector.backbone(normal).values())
        raw = detector.head(maps)
        batch = detection.image_list.ImageList(images, [(size, size)])
        anchors = detector.anchor_generator(batch, maps)[0]
        want = detector.box_coder.decode_single(raw["bbox_regression"][0], anchors)
    torch.testing.assert_close(boxes[0], want, rtol=1e-3, atol=1e-2)
    logits = raw["cls_logits"]
    wanted = logits.softmax(-1)[..., 1:] if "ssd" in name else logits.sigmoid()
    torch.testing.assert_close(scores, wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("name", "size", "classes"), NETWORKS)
def test_they_settle(name: str, size: int, classes: int, tmp_path: Path) -> None:
    network = from_torchvision(made(name), size).double()
    images = torch.rand(2, 3, size, size, dtype=torch.float64)
    quant = prepare(network, 16, images, scale="mse")
    snn = convert(quant)
    found = simulate(snn, images[:1], mode="counts").final
    with torch.no_grad():
        wanted = quant(images[:1])
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    save(quant, tmp_path)
    assert load(tmp_path).head_specs == network.head_specs


def test_what_has_no_spiking_form_is_refused() -> None:
    with pytest.raises(InputError, match="FCOS came; from_torchvision takes RetinaNet and SSD"):
        from_torchvision(detection.fcos_resnet50_fpn(weights=None, weights_backbone=None), 64)
    network = from_torchvision(detection.retinanet_resnet50_fpn_v2(weights=None, weights_backbone=None), 64)
    with pytest.raises(ConversionError, match="GroupNorm.*statistics of the image itself"):
        prepare(network, 8, torch.rand(1, 3, 64, 64))
    network = from_torchvision(detection.ssd300_vgg16(weights=None, weights_backbone=None), 300)
    with pytest.raises(ConversionError):
        prepare(network, 8, torch.rand(1, 3, 300, 300))
