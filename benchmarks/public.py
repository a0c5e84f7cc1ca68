"""Detectors of other projects that need more than a cfg, with decoders from the projects' own formulas."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sj_lowlat.class_names import COCO_CLASSES
from sj_lowlat.detect import AnchorGrid, AnchorHead, CustomHead, register_decode
from sj_lowlat.models import InputScale, from_onnx
from sj_lowlat.network import NetworkInfo, WithInfo


def _cells(rows: int, columns: int, like: Tensor) -> Tensor:
    """Column and row of every cell, ``[rows * columns, 2]``."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack((x, y), -1).flatten(0, 1).to(like)


def _boxes(centre: Tensor, size: Tensor) -> Tensor:
    return torch.cat((centre - size / 2, centre + size / 2), -1)


def fastestdet(output: Tensor) -> tuple[Tensor, Tensor]:
    """FastestDet (github.com/dog-qiuqiu/FastestDet): objectness, 4 offsets, classes ``[N, 85, H, W]``; the
    centre is a tanh from its cell, sizes are a sigmoid of the image, a score is o^0.6 c^0.4."""
    rows, columns = output.shape[2:]
    values = output.flatten(2).transpose(1, 2)  # [N, cells, 85]
    whole = values.new_tensor([columns, rows]) * 16
    centre = (values[..., 1:3].tanh() + _cells(rows, columns, values)) * 16
    scores = values[..., :1].clamp(min=0) ** 0.6 * values[..., 5:].clamp(min=0) ** 0.4
    return _boxes(centre, values[..., 3:5].sigmoid() * whole), scores


def yunet(*outputs: Tensor) -> tuple[Tensor, Tensor]:
    """YuNet (github.com/ShiqiYu/libfacedetection.train): classes, objectness, boxes and landmarks at strides
    8, 16, 32; YOLOX's boxes, a score is the root of class times objectness."""
    boxes, scores = [], []
    for stride, classes, objectness, moves in zip(
        (8, 16, 32), outputs[:3], outputs[3:6], outputs[6:9], strict=True
    ):
        side = round(moves.shape[1] ** 0.5)
        centre = (moves[..., :2] + _cells(side, side, moves)) * stride
        boxes.append(_boxes(centre, moves[..., 2:].exp() * stride))
        scores.append((classes * objectness).clamp(0, 1).sqrt())
    return torch.cat(boxes, 1), torch.cat(scores, 1)


def blazeface(scores: Tensor, moves: Tensor) -> tuple[Tensor, Tensor]:
    """BlazeFace (arXiv 1907.05047), 128 px: anchors of size 1 at the cells' centres (2 a cell of 16 x 16, 6
    of 8 x 8), offsets and sizes in pixels, 6 landmarks behind them."""
    centres = [(_cells(side, side, moves) + 0.5) / side * 128 for side in (16, 8)]
    anchors = torch.cat([centre.repeat_interleave(n, 0) for centre, n in zip(centres, (2, 6), strict=True)])
    return _boxes(anchors + moves[..., :2], moves[..., 2:4].clamp(min=0)), scores.sigmoid()


class _BlazeBlock(nn.Module):
    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(into, into, 3, stride, 1 if stride == 1 else 0, groups=into), nn.Conv2d(into, out, 1)
        )
        self.stride, self.more = stride, out - into
        self.pool, self.act = nn.MaxPool2d(2), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.convs(F.pad(x, (0, 2, 0, 2)) if self.stride == 2 else x)
        x = self.pool(x) if self.stride == 2 else x
        return self.act(y + (F.pad(x, (0, 0, 0, 0, 0, self.more)) if self.more else x))


class BlazeFace(WithInfo, nn.Module):
    """The front-camera model of the paper, its layers named as in github.com/hollance/BlazeFace-PyTorch."""

    def __init__(self) -> None:
        super().__init__()
        widths = [24, 24, 28, 32, 36, 42, 48, 56, 64, 72, 80, 88]
        halved = (2, 5)  # blocks that halve the map
        blocks = [
            _BlazeBlock(a, b, 2 if i in halved else 1)
            for i, (a, b) in enumerate(zip(widths, widths[1:], strict=False))
        ]
        self.backbone1 = nn.Sequential(nn.Conv2d(3, 24, 5, 2), nn.ReLU(), *blocks)
        self.backbone2 = nn.Sequential(_BlazeBlock(88, 96, 2), *[_BlazeBlock(96, 96, 1) for _ in range(4)])
        self.classifier_8, self.classifier_16 = nn.Conv2d(88, 2, 1), nn.Conv2d(96, 6, 1)
        self.regressor_8, self.regressor_16 = nn.Conv2d(88, 32, 1), nn.Conv2d(96, 96, 1)
        self.info = NetworkInfo((CustomHead("blazeface", 1, 2),), ("face",), (3, 128, 128))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.backbone1(F.pad(images * 2 - 1, (1, 2, 1, 2)))
        coarse = self.backbone2(fine)
        heads = ((self.classifier_8, 1, fine), (self.classifier_16, 1, coarse))
        moves = ((self.regressor_8, 16, fine), (self.regressor_16, 16, coarse))
        return _rows(heads), _rows(moves)


def _rows(heads: tuple[tuple[nn.Module, int, Tensor], ...]) -> Tensor:
    """Maps of several heads as ``[N, anchors, values]``."""
    maps = [(head(x).permute(0, 2, 3, 1), values) for head, values, x in heads]
    return torch.cat([m.reshape(m.shape[0], -1, values) for m, values in maps], 1)


def _blazeface(nets: Path) -> nn.Module:
    network = BlazeFace()
    path = nets / "blazeface" / "blazeface.pth"
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network


def _ultralight(nets: Path) -> nn.Module:
    """github.com/Linzaer/Ultra-Light-Fast-Generic-Face-Detector-1MB: an SSD with variances 0.1 and 0.2."""
    sizes = ((10, 16, 24), (32, 48), (64, 96), (128, 192, 256))
    grids = tuple(
        AnchorGrid(-(-320 // step), -(-320 // step), (step, step), tuple((side, side) for side in listed))
        for step, listed in zip((8, 16, 32, 64), sizes, strict=True)
    )
    head = AnchorHead(1, grids, "probabilities", background=True, weights=(10, 10, 5, 5))
    scale = InputScale(255, [127] * 3, [128] * 3)
    path = nets / "ultralight-face" / "version-RFB-320_without_postprocessing.onnx"
    return from_onnx(path, heads=[head], class_names=["face"], size=320, input_scale=scale)


def _fastestdet(nets: Path) -> nn.Module:
    head, path = CustomHead("fastestdet", len(COCO_CLASSES)), nets / "fastestdet" / "FastestDet.onnx"
    return from_onnx(path, heads=[head], input_scale=InputScale(bgr=True))


def _yunet(nets: Path) -> nn.Module:
    path, scale = nets / "yunet" / "yunet_n_dynamic.onnx", InputScale(255, bgr=True)
    head = CustomHead("yunet", 1, 12)
    return from_onnx(path, heads=[head], class_names=["face"], size=320, input_scale=scale)


def _yolox(nets: Path) -> nn.Module:
    path = nets / "yolox-nano" / "yolox_nano_coco80.onnx"
    return from_onnx(path, heads="yolox", input_scale=InputScale(255, bgr=True))


#: name -> what makes the network, of the folder of small networks
NETWORKS: dict[str, Callable[[Path], nn.Module]] = {
    "yolox-nano": _yolox,
    "fastestdet": _fastestdet,
    "yunet": _yunet,
    "ultralight-face": _ultralight,
    "blazeface": _blazeface,
}
for _decode in (fastestdet, yunet, blazeface):
    register_decode(_decode.__name__, _decode)
