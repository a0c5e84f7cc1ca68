"""Spiking networks as NIR files, and back; spikes as NIR data."""

from __future__ import annotations

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from sj_lowlat import checkpoint
from sj_lowlat.errors import FOREIGN, InputError
from sj_lowlat.export.nir_network import Rows
from sj_lowlat.export.nir_nodes import Nodes, library
from sj_lowlat.files import atomic_write
from sj_lowlat.monitors import SpikeRecorder
from sj_lowlat.network import SpikingNetwork, schedule_for, unwrapped
from sj_lowlat.schedule import Schedule

_MOST_BYTES, _MOST_ITEMS, _MOST_DEPTH = 2**30, 100_000, 8


def write_nir(snn: nn.Module, path: str | Path, schedule: Schedule | str | None = None) -> Path:
    r"""Write a spiking network as a NIR graph (Pedersen et al., "Neuromorphic intermediate representation",
    Nature Communications 15, 2024); :func:`read_nir` gives a network that fires the same spikes.

    A step is dt = 1; the input is the image, the same in every step. NIR's neuron ``IF`` fires at
    :math:`V > v\_threshold`, starts at 0 and is reset to a value. What it does not hold stands in the
    ``metadata`` of each such node: ``v_initial`` ``[C]``, V before the first step; ``reset``, ``"subtract"``
    or ``"to v_reset"``; ``subtract`` ``[C]``, what a spike takes from V. A head is a convolution or affine
    layer before a node ``Output``; its map is the mean of that output over the steps.

    :param snn: from :func:`~sj_lowlat.conversion.convert` with ``neuron`` ``"residual-fix"``, ``"if"`` or
        ``"hard-reset"``
    :param path: the file, ``.nir`` (HDF5); written whole or not at all
    :param schedule: kept in the file, by default the network's own. NIR's biases are constant: no flush, no
        bursts, and a charge of T, such as ``"16+0c16"``
    :return: the file
    :raises ConversionError: for a layer that NIR does not hold, by its name
    :raises InputError: for a network or a schedule that cannot be written, or without the package nir
    """
    nir, snn, path = library(), unwrapped(snn), Path(path)
    if path.suffix != ".nir":
        raise InputError(f"the file is {path.name!r}, its name must end with .nir")
    if not isinstance(snn, SpikingNetwork):
        raise InputError("NIR is for spiking networks: call sj_lowlat.convert first")
    info, plan = snn.info, None
    if schedule is not None or info.schedule is not None or info.levels:
        plan = schedule_for(snn, schedule)
        if plan.flush or plan.burst != 1 or plan.pre or plan.gain != 1:
            like = f"{plan.charge}+0c{plan.charge}"
            raise InputError(
                f"the schedule is {plan}, and a NIR graph runs with constant input and biases: give one "
                f"without flush, bursts and pre-steps whose charge is its steps, such as {like}"
            )
    found = Nodes(snn)
    about = {
        "producer": "sj_lowlat",
        "outputs": json.dumps(found.outputs),
        "info": json.dumps(replace(info, schedule=plan).to_json()),
    }
    try:
        graph = nir.NIRGraph(found.nodes, found.edges, metadata=about)
    except FOREIGN as error:
        raise InputError(f"the network gives no valid NIR graph: {error}") from error
    return _write(nir.write, path, graph)


def read_nir(path: str | Path) -> SpikingNetwork:
    """The network of a NIR file, from its nodes and their metadata.

    A file of another program is read as NIR's equations say (reset to 0, V(0) = 0), where it holds the nodes
    that :func:`write_nir` writes, with r = 1.

    :raises FileNotFoundError: if there is no such file
    :raises InputError: if it is damaged, holds a node that this package has no layer for, or without the
        package nir
    """
    nir, path = library(), Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}; give a .nir file")
    data = path.read_bytes()
    try:
        _check(data, path)
        with np.errstate(all="ignore"):  # nir divides by strides before it looks at them
            rows = Rows(nir.read(BytesIO(data)), path)
        config = rows.config
    except InputError:
        raise
    except (OSError, *FOREIGN) as error:
        raise InputError(f"{path} is damaged or no NIR file ({error!r}): write it again") from error
    network = checkpoint.rebuild(config, rows.tensors, path)
    assert isinstance(network, SpikingNetwork)
    return network


def write_nir_spikes(recorder: SpikeRecorder, path: str | Path) -> Path:
    """Write the spikes of one picture as ``NIRGraphData``: for each layer the observable ``spikes``, as
    ``ValuedEventData``.

    An event has the place ``idx`` of its neuron in the flattened layer ``[C, H, W]``, its ``time`` (the first
    step is 0) and its ``value``: 1, or the spikes of a burst with their sign. The nodes have the names of the
    layers, as in the file of :func:`write_nir`. Any neurons can be recorded, signed ones and bursts too.

    :param recorder: made with ``sample`` as many neurons as the largest layer has, and after a run
    :param path: the file, ``.nir`` (HDF5); written whole or not at all
    :return: the file; ``nir.read_data`` reads it
    :raises InputError: if nothing ran, the recorder kept a part of the neurons, or without the package nir
    """
    nir, path = library(), Path(path)
    if path.suffix != ".nir":
        raise InputError(f"the file is {path.name!r}, its name must end with .nir")
    layers = recorder.layers()
    if not layers:
        raise InputError("the recorder has seen no spikes: simulate a picture first, with chunk=1")
    nodes = {}
    for layer in layers:
        if len(layer.sample) < layer.neurons:
            raise InputError(
                f"of layer {layer.name!r} {len(layer.sample)} of {layer.neurons} neurons were kept: make the "
                f"recorder with sample={max(other.neurons for other in layers)}"
            )
        spikes = layer.spikes.numpy()  # [T, neurons]
        time, idx = np.nonzero(spikes)
        value = spikes[time, idx].astype(np.float32)
        if not len(idx):  # HDF5 compresses no empty array; NIR says -1 and infinity where no event is
            idx, time, value = np.array([-1]), np.array([np.inf]), np.zeros(1, np.float32)
        events = nir.ValuedEventData(
            idx=idx[None].astype(np.int64), time=time[None].astype(np.float64), value=value[None],
            n_neurons=layer.neurons, t_max=float(len(spikes)),
        )  # fmt: skip
        nodes[layer.name] = nir.NIRNodeData({"spikes": events})
    return _write(nir.write_data, path, nir.NIRGraphData(nodes))


def _write(write: Any, path: Path, record: Any) -> Path:
    memory = BytesIO()  # HDF5 would lock the file, and atomic_write does
    write(memory, record)
    with atomic_write(path) as temporary:
        temporary.write_bytes(memory.getvalue())
    return path


def _check(data: bytes, path: Path) -> None:
    """Refuse what a HDF5 file may hold and a network does not: other files, and sizes without end.

    :raises InputError: naming the part
    """
    import h5py

    items = size = 0

    def look(group: Any, depth: int) -> None:
        nonlocal items, size
        for name in group:
            items += 1
            link, item = group.get(name, getlink=True), None
            if isinstance(link, h5py.HardLink):
                item = group[name]
            if isinstance(item, h5py.Group) and depth < _MOST_DEPTH and items < _MOST_ITEMS:
                look(item, depth + 1)
            elif isinstance(item, h5py.Dataset) and not item.external and not item.is_virtual:
                size += item.nbytes
            else:
                raise InputError(f"{path} is no network ({name!r} is a link, or too deep): write it again")
            if size > _MOST_BYTES:
                raise InputError(f"{path} holds more than {_MOST_BYTES:.3g} bytes: write a smaller network")

    with h5py.File(BytesIO(data), "r") as file:
        look(file, 0)
