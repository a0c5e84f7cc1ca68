"""Synapses are torch's layers, but for what the clock says."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from sj_lowlat.errors import InputError
from sj_lowlat.layers import Clock, Pass, RateReadout, SignedIFNode, Synapse, as_synapse, connect

LAYERS = {
    "conv1d": (nn.Conv1d(2, 4, 3, padding=1, padding_mode="circular"), (3, 2, 5)),
    "conv2d": (nn.Conv2d(2, 4, 3, 2, groups=2), (3, 2, 6, 5)),
    "conv3d": (nn.Conv3d(2, 3, 3, padding="same"), (3, 2, 4, 4, 4)),
    "transposed 1d": (nn.ConvTranspose1d(2, 3, 3, 2, output_padding=1), (3, 2, 4)),
    "transposed 2d": (nn.ConvTranspose2d(4, 2, 2, 2, groups=2, dilation=2), (3, 4, 3, 3)),
    "transposed 3d": (nn.ConvTranspose3d(2, 2, 2, padding=1), (3, 2, 3, 3, 3)),
    "linear": (nn.Linear(4, 3), (3, 5, 4)),
    "without bias": (nn.Linear(4, 3, bias=False), (3, 4)),
}
kinds = pytest.mark.parametrize("kind", LAYERS)


def pair(kind: str, reads_input: bool = False) -> tuple[nn.Module, Synapse, torch.Tensor]:
    """A layer, the same one as a synapse, and input."""
    plain, shape = LAYERS[kind]
    synapse = as_synapse(copy.deepcopy(plain), reads_input)
    assert isinstance(synapse, Synapse)
    return plain, synapse, torch.rand(shape, generator=torch.Generator().manual_seed(0))


def with_bias(layer: nn.Module, factor: float) -> nn.Module:
    layer = copy.deepcopy(layer)
    if layer.bias is not None:
        layer.bias.data *= factor
    return layer


@kinds
def test_is_torchs_layer(kind: str) -> None:
    plain, synapse, x = pair(kind)
    assert isinstance(synapse, type(plain)) and torch.equal(synapse(x), plain(x))
    assert list(synapse.state_dict()) == list(plain.state_dict()) and repr(plain)[-20:] == repr(synapse)[-20:]
    twin = pickle.loads(pickle.dumps(synapse))
    assert torch.equal(twin(x), plain(x)) and twin.clock is not synapse.clock
    synapse.bfloat16()  # reads spikes of other dtypes then
    assert torch.equal(synapse(x.round().to(torch.int8)), synapse(x.round().bfloat16()))


@kinds
@pytest.mark.parametrize("gain", [0.0, 0.5, 1.0, 2.0])
def test_biases_have_a_gain_in_a_simulation(kind: str, gain: float) -> None:
    plain, synapse, x = pair(kind)
    want = with_bias(plain, gain)(x)
    with synapse.clock.during(Pass(bias_gain=gain, input_gain=3.0)):  # it does not read the images
        torch.testing.assert_close(synapse(x), want)
    assert torch.equal(synapse(x), plain(x))


@kinds
@pytest.mark.parametrize("gain", [0.0, 0.5, 2.0])
def test_images_have_a_gain_and_are_read_once(kind: str, gain: float) -> None:
    plain, synapse, x = pair(kind, reads_input=True)
    now = Pass(input_gain=gain, bias_gain=gain, kept={})
    with synapse.clock.during(now):
        first = synapse(x)
        torch.testing.assert_close(first, with_bias(plain, gain)(gain * x))
        assert synapse(x) is first
    assert torch.equal(synapse(x), plain(x)) and list(now.kept or ()) == [synapse]


def test_transposed_convolutions_take_the_size_of_their_output() -> None:
    layer = as_synapse(nn.ConvTranspose2d(2, 2, 3, 2, 1))
    assert layer(torch.rand(1, 2, 4, 4), output_size=[8, 7]).shape == (1, 2, 8, 7)


def test_connect_leaves_names_hooks_and_references() -> None:
    conv, inner = nn.Conv2d(2, 4, 1), nn.Linear(4, 3)
    calls: list[nn.Module] = []
    conv.register_forward_hook(lambda layer, args, out: calls.append(layer))
    net = nn.Sequential(nn.GroupNorm(1, 2), conv, SignedIFNode(), nn.Flatten(), RateReadout(inner))
    names = list(net.state_dict())
    clock = connect(net, ["1"])
    assert net[1] is conv and isinstance(conv, Synapse) and conv.reads_input
    assert type(inner) is nn.Linear and not net[4].reads_input  # the read-out knows when its bias counts
    assert list(net.state_dict()) == names and net[2].clock is net[4].clock is conv.clock is clock
    net(torch.rand(1, 2, 1, 1))
    assert calls == [conv]


def test_other_layers_are_refused() -> None:
    with pytest.raises(InputError, match="BatchNorm1d came, and synapses are convolutions and linear layers"):
        as_synapse(nn.BatchNorm1d(2))


def test_a_clock_takes_one_run_and_its_copies_are_free() -> None:
    clock = Clock()
    with clock.run():
        with pytest.raises(InputError, match="in the middle of another simulation"), clock.run():
            pass
        with copy.deepcopy(clock).run(), pickle.loads(pickle.dumps(clock)).run():
            pass
    with clock.run():
        pass
