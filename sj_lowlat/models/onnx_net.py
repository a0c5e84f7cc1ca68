"""Detectors and classifiers from ONNX files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from sj_lowlat.detect import Head, YOLOXHead
from sj_lowlat.errors import InputError
from sj_lowlat.models import onnx_file
from sj_lowlat.models.detector import names_of_classes
from sj_lowlat.network import NetworkInfo, WithInfo

HEADS = ("yolox",)


class InputScale(nn.Module):
    """From images in [0, 1], RGB, to what a network was trained on: ``(x * scale - mean) / std``.

    :param scale: 255 for networks that take whole grey levels
    :param mean: per channel, in the order of the network's channels
    :param std: per channel
    :param bgr: whether the network takes blue first
    :raises InputError: if a standard deviation is not positive
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        scale: float = 1.0,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        bgr: bool = False,
    ) -> None:
        super().__init__()
        if not scale > 0 or min(std) <= 0:
            raise InputError(f"scale and std must be positive; got {scale} and {list(std)}")
        self.scale, self.bgr = scale, bgr
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """``[N, C, H, W]`` in [0, 1]."""
        images = images.flip(1) if self.bgr else images
        return (images * self.scale - self.mean) / self.std


class OnnxNetwork(WithInfo, nn.Module):
    """What :func:`from_onnx` returns: the file's network behind its :class:`InputScale`."""

    fixed_size = True
    """Shapes in the file are numbers."""

    def __init__(self, network: nn.Module, input_scale: InputScale, info: NetworkInfo) -> None:
        super().__init__()
        self.input_scale, self.network, self.info = input_scale, network, info

    def forward(self, images: Tensor) -> Tensor | list[Tensor]:
        """The file's outputs for ``[N, C, H, W]`` in [0, 1].

        :raises InputError: for images of another size than the file's
        """
        if tuple(images.shape[1:]) != self.info.input_shape:
            raise InputError(
                f"this ONNX network takes [N, {', '.join(map(str, self.info.input_shape or ()))}]; got "
                f"{list(images.shape)}: resize them, or read the file for another size (size=...)"
            )
        return self.network(self.input_scale(images))


def from_onnx(
    path: str | Path,
    *,
    heads: Sequence[Head] | str = (),
    class_names: Sequence[str] | None = None,
    size: int | tuple[int, int] | None = None,
    input_scale: InputScale | None = None,
) -> OnnxNetwork:
    """A network from an ONNX file; needs the extra ``onnx``. It is checked against onnxruntime when read.

    :param path: the file: one input, images ``[N, C, H, W]``
    :param heads: what the outputs mean; ``"yolox"`` for a YOLOX as its own project exports it; none for a
        classifier
    :param class_names: one name per class; if ``None``, the COCO names for 80 classes, else "class 0" ...
    :param size: of the images, in pixels: a side, or (height, width); by default the file's
    :param input_scale: what the network expects of its images; by default RGB in [0, 1]
    :return: the network in eval mode
    :raises FileNotFoundError: if there is no such file
    :raises InputError: if a needed library is missing, or the file or an option cannot be used
    :raises ConversionError: if an operation of the file has no equal in torch
    """
    sides = (size, size) if isinstance(size, int) else size
    if sides is not None and min(sides) < 1:
        raise InputError(f"size is {size}, it must be a side, or (height, width), of 1 pixel or more")
    network, shape, outputs = onnx_file.read(Path(path), sides)
    if isinstance(heads, str):
        heads = _heads(heads, outputs, shape[1:])
    names: tuple[str, ...] = ()
    if heads or class_names is not None:
        counts = [head.num_classes for head in heads] or [outputs[0].shape[-1]]
        names = names_of_classes(class_names, counts)
    info = NetworkInfo(heads=tuple(heads), class_names=names, input_shape=shape)
    return OnnxNetwork(network, input_scale or InputScale(), info).eval()


def _heads(name: str, outputs: Sequence[Tensor], image_size: tuple[int, int]) -> list[Head]:
    if name not in HEADS:
        raise InputError(
            f"heads is {name!r}; give {', '.join(map(repr, HEADS))} or heads of sj_lowlat.detect"
        )
    if len(outputs) != 1 or outputs[0].dim() != 3 or outputs[0].shape[-1] < 6:
        raise InputError(
            f"the outputs are {[list(output.shape) for output in outputs]}; YOLOX gives one, [N, M, 5 + K]: "
            "give heads of sj_lowlat.detect"
        )
    return [YOLOXHead(outputs[0].shape[-1] - 5, image_size=image_size, activated=True)]
