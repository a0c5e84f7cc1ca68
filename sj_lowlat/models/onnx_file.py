"""ONNX files as networks of torch, through onnx, onnxslim and onnx2torch.

onnxslim folds what is constant for one image size, onnx2torch makes torch's layers of the nodes, and
``onnx_plain`` makes functions of plain numbers of what is left.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from sj_lowlat.errors import FOREIGN, ConversionError, InputError
from sj_lowlat.models.onnx_plain import Plain

NEEDED = "reading ONNX files needs onnx, onnx2torch, onnxslim and onnxruntime: pip install 'sj-lowlat[onnx]'"
_BATCH_OF_TEST = 2
_NEWEST = 17  # opset that onnx2torch knows whole; newer files are written back to it
_MOST_VALUES = 2**24  # of an image
_CLOSE, _NOTHING = 1e-3, 1e-5  # of the largest output, and in all: float32 in two programs


def read(
    path: Path, size: tuple[int, int] | None
) -> tuple[nn.Module, tuple[int, int, int], list[torch.Tensor]]:
    """The network of a file, checked against onnxruntime on two random images.

    :param path: the file
    :param size: (height, width) of the images, where the file leaves them open, or other ones
    :return: the network, ``(C, H, W)`` of its images, and its outputs for one image
    :raises FileNotFoundError: if there is no such file
    :raises InputError: if a needed library is missing, the file is damaged, or it takes no images
    :raises ConversionError: if an operation cannot be turned into torch
    """
    try:
        import onnx
        import onnx.version_converter
        import onnx2torch
        import onnxslim
    except ImportError as error:
        raise InputError(f"{NEEDED} ({error})") from error
    file = whole_file(onnx, path)
    shape = _fix_shape(file, size, path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of rounding modes: the check below tells
            slim = onnxslim.slim(file)
            if any(opset.domain == "" and opset.version > _NEWEST for opset in slim.opset_import):
                slim = onnx.version_converter.convert_version(slim, _NEWEST)
            network = onnx2torch.convert(slim)
    except Exception as error:  # whatever comes out of three libraries
        raise ConversionError(
            f"{path} cannot be turned into torch ({_first_line(error)}): export it with other operations"
        ) from error
    network = network.eval()
    images = torch.rand(_BATCH_OF_TEST, *shape, generator=torch.Generator().manual_seed(0))
    theirs = _in_onnxruntime(file, images, path)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of onnx2torch's modules that are replaced here
            Plain(network).run(images[:1])
            _rename(network)
            network.recompile()
            outputs = network(images)
    except FOREIGN as error:
        raise ConversionError(
            f"{path} cannot be run in torch ({_first_line(error)}): export it with other operations"
        ) from error
    outputs = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
    _compare(outputs, theirs, path)
    return network, shape, [output[:1] for output in outputs]


def _rename(network: fx.GraphModule) -> None:
    """Give the layers names that code can hold: files have ``/features/0/Conv``."""
    new: dict[str, str] = {}
    for node in network.graph.nodes:
        old = str(node.target)
        if node.op == "call_module" and "." not in old:
            if old not in new:
                name = re.sub(r"\W+", "_", old).strip("_")
                name = name if name.isidentifier() else f"layer_{name}"
                while name in new.values():
                    name += "_"
                new[old] = name
                network._modules[name] = network._modules.pop(old)
            node.target = new[old]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def whole_file(onnx: Any, path: Path) -> Any:
    """A checked ONNX file.

    :param onnx: the library
    :raises FileNotFoundError: if there is no such file
    :raises InputError: if it is damaged
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}; give an ONNX file")
    try:
        file = onnx.load(path)
        onnx.checker.check_model(file)
    except Exception as error:  # protobuf, onnx and the file system have no error in common
        raise InputError(
            f"{path} is no whole ONNX file ({_first_line(error)}): get or export it again"
        ) from error
    return file


def _fix_shape(file: Any, size: tuple[int, int] | None, path: Path) -> tuple[int, int, int]:
    """Give the file's images a batch of 1 and a size; in place."""
    weights = {tensor.name for tensor in file.graph.initializer}
    inputs = [value for value in file.graph.input if value.name not in weights]
    if len(inputs) != 1 or len(inputs[0].type.tensor_type.shape.dim) != 4:
        raise InputError(
            f"{path} takes {[value.name for value in inputs]}; only networks of one input, images "
            "[N, C, H, W], can be converted"
        )
    for value in [value for value in file.graph.input if value.name in weights]:
        file.graph.input.remove(value)  # files of old opsets list their weights among the inputs
    dims = inputs[0].type.tensor_type.shape.dim
    found = [dim.dim_value for dim in dims][1:]
    wanted = (found[0], *(size or found[1:]))
    if min(wanted) < 0 or math.prod(wanted) > _MOST_VALUES:
        raise InputError(f"{path} takes images of {[*wanted]}: at most {_MOST_VALUES} values are taken")
    if not all(wanted):
        raise InputError(f"{path} leaves its image size open: give size, for instance size=320")
    for dim, value in zip(dims, (1, *wanted), strict=True):
        dim.dim_value = value  # takes a symbol's place
    return wanted


def _in_onnxruntime(file: Any, images: torch.Tensor, path: Path) -> list[torch.Tensor]:
    """What the file gives for images, one by one."""
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(f"{NEEDED} ({error})") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            file.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        name = session.get_inputs()[0].name
        found = [session.run(None, {name: image[None].numpy()}) for image in images]
    except Exception as error:  # onnxruntime's errors have no common base
        raise InputError(
            f"{path} does not run on images of {list(images.shape[1:])} ({_first_line(error)}): give the "
            "size that it was made for"
        ) from error
    return [torch.cat([torch.from_numpy(part) for part in parts]) for parts in zip(*found, strict=True)]


def _compare(ours: Sequence[torch.Tensor], theirs: Sequence[torch.Tensor], path: Path) -> None:
    for index, (output, wanted) in enumerate(zip(ours, theirs, strict=True)):
        if output.shape != wanted.shape:
            raise ConversionError(
                f"{path} works on one image only: two give {list(output.shape)}, not {list(wanted.shape)}"
            )
        apart, largest = float((output - wanted).abs().max()), float(wanted.abs().max())
        if not apart < _CLOSE * largest + _NOTHING:
            raise ConversionError(
                f"{path} gives other values in torch than in onnxruntime (output {index}: {apart:.2g} apart, "
                f"where the largest is {largest:.2g}): one of its operations has no equal in torch; export "
                "it with other settings"
            )
