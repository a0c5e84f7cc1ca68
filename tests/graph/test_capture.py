"""The graph computes what the network computes, at any batch and size; what cannot be followed is told."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from sj_lowlat.conversion import convert, prepare
from sj_lowlat.errors import ConversionError, InputError
from sj_lowlat.graph import from_rows, to_rows
from sj_lowlat.models import snn_tiny_yolov3, tiny_yolov3
from sj_lowlat.network import GraphNetwork
from sj_lowlat.simulation import simulate


class Glue(nn.Module):
    """Functions between layers, sizes read from the image, writes into slices, a nested output."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.act, self.bn = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.BatchNorm2d(4)
        self.pool, self.c2 = nn.MaxPool2d(2), nn.Conv2d(4, 6, 1)
        self.scale = nn.Parameter(torch.rand(4, 1, 1))
        self.register_buffer("shift", torch.rand(1))

    def forward(self, x: torch.Tensor) -> Any:
        n, _, height, width = x.shape
        y = self.act(self.bn(self.c1(x)))
        up = F.interpolate(self.pool(y), scale_factor=2, mode="nearest")
        y = torch.cat([y, up], 1)[:, :4] * self.scale + self.shift
        y += up
        part = torch.zeros(y.shape)
        part[:, 1:] = y[:, 1:]
        out = self.c2(part)
        maps = out.view(n, 2, 3, height, width).permute(0, 1, 3, 4, 2)
        return maps, {"mean": out.mean((2, 3)), "zeros": [out.new_zeros(3)]}


class Shared(nn.Module):
    """One layer called twice, a branch of its own class, a layer under two names, a dictionary of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Conv2d(3, 3, 1)
        self.parts = nn.ModuleDict({"first one": nn.Conv2d(3, 4, 1), "second-one": nn.Conv2d(4, 2, 1)})
        self.alias = self.parts["first one"]
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.twice(torch.tanh(self.twice(x)))
        return self.parts["second-one"](self.dropout(self.alias(x)))


class Loose(nn.Module):
    """Tensors that are neither parameters nor buffers, and an index by a list."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.tensors = nn.Conv2d(3, 3, 1), [torch.rand(3, 1, 1)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x * self.tensors[0])[:, [2, 0]]


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "tiny_yolov3": lambda: tiny_yolov3(2, width=0.125, input_size=64),
    "snn_tiny_yolov3": lambda: snn_tiny_yolov3(2, width=0.125, input_size=64),
    "resnet18": lambda: torchvision.models.resnet18(num_classes=3),
    "mobilenet_v2": lambda: torchvision.models.mobilenet_v2(num_classes=3, width_mult=0.25),
    "mobilenet_v3": lambda: torchvision.models.mobilenet_v3_small(num_classes=3, width_mult=0.25),
    "glue": Glue,
    "shared": Shared,
    "loose": Loose,
}


@pytest.mark.parametrize("name", list(NETWORKS))
def test_computes_the_same_at_other_batches_and_sizes(name: str) -> None:
    net = NETWORKS[name]().eval()
    graph = GraphNetwork.of(net, torch.rand(1, 3, 64, 64))
    copies = [graph, copy.deepcopy(graph), pickle.loads(pickle.dumps(graph))]
    assert [name for name in graph.state_dict() if "lifted" not in name] == list(net.state_dict())
    for shape in ((1, 3, 64, 64), (2, 3, 96, 64), (5, 3, 64, 128)):
        images = torch.rand(shape)
        with torch.no_grad():
            want = net(images)
            for each in copies:
                torch.testing.assert_close(each(images), want, rtol=0, atol=0)


def test_layers_are_whole_and_train(tmp_path: Any) -> None:
    net = NETWORKS["resnet18"]()
    graph = GraphNetwork.of(net, torch.rand(1, 3, 32, 32))
    called = {str(node.target) for node in graph.graph.nodes if node.op == "call_module"}
    leaves = {name for name, module in net.named_modules() if not list(module.children())}
    assert called == leaves
    functions = {str(n.target) for n in graph.graph.nodes if n.op == "call_function"}
    assert functions == {"aten.add_.Tensor", "aten.flatten.using_ints"}
    images = torch.rand(4, 3, 32, 32)
    for each in (net, graph):
        each.train()
        each(images).square().mean().backward()
    want, have = net.state_dict(), graph.state_dict()
    for name, value in want.items():  # running statistics moved alike
        torch.testing.assert_close(have[name], value, rtol=0, atol=0)
    for (name, ours), (_, theirs) in zip(graph.named_parameters(), net.named_parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-7, msg=name)


def test_the_network_stays_as_it_was() -> None:
    net = Shared().train()
    before = {name: id(module) for name, module in net.named_modules()}
    graph = GraphNetwork.of(net, torch.rand(1, 3, 8, 8))
    assert before == {name: id(module) for name, module in net.named_modules()}
    assert all(module.training for module in net.modules()) and graph.dropout.training
    assert graph.alias is graph.parts["first one"] and type(graph.parts) is nn.ModuleDict


def test_a_network_in_train_mode_is_captured_in_eval_mode() -> None:
    class Drops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.dropout(self.conv(x), 0.5, self.training) if self.training else self.conv(x)

    net, images = Drops().train(), torch.rand(2, 3, 8, 8)
    graph = GraphNetwork.of(net, images)
    assert net.training and net.conv.training
    torch.testing.assert_close(graph(images), net.eval()(images), rtol=0, atol=0)


def test_sizes_that_depend_on_values_may_stand_behind_the_heads() -> None:
    class Picks(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[x > 0.5]

    net = nn.Sequential(nn.Conv2d(3, 2, 1), Picks())
    graph = GraphNetwork.of(net, torch.rand(1, 3, 8, 8))
    images = torch.rand(3, 3, 8, 8)
    assert torch.equal(graph(images), net(images))
    node = next(iter(reversed(graph.graph.nodes))).args[0]
    assert node.meta["dim0"] == 0  # so convert refuses it: read-outs could not be told apart


def test_rows_are_json_and_come_back() -> None:
    for make in (Glue, Shared, NETWORKS["mobilenet_v3"]):
        graph = GraphNetwork.of(make(), torch.rand(1, 3, 64, 64)).graph
        rows = json.loads(json.dumps(to_rows(graph)))
        again = from_rows(rows)
        assert to_rows(again) == rows and again.python_code("self").src == graph.python_code("self").src


class Branch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.mean() > 0.5 else -x  # the line that is named


class FixedBatch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(2, -1) + torch.zeros(2, 1)


class Numpy(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(x.numpy())


class Nothing(nn.Module):
    def forward(self, x: torch.Tensor) -> str:
        return "boxes"


class Fails(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, torch.ones(2, 5))


class OwnError(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise InputError("images must be grey")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Branch, r"cannot be followed at test_capture.py:\d+ .*without branches on values"),
        (FixedBatch, "(leave dimension 0 alone|cannot be followed)"),
        (Numpy, r"cannot be followed at test_capture.py:\d+ .*without .*NumPy"),
        (Nothing, "returns nothing that could be followed from the image: return a tensor"),
        (Fails, r"cannot be followed at test_capture.py:\d+"),
    ],
)
def test_what_cannot_be_followed(make: Callable[[], nn.Module], message: str) -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1), make())
    with pytest.raises(ConversionError, match="(?s)" + message):
        GraphNetwork.of(net if make is not Nothing else make(), torch.rand(1, 3, 8, 8))


def test_the_networks_own_refusal_is_let_through() -> None:
    with pytest.raises(InputError, match="^images must be grey$"):
        GraphNetwork.of(OwnError(), torch.rand(1, 3, 8, 8))


def test_names_that_are_taken_are_told() -> None:
    class Takes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.levels = nn.Conv2d(3, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.levels(x)

    with pytest.raises(ConversionError, match="names a module or tensor 'levels'.*another name"):
        GraphNetwork.of(Takes(), torch.rand(1, 3, 8, 8))


def test_the_batch_may_be_read_from_the_image() -> None:
    """Time is merged into the batch: the images' size must not be taken for that of the spikes."""

    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act, self.head = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4 * 36, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            n = x.shape[0]
            return self.head(self.act(self.conv(x)).view(n, -1)).view(n, 1, 2)

    images = torch.rand(3, 3, 8, 8, dtype=torch.float64)
    quant = prepare(Reads().double().eval(), 8, images).eval()
    out = simulate(convert(quant), images, 8, flush=20).final
    with torch.no_grad():
        torch.testing.assert_close(out, quant(images), rtol=0, atol=1e-12)
    assert out.shape == (3, 1, 2)


def test_threads_capture_at_once() -> None:
    """torch's tracer keeps its state in globals."""

    def work(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        images = torch.rand(2, 3, 8, 8, generator=generator)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()
        return simulate(convert(prepare(net, 8, images)), images, 8, flush=8).final - net(images)

    with ThreadPoolExecutor(4) as threads:
        errors = list(threads.map(work, range(8)))
    assert all(bool(error.isfinite().all()) for error in errors)
