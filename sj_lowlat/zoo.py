"""Networks by one word: a folder, a file, a network that ships, or a fresh one."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from sj_lowlat import checkpoint, distributed, export, models, pretrained
from sj_lowlat.errors import FOREIGN, InputError
from sj_lowlat.files import parse_json, read_text

_FRESH = {"snn-tiny-yolov3": "snn_tiny_yolov3", "tiny-yolov3": "tiny_yolov3"}
MODEL_FORMS = (
    "give a folder that sj-lowlat wrote, a darknet file NET.weights (of yolov3-tiny) "
    "or NET.cfg,NET.weights[,NET.names] (NET.conv.15: the layers below 15), "
    f"a network that ships with sj_lowlat ({', '.join(pretrained.names()) or 'none is installed'}), "
    "a file of pretrained.pack (NAME.safetensors), of export (NET.onnx, NET.npz, NET.nir), any ONNX file, "
    "with options as in NET.onnx:heads=yolox,scale=255,bgr=true,mean=0,std=1,size=416,names=FILE.names, "
    f"or a fresh network: {' or '.join(_FRESH)}, with options as in snn-tiny-yolov3:width=0.5,input_size=320"
)


def open_network(
    spec: str,
    *,
    spiking: bool = False,
    class_names: Sequence[str] = (),
    seed: int = 0,
    device: str = "cpu",
) -> nn.Module:
    """Open the network that a word names.

    :param spec: see ``MODEL_FORMS``; a shipped network precedes a folder of its name (``./NAME``)
    :param spiking: of a shipped network: the spiking one instead of its Quant ANN
    :param class_names: classes of a fresh network, unless the word gives their number
    :param seed: of a fresh network's weights
    :param device: ``"cpu"``, ``"cuda"``, ..., or ``"auto"``: a GPU where there is one
    :return: the network, in eval mode
    :raises FileNotFoundError: if there is no such folder or file
    :raises InputError: if the word or the file cannot be used
    """
    model: nn.Module
    name, _, options = spec.partition(":")
    onnx, _, onnx_options = spec.partition(".onnx:")
    if spec in pretrained.names():
        model = pretrained.load(spec, spiking=spiking)
    elif os.path.isdir(spec):
        model = checkpoint.load(spec)
    elif spec.endswith(pretrained.SUFFIX):
        model = pretrained.unpack(spec)
    elif spec.endswith(".onnx"):
        model = export.read_onnx(spec) if export.wrote(spec) else models.from_onnx(spec)
    elif spec.endswith(".npz"):
        model = export.read_integers(spec)
    elif spec.endswith(".nir"):
        model = export.read_nir(spec)
    elif onnx != spec:
        model = _onnx(f"{onnx}.onnx", onnx_options)
    elif spec.endswith(".names") and spec.count(",") == 2:
        cfg, weights, names = spec.split(",")
        model = models.darknet(cfg, weights, _names(names))
    elif re.search(r"\.(weights|conv\.[1-9]\d*)$", spec):
        cfg, comma, weights = spec.rpartition(",")
        pair = bool(comma) and not os.path.isfile(spec)
        model = models.darknet(cfg, weights) if pair else models.tiny_yolov3(weights=spec)
    elif name in _FRESH:
        model = _fresh(_FRESH[name], options, class_names, seed)
    else:
        raise FileNotFoundError(f"no model {spec!r}: {MODEL_FORMS}")
    return model.to(find_device(device)).eval()


def _names(path: str) -> list[str]:
    """The class names of a darknet file, one a line."""
    lines = read_text(path, "a .names file with one class a line").split("\n")
    return [line.strip() for line in lines if line.strip()]


def find_device(name: str) -> torch.device:
    """The device of that name: ``"auto"``, or as torch names it; of several processes each has its own GPU.

    :raises InputError: if this machine does not have it, or fewer GPUs than processes
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device is {name!r}, not usable here ({error}); give auto, cpu or cuda") from error
    return distributed.own_gpu(device) if device.type == "cuda" else device


def _options(text: str) -> dict[str, Any]:
    """``name=number,name=word,...``"""
    found: dict[str, Any] = {}
    for option in filter(None, text.split(",")):
        key, equals, value = option.partition("=")
        if not equals or key in found:
            raise InputError(f"the options {text!r} are not all name=value, each name once: {MODEL_FORMS}")
        try:
            found[key] = parse_json(value, key, "a number")
        except InputError:
            found[key] = value
    return found


def _onnx(path: str, text: str) -> nn.Module:
    options = _options(text)
    names = options.pop("names", None)
    of_input: dict[str, Any] = {
        key: options.pop(key) for key in ("scale", "mean", "std", "bgr") if key in options
    }
    if unknown := options.keys() - {"heads", "size"}:
        raise InputError(f"an ONNX file has no option {sorted(unknown)[0]!r}: {MODEL_FORMS}")
    kinds: dict[str, type] = {"heads": str, "size": int, "bgr": bool}
    for key, value in (options | of_input).items():
        if key in kinds and type(value) is not kinds[key]:
            raise InputError(f"the option {key}={value} is no {kinds[key].__name__}: {MODEL_FORMS}")
    try:
        scale = models.InputScale(
            float(of_input.get("scale", 1)),
            [float(of_input.get("mean", 0))],
            [float(of_input.get("std", 1))],
            of_input.get("bgr", False),
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"the options {text!r} are not numbers ({error}): {MODEL_FORMS}") from error
    return models.from_onnx(path, class_names=names and _names(str(names)), input_scale=scale, **options)


def _fresh(builder: str, options: str, class_names: Sequence[str], seed: int) -> nn.Module:
    kwargs = _options(options)
    if class_names and "num_classes" not in kwargs:
        kwargs |= {"num_classes": len(class_names), "class_names": list(class_names)}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            return models.create(builder, **kwargs)
        except InputError:
            raise
        except FOREIGN as error:
            raise InputError(f"{builder} cannot be built with {options} ({error}); give numbers") from error
