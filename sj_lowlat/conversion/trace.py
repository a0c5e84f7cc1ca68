"""What a network's forward does: one real run, watched.

A convolutional network is described well enough by which module reads what from which module. One forward
pass under a ``TorchFunctionMode`` tells it, whatever the Python code of ``forward`` looks like, and tells the
line of every operation that is not a module.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from sj_lowlat.layers import QuantReLU

# frames of these folders are not the user's code; torchvision's models are as good as the user's
_INNER = tuple(str(Path(str(path)).parent) + os.sep for path in (torch.__file__, __file__))
# they read the shape of a tensor and not its values
_SHAPE_ONLY = {
    "zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like",
    "new_zeros", "new_ones", "new_full", "new_empty", "new_tensor",
}  # fmt: skip

#: images of the watched pass: more than one, so that a forward that touches dimension 0 shows
TRACED_IMAGES = 2


@dataclass(eq=False)
class Node:
    """One module call or one function call of the forward pass.

    :param kind: ``"input"``, ``"module"`` or ``"function"``
    :param name: dotted module name, or the function's name
    :param module: the module, of a module call
    :param owner: dotted name of the module whose forward made the call
    :param inputs: the nodes whose results it reads
    :param where: ``file:line`` of a function call
    :param call: function, arguments and keyword arguments of a function call
    :param batch: size of dimension 0 of its (first) result
    :param users: the nodes that read its result
    """

    kind: str
    name: str
    module: nn.Module | None = None
    owner: str = ""
    inputs: list[Node] = field(default_factory=list)
    where: str = ""
    call: tuple[Any, ...] = ()
    batch: int = 0
    users: list[Node] = field(default_factory=list)


def _reach(node: Node, direction: str) -> list[Node]:
    found: dict[int, Node] = {}
    stack = list(getattr(node, direction))
    while stack:
        other = stack.pop()
        if id(other) not in found:
            found[id(other)] = other
            stack.extend(getattr(other, direction))
    return list(found.values())


@dataclass
class Trace:
    """All nodes in the order of their calls, and those that the network returns."""

    nodes: list[Node]
    outputs: list[Node]

    @property
    def modules(self) -> list[Node]:
        """The module calls, in order."""
        return [node for node in self.nodes if node.kind == "module"]

    def downstream(self, node: Node) -> list[Node]:
        """Every node that depends on ``node``."""
        return _reach(node, "users")

    def upstream(self, node: Node) -> list[Node]:
        """Every node that ``node`` depends on."""
        return _reach(node, "inputs")


#: childless modules that are taken as a whole though they don't derive from a layer of torch.nn
LEAF_TYPES: set[type[nn.Module]] = {QuantReLU}


def is_leaf(module: nn.Module) -> bool:
    """Whether a module is taken as a whole: torch's own layers are; containers and the user's modules are
    looked into."""
    if list(module.children()):
        return False
    bases = (base for base in type(module).__mro__ if base is not nn.Module)
    return any(base in LEAF_TYPES or base.__module__.startswith("torch.nn.modules.") for base in bases)


def _user_line() -> str:
    frame = sys._getframe(1)
    while frame is not None:
        filename = frame.f_code.co_filename
        if not filename.startswith(_INNER) and not filename.startswith("<"):
            return f"{Path(filename).name}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "?"


def _tensors(values: Any) -> list[torch.Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]


class _Recorder(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self.producer: dict[int, Node] = {}
        self.kept: list[torch.Tensor] = []  # a tensor that is dropped would free its id for another one
        self.stack: list[str] = []
        self.leaf_depth = 0

    def add(self, node: Node, results: Any) -> None:
        tensors = _tensors(results)
        self.nodes.append(node)
        node.batch = len(tensors[0]) if tensors and tensors[0].dim() else 0
        for source in node.inputs:
            source.users.append(node)
        for tensor in tensors:
            self.producer[id(tensor)] = node
            self.kept.append(tensor)

    def sources(self, values: Any) -> list[Node]:
        found = [self.producer[id(tensor)] for tensor in _tensors(values) if id(tensor) in self.producer]
        return list({id(node): node for node in found}.values())

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.leaf_depth:
            return func(*args, **kwargs)
        inputs = self.sources((args, kwargs))
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", str(func))
        # an assignment to a slice returns nothing and changes its first argument
        changed = args[0] if name == "__setitem__" else result
        if inputs and _tensors(changed) and name not in _SHAPE_ONLY:
            owner = self.stack[-1] if self.stack else ""
            self.add(Node("function", name, None, owner, inputs, _user_line(), (func, args, kwargs)), changed)
        return result


def trace(model: nn.Module, example: torch.Tensor) -> Trace:
    """Run ``model`` once on copies of ``example`` in eval mode and record what reads what.

    :param model: the network; its training flags are restored
    :param example: input ``[N, C, H, W]``, of which the first image is used
    """
    recorder = _Recorder()
    names = {id(module): name for name, module in model.named_modules()}
    flags = {module: module.training for module in model.modules()}
    # an activation in place would give its result the identity of the tensor that it reads
    in_place = [module for module in model.modules() if getattr(module, "inplace", None) is True]
    handles: list[Any] = []

    def enter(module: nn.Module, args: Any) -> None:
        recorder.stack.append(names[id(module)])
        recorder.leaf_depth += is_leaf(module)

    def leave(module: nn.Module, args: Any, result: Any) -> None:
        name = recorder.stack.pop()
        if is_leaf(module):
            recorder.leaf_depth -= 1
            if recorder.leaf_depth == 0:
                owner = recorder.stack[-1] if recorder.stack else ""
                recorder.add(Node("module", name, module, owner, recorder.sources(args)), result)

    try:
        model.eval()
        for module in in_place:
            module.inplace = False  # type: ignore[assignment]
        for module in model.modules():
            handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
        images = torch.cat([example[:1]] * TRACED_IMAGES)
        with torch.no_grad(), recorder:
            recorder.add(Node("input", "input"), images)
            output = model(images)
        outputs = recorder.sources(output)
    finally:
        for handle in handles:
            handle.remove()
        for module in in_place:
            module.inplace = True  # type: ignore[assignment]
        for module, training in flags.items():
            module.training = training
    return Trace(recorder.nodes, outputs)
