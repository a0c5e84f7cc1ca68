"""Networks and data from one word of the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from sj_lowlat import checkpoint, models, pretrained
from sj_lowlat.cli.pictures import Pictures
from sj_lowlat.data import CocoDataset, DetectionDataset, ImageFolderDataset, TrafficDataset, VocDataset
from sj_lowlat.data.images import image_size
from sj_lowlat.errors import InputError
from sj_lowlat.spike_camera import SpikeDataset

_FRESH = {"snn-tiny-yolov3": "snn_tiny_yolov3", "tiny-yolov3": "tiny_yolov3"}
MODEL_FORMS = (
    "give a folder that sj-lowlat wrote, a darknet file NET.weights (of yolov3-tiny) or NET.cfg,NET.weights, "
    f"a network that ships with sj_lowlat ({', '.join(pretrained.names()) or 'none is installed'}), "
    f"or a fresh network: {' or '.join(_FRESH)}, with options as in snn-tiny-yolov3:width=0.5,input_size=320"
)
DATA_FORMS = (
    "give coco:ANNOTATIONS.json:IMAGE_FOLDER, voc:FOLDER_ABOVE_VOCdevkit[:IMAGE_SET], "
    "traffic[:COUNT[:SEED]], spikes:INSTANCES.json[:WINDOW] (of sj-lowlat encode), or a picture or folder of "
    "pictures"
)
_VOC_SETS = ("train", "val", "trainval", "test")


def open_model(
    spec: str,
    *,
    spiking: bool = False,
    class_names: Sequence[str] = (),
    seed: int = 0,
    device: str = "cpu",
) -> nn.Module:
    """Open the network that a word names.

    :param spec: see ``MODEL_FORMS``; a shipped network goes before a folder of its name (which is ``./NAME``)
    :param spiking: of a shipped network, the spiking one and not its Quant ANN
    :param class_names: classes of a fresh network, unless the word gives their number
    :param seed: of a fresh network's weights
    :param device: ``"cpu"``, ``"cuda"``, ..., or ``"auto"``: a GPU where there is one
    :raises FileNotFoundError: if there is no such folder or file
    :raises InputError: if the word or the file cannot be used
    """
    name, _, options = spec.partition(":")
    if spec in pretrained.names():
        model = pretrained.load(spec, spiking=spiking)
    elif Path(spec).is_dir():
        model = checkpoint.load(spec)
    elif spec.endswith(".weights"):
        cfg, comma, weights = spec.rpartition(",")
        pair = bool(comma) and not Path(spec).is_file()
        model = models.darknet(cfg, weights) if pair else models.tiny_yolov3(weights=spec)
    elif name in _FRESH:
        model = _fresh(_FRESH[name], options, class_names, seed)
    else:
        raise FileNotFoundError(f"no model {spec!r}: {MODEL_FORMS}")
    return model.to(find_device(device)).eval()


def find_device(name: str) -> torch.device:
    """The device of that name.

    :param name: ``"auto"``, or as torch names it
    :raises InputError: if this machine does not have it
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device is {name!r}, which cannot be used here ({error}); give auto, cpu or cuda"
        ) from error
    return device


def _fresh(builder: str, options: str, class_names: Sequence[str], seed: int) -> nn.Module:
    kwargs: dict[str, object] = {}
    for option in filter(None, options.split(",")):
        key, _, value = option.partition("=")
        try:
            kwargs[key] = json.loads(value)
        except json.JSONDecodeError:
            raise InputError(
                f"the network's option {option!r} is not of the form name=number: {MODEL_FORMS}"
            ) from None
    if class_names and "num_classes" not in kwargs:
        kwargs |= {"num_classes": len(class_names), "class_names": list(class_names)}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            return models.create(builder, **kwargs)
        except TypeError as error:
            raise InputError(f"{builder} cannot be built with {options} ({error}); give numbers") from error


def open_data(spec: str) -> DetectionDataset:
    """Open the data set that a word names.

    :param spec: see ``DATA_FORMS``
    :raises FileNotFoundError: if there is no such folder or file
    :raises InputError: if the word or the files cannot be used
    """
    kind, colon, rest = spec.partition(":")
    if kind in _OPEN and (colon or kind == "traffic"):
        return _OPEN[kind](rest)
    path = Path(spec)
    if path.is_dir():
        return ImageFolderDataset(path)
    if path.is_file():
        try:
            image_size(path)
        except InputError as error:
            raise InputError(f"{spec} is not a picture: {DATA_FORMS}") from error
        return Pictures([path])
    raise FileNotFoundError(f"no data {spec!r}: {DATA_FORMS}")


def _coco(rest: str) -> CocoDataset:
    words = rest.split(":")
    splits = [(":".join(words[:i]), ":".join(words[i:])) for i in range(1, len(words))]
    if not splits:
        raise InputError(f"coco:{rest} names no image folder: {DATA_FORMS}")
    # a path may hold a colon: take the split whose halves exist
    whole = [split for split in splits if Path(split[0]).is_file() and Path(split[1]).is_dir()]
    half = [split for split in splits if Path(split[0]).is_file() or Path(split[1]).is_dir()]
    return CocoDataset(*(whole + half + splits)[0])


def _voc(rest: str) -> VocDataset:
    root, colon, image_set = rest.rpartition(":")
    if colon and (image_set in _VOC_SETS or (Path(root).is_dir() and not Path(rest).is_dir())):
        return VocDataset(root, image_set)
    return VocDataset(rest)


def _traffic(rest: str) -> TrafficDataset:
    words = rest.split(":") if rest else []
    if len(words) > 2 or not all(word.isdecimal() for word in words):
        raise InputError(f"traffic:{rest} must hold whole numbers, as in traffic:100:1: {DATA_FORMS}")
    numbers = [int(word) for word in words]
    return TrafficDataset(numbers[0] if numbers else 100, seed=numbers[1] if len(numbers) > 1 else 0)


def _spikes(rest: str) -> SpikeDataset:
    path, colon, window = rest.rpartition(":")
    if colon and window.isdecimal():
        return SpikeDataset(path, window=int(window))
    return SpikeDataset(rest)


_OPEN: dict[str, Callable[[str], DetectionDataset]] = {
    "coco": _coco,
    "voc": _voc,
    "traffic": _traffic,
    "spikes": _spikes,
}
