"""Networks on disk: weights as safetensors, structure as JSON. Nothing is unpickled, no code is run."""

from __future__ import annotations

import copy
import hashlib
import json
import operator
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from sj_lowlat import checkpoint_v1, models
from sj_lowlat.checkpoint_v1 import SAFE_VALUES
from sj_lowlat.errors import FOREIGN, InputError
from sj_lowlat.files import atomic_write, read_json
from sj_lowlat.graph import from_rows, to_rows
from sj_lowlat.network import (
    GraphNetwork,
    NetworkInfo,
    SpikingNetwork,
    module_rows,
    refuse_not_finite,
    root_from_rows,
    unwrapped,
)
from sj_lowlat.progress import writing
from sj_lowlat.record import versions

WEIGHTS, CONFIG = "model.safetensors", "config.json"
_FORMAT = 2
_KINDS = {kind.__name__: kind for kind in (GraphNetwork, SpikingNetwork)}


def save(model: nn.Module, folder: str | Path) -> Path:
    """Write a network's weights and structure; a network in this folder is replaced only when both new files
    are whole. The structure names its weights by a hash, so that files of two networks are never mixed.

    :param model: what ``replace_layers``, ``prepare`` or ``convert`` returned, which loads without code of
        its own class; a network of :mod:`sj_lowlat.models`; or any other one, of which only weights are kept
    :param folder: is made; gets ``model.safetensors`` and ``config.json``; returned
    :raises InputError: for a network with layers that cannot be written
    :raises OSError: if the folder cannot be written
    """
    folder, model = Path(folder), unwrapped(model)
    tensors = values(model)
    record = describe(model)
    with (
        writing(folder / WEIGHTS, SafetensorError),
        atomic_write(folder / CONFIG) as config_file,
        atomic_write(folder / WEIGHTS) as weights_file,
    ):
        save_file(tensors, weights_file)
        text = json.dumps({**record, "weights": _hash(weights_file)}, indent=1)
        config_file.write_text(text + "\n", encoding="utf-8")
    return folder


def _hash(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def values(model: nn.Module) -> dict[str, torch.Tensor]:
    """A network's state as safetensors can hold it: name -> copy on the CPU, contiguous, no memory shared."""
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }


def describe(model: nn.Module) -> dict[str, Any]:
    """A network's structure as JSON can hold it, from which :func:`rebuild` makes the network again."""
    record: dict[str, Any] = {"format": _FORMAT, "versions": versions(), "build": None, "network": None}
    if isinstance(model, GraphNetwork):
        names: dict[int, list[str]] = {}  # of each parameter
        for name, parameter in model.named_parameters(remove_duplicate=False):
            names.setdefault(id(parameter), []).append(name)
        tied = [group for group in names.values() if len(group) > 1]
        nodes, layers = to_rows(model.graph), module_rows(model)
        network = {"kind": type(model).__name__, "layers": layers, "nodes": nodes, "tied": tied}
        return {**record, "network": network, "info": model.info.to_json()}
    return {**record, "build": getattr(model, "build_config", None) or None}


def load(folder: str | Path, model: nn.Module | None = None) -> nn.Module:
    """Read a network that :func:`save` wrote. A folder of version 0.1 is rewritten in place.

    :param model: for a network of your own of which only the weights were kept: the same network, left
        untouched
    :return: the network, in eval mode
    :raises FileNotFoundError: if one of the two files is missing
    :raises InputError: if a file is damaged, or its weights are those of another network
    """
    folder = Path(folder)
    for name in (WEIGHTS, CONFIG):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} holds no {name}; give a folder that sj_lowlat.save wrote")
    config = read_json(folder / CONFIG, "a folder that sj_lowlat.save wrote")
    try:
        tensors = load_file(folder / WEIGHTS)
    except (SafetensorError, *FOREIGN) as error:
        raise InputError(f"{folder} is damaged ({error}); write it again with sj_lowlat.save") from error
    if isinstance(config, dict) and config.get("format") == 1:
        network = checkpoint_v1.rebuild(config, tensors, folder / CONFIG, model)
        with suppress(OSError):  # a folder that cannot be written is read like this every time
            save(network, folder)
        return network
    if isinstance(config, dict) and config.get("weights") not in (None, _hash(folder / WEIGHTS)):
        raise InputError(
            f"{folder / CONFIG} belongs to other weights than those in {WEIGHTS}, as after a save that was"
            f' interrupted: save the network again. To use them all the same, remove "weights" from {CONFIG}'
        )
    structure = isinstance(config, dict) and (config.get("build", 0), config.get("network", 0))
    if model is None and structure == (None, None):
        raise InputError(f"{folder}: a network not from sj_lowlat.models: give load(..., model=MyNetwork())")
    return rebuild(config, tensors, folder / CONFIG, model)


def rebuild(
    config: Any, tensors: Mapping[str, torch.Tensor], source: Path, model: nn.Module | None = None
) -> nn.Module:
    """Make the network of which :func:`describe` gave the config and :func:`values` the tensors.

    :param source: the file that the config came from, for errors
    :param model: as for :func:`load`
    :return: the network, in eval mode
    :raises InputError: if the config is of no known form, or the values are those of another network
    """
    known = isinstance(config, dict) and {"build", "network"} <= set(config)
    if not known or config.get("format") != _FORMAT:
        raise InputError(f"{source} holds no config of format {_FORMAT}; write it again")
    network: nn.Module
    if config["network"] is not None:
        network = _network(config, source)
    elif model is not None:
        network = copy.deepcopy(model)
    else:
        network = fresh(config["build"], tensors, source)
    give_values(network, tensors, source)
    try:
        for first, *others in (config["network"] or {}).get("tied", []):
            for name in others:
                parent, _, child = name.rpartition(".")
                network.get_submodule(parent).register_parameter(child, network.get_parameter(first))
    except FOREIGN as error:
        raise InputError(f"{source} ties weights that are not there ({error}); write it again") from error
    if isinstance(network, SpikingNetwork):
        network.connect()
    return network.eval()


def fresh(build: Any, tensors: Mapping[str, torch.Tensor], source: Path) -> nn.Module:
    """A network of :mod:`sj_lowlat.models` with fresh weights, from its ``build_config``.

    :param tensors: its values to come; a network of more is not made
    :raises InputError: if there is no such network
    """
    with torch.random.fork_rng(devices=()):  # fresh weights are drawn, and replaced
        try:
            most = max(SAFE_VALUES, 2 * sum(tensor.numel() for tensor in tensors.values()))
            return models.build(build, most)
        except FOREIGN as error:
            raise InputError(f"the network cannot be built as {source} says: {error}") from error


def give_values(network: nn.Module, tensors: Mapping[str, torch.Tensor], source: Path) -> None:
    """Put values into a network; those of a graph's layers are on the device ``meta`` before.

    :raises InputError: if they are those of another network, or not finite
    """
    refuse_not_finite(tensors, f"the network of {source} is damaged, or was not sound when it was saved")
    try:
        network.load_state_dict(tensors, assign=isinstance(network, GraphNetwork))
    except FOREIGN as error:
        raise InputError(f"the weights do not fit the network that {source} describes: {error}") from error


def _network(config: dict[str, Any], source: Path) -> GraphNetwork:
    try:
        record = config["network"]
        kind = _KINDS[record["kind"]]
        info = NetworkInfo.from_json(config["info"])
        network = kind(root_from_rows(record["layers"]), from_rows(record["nodes"]), info)
        for node in network.graph.nodes:
            if node.op in ("call_module", "get_attr"):
                operator.attrgetter(str(node.target))(network)  # it is there
        return network
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    except FOREIGN as error:
        raise InputError(f"{source} describes no network ({error!r}); write it again") from error
