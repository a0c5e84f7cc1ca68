"""Networks in whole numbers: spikes against the numpy reference of the docs, and read back."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sj_lowlat.conversion import convert, prepare, replace_layers
from sj_lowlat.errors import ConversionError, InputError
from sj_lowlat.export import integer_network, read_integers, write_integers
from sj_lowlat.models import snn_tiny_yolov3, tiny_yolov3
from sj_lowlat.network import SpikingNetwork
from sj_lowlat.zoo import open_network
from tests.export.watch import watched

REFERENCE = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "integer_reference.py"))
GREY = torch.randint(0, 256, (1, 3, 64, 64), generator=torch.Generator().manual_seed(1))
IMAGES = GREY / 255


def network(kind: str) -> SpikingNetwork:
    torch.manual_seed(3)
    net: nn.Module = tiny_yolov3(num_classes=2, width=0.125, input_size=64)
    if kind in ("relu", "plain"):
        net = replace_layers(net, IMAGES, only_activations=True)
    elif kind == "strided":
        net = snn_tiny_yolov3(num_classes=2, width=0.125, input_size=64)
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            tensor.mul_(1 + 0.3 * torch.rand(tensor.shape))
    quant = prepare(net, 4, IMAGES, scale="90%", headroom=3) if kind == "wide" else prepare(net, 4, IMAGES)
    return convert(quant, neuron="residual-fix" if kind == "plain" else "signed")


@pytest.mark.parametrize("kind", ["relu", "leaky", "wide", "plain"])
@pytest.mark.parametrize("schedule", ["4+3", "2+2b2c4", "1+1b4c4"])
def test_numpy_fires_every_spike(kind: str, schedule: str, tmp_path: Path) -> None:
    path = write_integers(network(kind), tmp_path / "net.npz", schedule)
    snn = open_network(str(path))
    assert isinstance(snn, SpikingNetwork)
    wanted, read = watched(snn, IMAGES)  # the schedule is the file's
    about = json.loads(path.with_suffix(".json").read_text())
    layers = {row["layer"]: row["name"] for row in about["graph"] if row["op"] == "neuron"}
    assert layers.keys() == wanted.keys()
    fired = 0
    for step, values in REFERENCE["simulate"](dict(np.load(path)), about, GREY[0].numpy()):
        for layer, name in layers.items():
            assert np.array_equal(wanted[layer][step - 1][0].numpy(), values[name]), (layer, step)
            fired += int(np.abs(values[name]).sum())
    assert fired > 1000
    for ours, name in zip(read[-1], about["graph"][-1]["inputs"], strict=True):
        assert np.allclose(ours[0].numpy(), values[name], atol=1e-4)


def test_whole_numbers_are_small_and_read_back(tmp_path: Path) -> None:
    snn = network("leaky")
    path = write_integers(snn, tmp_path / "net.npz", "4+3")
    with np.load(path) as arrays:
        kinds = {name: str(arrays[name].dtype) for name in arrays.files}
    assert all(kind == "int8" for name, kind in kinds.items() if name.endswith("weight"))
    assert all(kind == "int32" for name, kind in kinds.items() if name.endswith("threshold"))
    direct, back = integer_network(snn).state_dict(), read_integers(path).state_dict()
    assert direct.keys() == back.keys()
    assert all(torch.equal(value, back[name]) for name, value in direct.items())


def test_rounding_moves_few_counts() -> None:
    snn = network("relu")
    whole = integer_network(snn)
    (first, _), (second, _) = watched(snn, IMAGES, "4+6"), watched(whole, IMAGES, "4+6")
    name = next(iter(first))  # the first layer's input is the same in both
    apart = first[name].sum(0) - second[name].sum(0)
    assert apart.abs().max() <= 1 and (apart != 0).float().mean() < 0.02


def test_what_has_no_form_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="layer '.*ConvTranspose2d"):
        write_integers(network("strided"), tmp_path / "net.npz", "4+3")
    with pytest.raises(InputError, match="a multiple of T"):
        write_integers(network("relu"), tmp_path / "net.npz", "3+3c4")
    with pytest.raises(InputError, match="call sj_lowlat.convert first"):
        write_integers(nn.Linear(2, 2), tmp_path / "net.npz", "4")
    assert not list(tmp_path.iterdir())


def test_files_of_two_networks_are_not_mixed(tmp_path: Path) -> None:
    one = write_integers(network("relu"), tmp_path / "one.npz", "4+3")
    two = write_integers(network("leaky"), tmp_path / "two.npz", "4+3")
    one.write_bytes(two.read_bytes())
    with pytest.raises(InputError, match="belong together"):
        read_integers(one)
