"""Float and Quant ANNs as ONNX files, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sj_lowlat import checkpoint
from sj_lowlat.errors import FOREIGN, ConversionError, InputError
from sj_lowlat.export.onnx_nodes import Nodes
from sj_lowlat.files import atomic_write, parse_json
from sj_lowlat.layers import is_spiking
from sj_lowlat.models.onnx_file import whole_file
from sj_lowlat.network import GraphNetwork, info_of, unwrapped

OPSET, IR_VERSION = 21, 10
_CONFIG, _REST = "sj_lowlat.config", "sj_lowlat.tensors"
_NEEDED = "ONNX files need onnx and onnxruntime: pip install 'sj-lowlat[onnx]'"


def write_onnx(model: nn.Module, path: str | Path) -> Path:
    """Write a float or Quant ANN as an ONNX file; :func:`read_onnx` gives the same network back.

    The input ``images`` is ``[N, C, H, W]``, RGB in [0, 1]; batch and, unless the forward is bound to them,
    height and width are free. The outputs are the raw head maps. The metadata say ``classes``, ``heads``
    (anchors, strides), ``letterbox``, ``levels`` and ``schedule``, and hold the kept graph.

    :param model: a detector or classifier without spiking neurons, in float32
    :param path: the file, ``.onnx``; written whole or not at all
    :return: the file
    :raises ConversionError: for a layer that cannot be written, by its name
    :raises InputError: for a spiking network, other numbers than float32, or without the library onnx
    """
    onnx = library()
    model, path = unwrapped(model), Path(path)
    if is_spiking(model):
        raise InputError("write_onnx takes a float or Quant ANN: give the network before convert")
    if not isinstance(model, GraphNetwork):
        shape = info_of(model).input_shape
        if shape is None:
            raise InputError("the network does not know the shape of its images: give a GraphNetwork")
        model = GraphNetwork.of(model, torch.zeros(1, *shape))
    odd = next((key for key, value in model.named_parameters() if value.dtype != torch.float32), None)
    if odd is not None:
        raise InputError(f"{odd} is {model.get_parameter(odd).dtype}: give a network in float32")
    return checked(onnx, _file(onnx, model), path)


def read_onnx(path: str | Path) -> GraphNetwork:
    """The network that :func:`write_onnx` wrote: layers, weights, levels, clips and metadata are the same.

    :raises FileNotFoundError: if there is no such file
    :raises InputError: if it is damaged, or was changed by another program
    """
    onnx, path = library(), Path(path)
    file = whole_file(onnx, path)
    about = {entry.key: entry.value for entry in file.metadata_props}
    if _CONFIG not in about:
        raise InputError(f"{path} was not written by write_onnx: read it with models.from_onnx")
    what = "a file that write_onnx wrote"
    config = parse_json(about[_CONFIG], str(path), what)
    rest = parse_json(about.get(_REST, "{}"), str(path), what)
    try:
        tensors = {
            name: torch.tensor(row["values"], dtype=getattr(torch, row["dtype"])).reshape(row["shape"])
            for name, row in rest.items()
        }
        arrays = {value.name: onnx.numpy_helper.to_array(value).copy() for value in file.graph.initializer}
        wanted = arrays.keys() & _names_of(config)
        tensors |= {name: torch.from_numpy(arrays[name]) for name in wanted}
    except FOREIGN as error:
        raise InputError(f"{path} is damaged ({error!r}): export it again") from error
    network = checkpoint.rebuild(config, tensors, path)
    if not isinstance(network, GraphNetwork) or is_spiking(network):
        raise InputError(f"{path} holds no float or Quant ANN: export it again")
    # a program that changed the graph may have kept our metadata
    if list(_file(onnx, network).graph.node) != list(file.graph.node):
        raise InputError(
            f"the graph of {path} is another than its metadata describe, as after a program optimised it: "
            f"give the file that was exported, or remove {_CONFIG} from its metadata to read it as any other"
        )
    return network


def wrote(path: str | Path) -> bool:
    """Whether :func:`write_onnx` wrote this file; needs no library."""
    path = Path(path)
    return path.is_file() and _CONFIG.encode() in path.read_bytes()


def run_onnx(path: str | Path, images: torch.Tensor) -> list[torch.Tensor]:
    """What onnxruntime computes from a file on the CPU.

    :param images: ``[N, C, H, W]``
    :return: one tensor per output, such as head maps ``[N, A, H, W]``
    :raises InputError: without the library onnxruntime, or if the file does not run on such images
    """
    return [torch.from_numpy(output) for output in fed(opened(path), path, {"images": images.numpy()})]


def opened(path: str | Path) -> Any:
    """A file in onnxruntime, on the CPU."""
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(f"{_NEEDED} ({error})") from error
    try:
        return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base
        raise InputError(f"{path} cannot be run by onnxruntime: {error}") from error


def fed(session: Any, path: str | Path, inputs: dict[str, np.ndarray]) -> Sequence[np.ndarray]:
    """What a session gives for some inputs."""
    try:
        return session.run(None, inputs)
    except Exception as error:  # as above
        shape = list(inputs["images"].shape)
        raise InputError(f"{path} does not run on images of {shape}: {error}") from error


def checked(onnx: Any, file: Any, path: Path) -> Path:
    """Write a file that onnx finds valid, whole or not at all."""
    if path.suffix != ".onnx":
        raise InputError(f"the file is {path.name!r}, its name must end with .onnx")
    try:
        onnx.checker.check_model(file)
    except Exception as error:  # onnx has no error of its own for all cases
        raise ConversionError(f"the network gives no valid ONNX file: {error}") from error
    with atomic_write(path) as temporary:
        temporary.write_bytes(file.SerializeToString())
    return path


def model_of(onnx: Any, graph: Any, about: dict[str, str]) -> Any:
    """A file of a graph and its metadata."""
    opset = [onnx.helper.make_opsetid("", OPSET)]
    file = onnx.helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
    file.producer_name = "sj_lowlat"
    onnx.helper.set_model_props(file, about)
    return file


def library() -> Any:
    """The library onnx."""
    try:
        import onnx
        import onnx.numpy_helper
    except ImportError as error:
        raise InputError(f"{_NEEDED} ({error})") from error
    return onnx


def _names_of(config: Any) -> set[str]:
    """Constants of the graph that are tensors of the network."""
    layers = [row["name"] for row in config["network"]["layers"]]
    kept = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{key}" for name in layers for key in kept}


def _file(onnx: Any, network: GraphNetwork) -> Any:
    """The whole file of a network."""
    helper, info = onnx.helper, network.info
    found = Nodes(network)
    state = checkpoint.values(network)
    nodes = [
        helper.make_node(kind, inputs, [output], name=output, **about)
        for kind, inputs, output, about in found.nodes
    ]
    placeholder = next(node for node in network.graph.nodes if node.op == "placeholder")
    sizes = placeholder.meta.get("sizes") or (0, 0)
    channels = (info.input_shape or (3,))[0]
    shape = ["N", channels, *(side or name for side, name in zip(sizes, "HW", strict=False))]
    for node in nodes:
        node.input[:] = ["images" if name == placeholder.name else name for name in node.input]
    graph = helper.make_graph(
        nodes,
        "sj_lowlat",
        [helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info(
                name, onnx.TensorProto.FLOAT, ["N", *[None] * (found.rank(name) - 1)]
            )
            for name in found.outputs
        ],
        [onnx.numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in found.constants.items()],
    )
    config = checkpoint.describe(network)
    rest = {
        name: {"dtype": str(value.dtype).removeprefix("torch."), "shape": [*value.shape],
               "values": value.flatten().tolist()}
        for name, value in state.items() if name not in found.constants
    }  # fmt: skip
    about = {
        "classes": list(info.class_names),
        "heads": config["info"]["heads"],
        "letterbox": "RGB in [0, 1]; scaled to fit, centred, the border 0.5",
        "levels": info.levels,
        "schedule": None if info.schedule is None else str(info.schedule),
        _CONFIG: config,
        _REST: rest,
    }
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in about.items()}
    return model_of(onnx, graph, texts)
