"""Detectors that ship with the package: one file each, large weights in 8 bits, small ones in 16.

A file is a safetensors file. A large weight ``NAME`` of a convolution is held as ``NAME.int8`` and
``NAME.scale``, everything else under its own name; the structure and a card stand as JSON in the header.
Nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from sj_lowlat import checkpoint, checkpoint_v1
from sj_lowlat.conversion import convert
from sj_lowlat.errors import FOREIGN, InputError
from sj_lowlat.files import atomic_write, parse_json
from sj_lowlat.functional import to_int8
from sj_lowlat.layers import is_spiking
from sj_lowlat.network import GraphNetwork, refuse_not_finite, unwrapped
from sj_lowlat.progress import writing
from sj_lowlat.schedule import Schedule

SUFFIX = ".safetensors"
_HEADER = "sj_lowlat"  # one entry, so that the same network gives the same bytes
_INT8, _SCALE = ".int8", ".scale"


def pack(
    model: nn.Module, path: str | Path, card: Mapping[str, Any] | None = None, small: int = 1 << 19
) -> Path:
    """Write a Quant ANN into one small file.

    Large weights of convolutions become 8 bits, with a float32 scale per output channel (in a transposed
    convolution, groups share theirs), small ones float16: they are sensitive, and hardly cost anything.
    Other floating-point values become float32, whole numbers stay.

    :param model: what :func:`~sj_lowlat.conversion.prepare` returned, trained or not
    :param path: the file, ``NAME.safetensors``; returned
    :param card: what JSON can hold and users should know; ``card["schedule"]``, such as ``"4+2b4"``, becomes
        the spiking network's own schedule
    :param small: a weight with fewer values than this is a small one
    :raises InputError: for a network that is not a Quant ANN, values that are not finite, another file name,
        or a card that is no JSON or holds no valid schedule
    :raises OSError: if the file cannot be written
    """
    path, model = Path(path), unwrapped(model)
    if path.suffix != SUFFIX:
        raise InputError(f"the file is {path.name!r}; give a name that ends in {SUFFIX}")
    if not isinstance(model, GraphNetwork) or is_spiking(model) or model.info.levels is None:
        raise InputError("pack takes a Quant ANN: call prepare (and finetune) first, and do not convert")
    card = dict(card or {})
    schedule = _schedule(card)
    about = replace(model.info, card=card, schedule=schedule or model.info.schedule)
    tensors = checkpoint.values(model)
    refuse_not_finite(tensors)
    tensors = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
    for name, module in model.named_modules(remove_duplicate=False):
        key = f"{name}.weight"
        if not isinstance(module, _ConvNd) or key not in tensors:
            continue
        weight = tensors.pop(key)
        if weight.numel() < small:
            half = weight.half()
            tensors[key] = half if bool(torch.isfinite(half).all()) else weight
        else:
            axis = 1 if isinstance(module, _ConvTransposeNd) else 0
            tensors[key + _INT8], tensors[key + _SCALE] = to_int8(weight, axis)
    try:
        config = {**checkpoint.describe(model), "info": about.to_json()}
        header = json.dumps({"config": config}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"the card is no JSON ({error}): give numbers, strings, lists and dicts") from error
    with writing(path, SafetensorError), atomic_write(path) as temporary:
        save_file(tensors, temporary, metadata={_HEADER: header})
    return path


def unpack(path: str | Path) -> GraphNetwork:
    """Read a network that :func:`pack` wrote.

    :return: the Quant ANN with float32 weights, in eval mode, with ``card`` and ``schedule``
    :raises FileNotFoundError: if there is no such file
    :raises InputError: if the file is damaged, or not of this kind
    """
    path = Path(path)
    foreign = f"{path} was not written by sj_lowlat.pretrained.pack: give another file"
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}; give one that sj_lowlat.pretrained.pack wrote")
    try:
        with safe_open(path, framework="pt") as file:
            about = (file.metadata() or {}).get(_HEADER, "null")
            header = parse_json(about, str(path), "a file that sj_lowlat.pretrained.pack wrote")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        tensors = {k: v.float() if v.dtype == torch.float16 else v for k, v in tensors.items()}
        if not isinstance(header, dict) or not isinstance(header.get("config"), dict):
            raise InputError(foreign)
        for name in [name for name in tensors if name.endswith(_INT8)]:
            whole = name.removesuffix(_INT8)
            weight, scale = tensors.pop(name), tensors.pop(whole + _SCALE)
            if torch.broadcast_shapes(weight.shape, scale.shape) != weight.shape:
                raise ValueError(f"{whole} is {[*weight.shape]}, its scales {[*scale.shape]}")
            tensors[whole] = weight.float() * scale
    except InputError:
        raise
    except (SafetensorError, *FOREIGN) as error:
        raise InputError(f"{path} is damaged ({error}): get the file again") from error
    config = header["config"]
    rebuild = checkpoint_v1.rebuild if config.get("format") == 1 else checkpoint.rebuild
    model = rebuild(config, tensors, path)
    if not isinstance(model, GraphNetwork) or model.info.levels is None:
        raise InputError(foreign)
    if "card" in header:  # of version 0.1
        try:
            model.info = replace(model.info, card=header["card"], schedule=_schedule(header["card"]))
        except FOREIGN as error:
            raise InputError(f"{path} holds no card ({error}): get the file again") from error
    return model


def _schedule(card: Mapping[str, Any]) -> Schedule | None:
    """The card's schedule; in files of version 0.1 a dictionary."""
    schedule = card.get("schedule")
    if schedule is None or schedule == {}:
        return None
    if isinstance(schedule, str):
        return Schedule.parse(schedule)
    known = {"time_steps", "flush", "levels", "burst"}
    if not isinstance(schedule, dict) or "time_steps" not in schedule or not known.issuperset(schedule):
        raise InputError(f"the card's schedule is {schedule!r}; write it as in '4+2b4'")
    return Schedule(**{"charge" if name == "levels" else name: value for name, value in schedule.items()})


def _shipped() -> dict[str, Traversable]:
    folder = resources.files("sj_lowlat") / "weights"
    files = folder.iterdir() if folder.is_dir() else ()
    return {file.name.removesuffix(SUFFIX): file for file in files if file.name.endswith(SUFFIX)}


def names() -> tuple[str, ...]:
    """Names of the detectors that this installation holds, for :func:`load`."""
    return tuple(sorted(_shipped()))


def load(name: str, *, spiking: bool = True) -> GraphNetwork:
    """A detector that ships with the package; ``simulate(snn, images)`` runs its own schedule.

    :param name: one of :func:`names`, such as ``"snn-tiny-yolov3-coco"``
    :param spiking: converted, with signed neurons; otherwise its Quant ANN
    :return: the detector in eval mode, with ``class_names``, ``levels``, ``card`` and ``schedule``
    :raises InputError: if there is no such detector, or its file is damaged
    """
    shipped = _shipped()
    if name not in shipped:
        there = f"is {', '.join(sorted(shipped))}" if shipped else "are none in this installation"
        raise InputError(f"no detector named {name!r} ships with sj_lowlat: there {there}")
    with resources.as_file(shipped[name]) as path:
        quant = unpack(path)
    return convert(quant) if spiking else quant
