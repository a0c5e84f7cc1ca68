"""A network as its layers and the graph of its forward."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self

import torch
from spikingjelly.activation_based.base import MemoryModule
from torch import fx, nn
from torch.utils._pytree import tree_map

from sj_lowlat.errors import ConversionError, InputError
from sj_lowlat.graph import capture, from_rows, to_rows
from sj_lowlat.graph.operations import is_leaf, is_weighted
from sj_lowlat.layers import LowLatencyIFNode, Pass, RateReadout, connect
from sj_lowlat.network.copying import copied
from sj_lowlat.network.info import NetworkInfo, WithInfo, info_of, unwrapped

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.Module)


class GraphNetwork(WithInfo, nn.Module):
    """A network whose forward is a graph; the verbs turn a network of any class into one.

    The layers keep their names, so that ``state_dict`` has the keys of the network that it was captured from,
    and ``network.body[3]`` is still the layer of that name; containers become those of ``torch.nn``. Unlike a
    :class:`torch.fx.GraphModule` it keeps its containers when it is copied. Copying and pickling need no code
    of the network's own class.

    :param root: holds the layers; they are taken over, not copied
    :param graph: of :func:`~sj_lowlat.graph.capture`, its targets names in ``root``
    :param info: its metadata
    :raises ConversionError: if a module has the name of an attribute of this class
    """

    def __init__(self, root: nn.Module, graph: fx.Graph, info: NetworkInfo) -> None:
        super().__init__()
        taken = [
            name for name in (*root._modules, *root._parameters, *root._buffers) if hasattr(type(self), name)
        ]
        if taken:
            raise ConversionError(
                f"the network names a module or tensor {taken[0]!r}, which is an attribute of converted "
                "networks: give it another name"
            )
        self._modules.update(root._modules)
        self._parameters.update(root._parameters)
        self._buffers.update(root._buffers)
        self._non_persistent_buffers_set = set(root._non_persistent_buffers_set)
        self.training = root.training
        self.info = info
        self.graph = graph
        self.recompile()

    @classmethod
    def of(cls, model: nn.Module, example: torch.Tensor) -> GraphNetwork:
        """A copy of a network, captured if it has no graph yet.

        :param model: the network, wrapped or not; left as it is
        :param example: input ``[N, *]``
        :raises ConversionError: if it cannot be copied, or its forward cannot be followed
        """
        model = unwrapped(model)
        if isinstance(model, GraphNetwork):
            return copy.deepcopy(model)
        if is_leaf(model):
            raise ConversionError("the network itself is a single layer; put it into an nn.Sequential")
        model = copied(model)
        info = info_of(model)
        if info.input_shape is None:
            info = info.with_shape(tuple(example.shape[1:]))
        graph, constants = capture(model, example, not getattr(model, "fixed_size", False))
        called = {str(node.target) for node in graph.nodes if node.op == "call_module"}
        root = _plain(model, {model.get_submodule(name) for name in called}, {})
        for name, tensor in constants.items():
            root.register_buffer(name, tensor)
        return GraphNetwork(root, graph, info)

    def forward(self, images: torch.Tensor) -> Any:
        """What the network returns for ``[N, *]``.

        :raises InputError: for images that its layers cannot take
        """
        self.check_input(images)
        return self._run(self, images)

    # list access as in ``nn.Sequential``, for networks captured from one
    def __getitem__(self, index: int | slice) -> nn.Module:
        layers = list(self.children())[index]
        return nn.Sequential(*layers) if isinstance(layers, list) else layers

    def __setitem__(self, index: int, layer: nn.Module) -> None:
        setattr(self, list(self._modules)[index], layer)

    def __len__(self) -> int:
        return len(self._modules)

    def check_input(self, x: torch.Tensor) -> None:
        """Refuse a batch that the layers, or a forward that is bound to a size, cannot take."""
        super().check_input(x)
        sizes = next(node for node in self.graph.nodes if node.op == "placeholder").meta["sizes"]
        if any(size not in (0, side) for size, side in zip(sizes, x.shape[2:], strict=False)):
            raise InputError(
                f"the network's forward is bound to images of {list(sizes)} pixels (0: any), "
                f"{list(x.shape[2:])} came: resize them, or write the forward without sizes in numbers"
            )

    def recompile(self) -> None:
        """Generate the code of ``forward`` again, after a change of the graph."""
        self.graph.lint()
        code = self.graph.python_code("self")
        space: dict[str, Any] = dict(code.globals)
        exec(compile(code.src, f"<graph of {type(self).__name__}>", "exec"), space)  # fx's own code, not data
        self._run = space["forward"]

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "graph": to_rows(self.graph)}
        del state["_run"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "graph": from_rows(state["graph"])})
        self.recompile()

    def module_of(self, node: fx.Node) -> nn.Module | None:
        """The module that a node calls; ``None`` for other nodes."""
        return self.get_submodule(str(node.target)) if node.op == "call_module" else None


class SpikingNetwork(GraphNetwork):
    """A network of spiking neurons, from :func:`~sj_lowlat.conversion.convert`.

    One call is one time step, as in SpikingJelly's networks (``functional.reset_net`` resets it), or T steps
    ``[T, N, *]`` after ``functional.set_step_mode(snn, "m")``; :func:`~sj_lowlat.simulation.simulate` runs a
    schedule.
    """

    def forward(self, images: torch.Tensor) -> Any:
        """What the heads read after a step ``[N, *]``; in step mode m after each of T steps, ``[T, N, *]``.

        :raises InputError: for images that its layers cannot take
        """
        node = next((module for module in self.modules() if isinstance(module, LowLatencyIFNode)), None)
        if node is None or node.step_mode == "s" or node.clock.now.steps is not None:
            return super().forward(images)
        if self.input_shape is not None and images.dim() != len(self.input_shape) + 2:
            raise InputError(
                f"in step mode m the network takes a sequence [T, N, *] of images {list(self.input_shape)}; "
                f"got {list(images.shape)}"
            )
        steps, batch = images.shape[:2]
        with node.clock.during(Pass(steps=steps, batch=batch, readout=tuple(range(1, steps + 1)))):
            outputs = super().forward(images.flatten(0, 1))
        return tree_map(
            lambda value: (
                value.unflatten(0, (steps, batch))
                if isinstance(value, torch.Tensor) and value.dim() and len(value) == steps * batch
                else value
            ),
            outputs,
        )

    @classmethod
    def from_graph(cls, network: GraphNetwork, info: NetworkInfo) -> Self:
        """The same layers and graph as a spiking network.

        :param network: is taken over
        :param info: of the spiking network
        """
        snn = cls(network, network.graph, info)
        snn.eval()
        snn.connect()
        return snn

    @property
    def input_layers(self) -> tuple[str, ...]:
        """Names of the layers and read-outs that read the images and not spikes."""
        names: list[str] = []
        firing: set[fx.Node] = set()
        for node in self.graph.nodes:
            module = self.module_of(node)
            if firing.intersection(node.all_input_nodes):
                firing.add(node)
            elif is_weighted(module) or isinstance(module, RateReadout):
                names.append(str(node.target))
                firing.add(node)
        return tuple(names)

    def connect(self) -> None:
        """Make synapses of the weighted layers, on one clock, and lay weights out as ``channels_last`` where
        images are maps: torch would do it at every call."""
        connect(self, self.input_layers)
        if self.input_shape is not None and len(self.input_shape) == 3:
            self.to(memory_format=torch.channels_last)


def _plain(module: nn.Module, called: set[nn.Module], done: dict[nn.Module, nn.Module]) -> nn.Module:
    """The same layers in containers of ``torch.nn``.

    :param module: taken over
    :param called: the layers of the graph
    :param done: what was made already
    """
    if module in called or (is_leaf(module) and type(module).__module__.startswith("torch.nn.")):
        return module
    if module not in done:
        kind = next(kind for kind in _CONTAINERS if isinstance(module, kind))
        new = done[module] = nn.Identity() if isinstance(module, nn.Identity) else kind()
        new.training = module.training
        new._parameters.update(module._parameters)
        new._buffers.update(module._buffers)
        new._non_persistent_buffers_set = set(module._non_persistent_buffers_set)
        for name, child in module._modules.items():
            new._modules[name] = None if child is None else _plain(child, called, done)
    return done[module]


def refuse_not_finite(tensors: Mapping[str, Any], remedy: str = "train again") -> None:
    """Refuse weights of which neurons would make numbers: ``V >= threshold`` is false for NaN.

    :raises InputError: naming the first tensor with NaN or infinite values
    """
    values = {name: value for name, value in tensors.items() if isinstance(value, torch.Tensor)}
    broken = [name for name, value in values.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise InputError(
            f"{broken[0]} holds NaN or infinite values ({len(broken)} of {len(tensors)} tensors do): {remedy}"
        )


def refuse_spiking(model: nn.Module) -> None:
    """Refuse a network that has been converted, or whose weights are no numbers.

    :raises ConversionError: if it holds a layer with a state, of this package or of SpikingJelly
    :raises InputError: if a weight is NaN or infinite
    """
    refuse_not_finite(model.state_dict())
    if any(isinstance(module, MemoryModule) for module in model.modules()):
        raise ConversionError(
            "this network is spiking already: give the network that prepare or finetune returned"
        )
