"""Spiking networks in whole numbers: as networks, and as files for machines without floating point."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from sj_lowlat import checkpoint
from sj_lowlat.errors import FOREIGN, ConversionError, InputError
from sj_lowlat.files import atomic_write, read_json
from sj_lowlat.functional import to_int8
from sj_lowlat.layers import LowLatencyIFNode, RateReadout, SpikeMaxPool
from sj_lowlat.layers.same_max_pool import SameMaxPool
from sj_lowlat.network import SpikingNetwork, schedule_for, unwrapped
from sj_lowlat.schedule import Schedule

_EXACT = 2**24  # whole numbers that float32 holds, as the simulation computes with it
_FORMAT = 1
_WHAT = "the JSON file beside an .npz that write_integers wrote"


def integer_network(snn: nn.Module) -> SpikingNetwork:
    r"""A copy of a spiking network that computes in whole numbers; its simulation is exact in float32.

    Of each output channel of a convolution the weights become :math:`q = \mathrm{round}(w / s)` in 8 bits
    (:func:`~sj_lowlat.functional.to_int8`), its bias :math:`\mathrm{round}(b / s)`, and the threshold of its
    neurons :math:`2 \, \mathrm{round}(V_{th} / 2s)`, even, so that V(0) is whole. Images are rounded to
    grey levels of 0 to 255, and the s of layers that read them is that of :math:`w / 255`. Heads keep float
    scales and biases, :math:`out = s \, (q \cdot count) / L + b`.

    :param snn: from :func:`~sj_lowlat.conversion.convert`, with signed or plain neurons, V(0) half a
        threshold
    :return: the network; its spikes differ from those of ``snn`` where rounding crosses a border
    :raises ConversionError: for a layer that has no such form, by its name
    :raises InputError: for a network that is not spiking, or rounded already
    """
    snn = unwrapped(snn)
    if not isinstance(snn, SpikingNetwork) or snn.info.precision != "fp32":
        raise InputError("give a spiking network in fp32, as sj_lowlat.convert returns it")
    snn = copy.deepcopy(snn)
    plan = schedule_for(snn, snn.info.schedule or Schedule(snn.info.levels or 16))
    rows(snn, plan)  # refuses what has no form
    readers = set(snn.input_layers)
    nodes = [module for module in snn.modules() if isinstance(module, LowLatencyIFNode)]
    counts = max(node.burst * node.headroom for node in nodes)  # in units of the charge
    charge = plan.charge or plan.time_steps
    for node in snn.graph.nodes:
        layer: Any = snn.module_of(node)
        if isinstance(layer, RateReadout):
            weight: Any = layer.layer.weight
            q, scale = to_int8(weight.detach(), 0)
            weight.data.copy_(q.float() * scale)
        elif isinstance(layer, nn.Conv2d):
            (user,) = node.users
            neuron: Any = snn.module_of(user)
            q, scale = to_int8(layer.weight.detach(), 0)
            scale = scale.flatten().double()
            layer.weight.data.copy_(q)
            unit = scale / 255 if str(node.target) in readers else scale
            half = (neuron.threshold.double() / (2 * unit)).round().clamp(min=1)
            if layer.bias is not None:
                layer.bias.data.copy_((layer.bias.detach().double() / unit).round())
            neuron.v_threshold = (2 * half).float()
            reads = str(node.target) in readers
            _check(str(node.target), layer, neuron, charge, charge * (255 if reads else counts), reads)
    _round_images(snn.graph)
    snn.recompile()
    snn.connect()
    return snn


def _check(name: str, layer: nn.Conv2d, neuron: Any, charge: int, inputs: int, reads: bool) -> None:
    """Refuse sums that float32 cannot hold exactly.

    :param charge: L, steps whose charge a run carries
    :param inputs: most that one input sums up to in a run
    :param reads: whether the inputs are images
    """
    weight = layer.weight.detach().double()
    rising, falling = (weight.clamp(low, high).sum((1, 2, 3)).abs() for low, high in ((0, None), (None, 0)))
    # images are not negative; counts of leaky neurons are of both signs
    most = (torch.maximum(rising, falling) if reads else rising + falling) * inputs
    if layer.bias is not None:
        most += layer.bias.detach().double().abs() * charge
    low = neuron.threshold.double() / (neuron.slope or 1)  # what a count below 0 stands for
    largest = float((most + low).max())
    if largest >= _EXACT:
        raise ConversionError(
            f"layer {name!r} may sum up {largest:.3g}, and whole numbers are exact below {_EXACT}: give "
            "fewer levels or smaller biases"
        )


def _round_images(graph: fx.Graph) -> None:
    """Put images in grey levels of 0 to 255 in the place of images in [0, 1]."""
    image = next(node for node in graph.nodes if node.op == "placeholder")
    users = list(image.users)
    with graph.inserting_after(image):
        grey = graph.call_function(torch.ops.aten.mul.Tensor, (image, 255.0))
    with graph.inserting_after(grey):
        whole = graph.call_function(torch.ops.aten.round.default, (grey,))
    for node in (grey, whole):
        node.meta.update({"where": "", "owner": "", "dim0": 0, "sizes": ()})
    for user in users:
        user.replace_input_with(image, whole)


def rows(snn: SpikingNetwork, schedule: Schedule) -> list[dict[str, Any]]:
    """The graph as rows ``{"name", "op", "inputs", ...}``, in the order of their computation.

    :raises ConversionError: for a layer or an operation that the format does not hold, by its name
    :raises InputError: for a schedule with pre-steps, or whose charge is no multiple of its steps
    """
    if schedule.pre or schedule.gain % 1:
        raise InputError(f"the schedule is {schedule}: give one without pre-steps, L a multiple of T")
    found: list[dict[str, Any]] = []
    called: set[str] = set()
    for node in snn.graph.nodes:
        if node.op == "placeholder":
            continue
        layer, name = snn.module_of(node), str(node.target)
        if layer is not None and name in called:
            _refuse(name, "it is called several times")
        called.add(name if layer is not None else "")
        inputs = ["images" if item.op == "placeholder" else item.name for item in node.all_input_nodes]
        row: dict[str, Any] = {"name": node.name, "op": "", "inputs": inputs}
        if node.op == "output":
            found.append({"name": "output", "op": "output", "inputs": inputs})
        elif node.target is torch.ops.aten.cat.default and node.args[1:] == (1,):
            found.append({**row, "op": "cat"})
        elif isinstance(layer, RateReadout) and _plain_conv(layer.layer) and inputs != ["images"]:
            found.append({**row, "op": "head", **_window(layer.layer), "layer": f"{name}.layer"})
        elif _plain_conv(layer):
            users = [snn.module_of(user) for user in node.users]
            if len(users) != 1 or not isinstance(users[0], LowLatencyIFNode):
                _refuse(name, "its currents go elsewhere than into one layer of neurons")
            found.append({**row, "op": "conv", **_window(layer), "layer": name})
        elif isinstance(layer, LowLatencyIFNode):
            rule = layer.rule
            steeper = round(1 / rule.slope) if rule.slope else 0
            whole = not rule.slope or (rule.target == "leaky" and abs(rule.slope * steeper - 1) < 1e-6)
            if rule.target not in ("linear", "leaky") or rule.hard_reset or rule.powers:
                _refuse(name, f"{type(layer).__name__} of the rule {rule.target!r}")
            if not whole:
                _refuse(name, f"the slope {rule.slope:g} is not one over a whole number")
            if bool((layer.ratio != 0.5).any()):
                _refuse(name, "V(0) is not half a threshold")
            # of finer levels: more spikes a step, and a higher count
            limit = (schedule.charge or 0) * layer.burst * layer.headroom
            most = limit if layer.max_count is None else layer.max_count
            row |= {"counts": rule.counts, "burst": layer.burst * schedule.burst, "most": most}
            row |= {"steeper": steeper, "layer": name}
            found.append({**row, "op": "neuron"})
        elif isinstance(layer, SpikeMaxPool) and type(layer.pool) in (nn.MaxPool2d, SameMaxPool):
            found.append({**row, "op": "pool", **_pool(name, layer.pool), "layer": name})
        elif isinstance(layer, nn.Upsample) and layer.mode == "nearest" and _factor(layer):
            found.append({**row, "op": "up", "factor": _factor(layer)})
        else:
            _refuse(name, type(layer).__name__ if layer is not None else "an operation of its own")
    return found


def _refuse(name: str, what: str) -> None:
    raise ConversionError(
        f"layer {name!r} cannot be written ({what}): whole numbers and time steps are of ungrouped "
        "convolutions with neurons behind them, signed or plain neurons, max-pools, nearest upsampling, "
        "concatenations and heads"
    )


def _plain_conv(layer: Any) -> bool:
    return (
        isinstance(layer, nn.Conv2d)
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and layer.dilation == (1, 1)
        and not isinstance(layer.padding, str)
    )


def _window(layer: Any) -> dict[str, Any]:
    return {"stride": [*layer.stride], "before": [*layer.padding], "after": [*layer.padding]}


def _pool(name: str, pool: Any) -> dict[str, Any]:
    size, stride = (value if isinstance(value, int) else 0 for value in (pool.kernel_size, pool.stride))
    if not size or not stride or pool.ceil_mode or pool.dilation != 1 or not isinstance(pool.padding, int):
        _refuse(name, "a max-pool that is not square, dilated or rounds up")
    before, after = (pool.before, pool.after) if isinstance(pool, SameMaxPool) else (pool.padding,) * 2
    return {"size": size, "stride": [stride] * 2, "before": [before] * 2, "after": [after] * 2}


def _factor(layer: nn.Upsample) -> int:
    factors = layer.scale_factor
    factor = factors[0] if isinstance(factors, tuple) and len(set(factors)) == 1 else factors
    return int(factor) if isinstance(factor, (int, float)) and factor % 1 == 0 else 0


def write_integers(snn: nn.Module, path: str | Path, schedule: Schedule | str | None = None) -> Path:
    """Write a spiking network in whole numbers: arrays as ``NAME.npz``, everything else as ``NAME.json``.

    The arrays: of each convolution ``weight`` int8 ``[C, D, K, K]`` and ``bias`` int32 ``[C]``; of each layer
    of neurons ``threshold`` int32 ``[C]``; of each head ``weight`` int8, ``scale`` and ``bias`` float32. The
    JSON: rows of the graph, schedule, classes, heads, levels, and what :func:`read_integers` needs.

    :param snn: as for :func:`integer_network`
    :param path: of the ``.npz``; both files are written whole or not at all
    :param schedule: by default the network's own
    :return: the path
    :raises ConversionError: for a layer that the format does not hold, by its name
    :raises InputError: for a network or a schedule that cannot be written
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise InputError(f"the file is {path.name!r}, its name must end with .npz")
    snn = unwrapped(snn)
    if not isinstance(snn, SpikingNetwork):
        raise InputError("whole numbers are for spiking networks: call sj_lowlat.convert first")
    plan = schedule_for(snn, schedule)
    snn = copy.deepcopy(snn)
    snn.info = replace(snn.info, schedule=plan)
    table = rows(snn, plan)
    network = integer_network(snn)
    arrays = _arrays(network, table)
    memory = BytesIO()
    np.savez_compressed(memory, **arrays)  # type: ignore[arg-type]
    data, info = memory.getvalue(), network.info.to_json()
    record = {
        "format": _FORMAT, "arrays": hashlib.sha256(data).hexdigest(), "input_shape": info["input_shape"],
        "classes": list(network.info.class_names), "heads": info["heads"], "levels": network.info.levels,
        "schedule": plan.to_json(), "graph": table, "config": checkpoint.describe(network),
    }  # fmt: skip
    with atomic_write(path.with_suffix(".json")) as about, atomic_write(path) as temporary:
        temporary.write_bytes(data)
        about.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path


def _arrays(network: SpikingNetwork, table: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    state = {name: value.numpy() for name, value in checkpoint.values(network).items()}
    arrays: dict[str, np.ndarray] = {}
    for row in table:
        name = row.get("layer")
        if row["op"] == "conv":
            arrays[f"{name}.weight"] = state.pop(f"{name}.weight").astype(np.int8)
            if f"{name}.bias" in state:
                arrays[f"{name}.bias"] = state.pop(f"{name}.bias").astype(np.int32)
        elif row["op"] == "neuron":
            arrays[f"{name}.threshold"] = state.pop(f"{name}.threshold").astype(np.int32)
        elif row["op"] == "head":
            q, scale = to_int8(torch.from_numpy(state.pop(f"{name}.weight")), 0)
            arrays[f"{name}.weight"], arrays[f"{name}.scale"] = q.numpy(), scale.numpy()
    return arrays | state


def read_integers(path: str | Path) -> SpikingNetwork:
    """The network of :func:`integer_network` that :func:`write_integers` wrote; it fires the same spikes.

    :param path: the ``.npz``; its JSON lies beside it
    :raises FileNotFoundError: if one of the two is missing
    :raises InputError: if one is damaged, or they do not belong together
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}; give one that write_integers wrote")
    record = read_json(path.with_suffix(".json"), _WHAT)
    data = path.read_bytes()
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        raise InputError(f"{path.with_suffix('.json')} is of no known form: give {_WHAT}")
    if record.get("arrays") != hashlib.sha256(data).hexdigest():
        raise InputError(f"{path} and its JSON do not belong together: write both again")
    try:
        with np.load(BytesIO(data), allow_pickle=False) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in file.files}
        scales = {name: arrays.pop(name) for name in [*arrays] if name.endswith(".scale")}
        tensors = {name: value.float() for name, value in arrays.items()}
        for name, scale in scales.items():
            tensors[f"{name.removesuffix('scale')}weight"] *= scale
    except FOREIGN as error:
        raise InputError(f"{path} is damaged ({error!r}): write it again") from error
    network = checkpoint.rebuild(record.get("config"), tensors, path)
    if not isinstance(network, SpikingNetwork):
        raise InputError(f"{path} holds no spiking network: write it again")
    return network
