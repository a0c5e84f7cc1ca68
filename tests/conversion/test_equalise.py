"""Equal channel ranges without a change of the function; clips of least square error."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sj_lowlat import checkpoint
from sj_lowlat.conversion import convert, prepare, replace_layers
from sj_lowlat.conversion.statistics import collect_scales
from sj_lowlat.errors import ConversionError, InputError
from sj_lowlat.functional import quant_relu
from sj_lowlat.layers import QuantReLU, SignedIFNode, SpikeMaxPool
from sj_lowlat.models import tiny_yolov3
from sj_lowlat.simulation import simulate

LEVELS = 4


class Net(nn.Module):
    """Channels of very different range, with and without batch norm, pools, upsampling and a concat."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            self.a = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
            self.pool = nn.MaxPool2d(2)
            self.b = nn.Sequential(nn.Conv2d(6, 4, 3, padding=1, groups=2), nn.ReLU())
            self.up = nn.Upsample(scale_factor=2, mode="nearest")
            self.c = nn.Sequential(nn.ConvTranspose2d(4, 5, 2, 2), nn.ReLU())
            self.head = nn.Conv2d(15, 3, 1)
            with torch.no_grad():
                self.a[1].weight.copy_(torch.logspace(-1, 1, 6))
                self.b[0].weight.mul_(torch.logspace(-1, 1, 4)[:, None, None, None])
                self.a[1].running_var.uniform_(0.5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.a(x)
        b = self.b(self.pool(a))
        return self.head(torch.cat([a, self.up(b), self.c(b)], 1))


IMAGES = torch.rand(4, 2, 8, 8, generator=torch.Generator().manual_seed(0)).double()


def without_quantisation(net: nn.Module) -> nn.Module:
    net = copy.deepcopy(net)
    for name, module in list(net.named_modules()):
        if isinstance(module, QuantReLU):
            parent, child = name.rsplit(".", 1)
            setattr(net.get_submodule(parent), child, nn.ReLU())
    return net


@settings(max_examples=10)
@given(seed=st.integers(0, 2**31))
def test_the_function_stays_and_channels_get_one_range(seed: int) -> None:
    net = Net(seed).double().eval()
    before = copy.deepcopy(net.state_dict())
    new = prepare(net, LEVELS, IMAGES, scale="max", equalise=True)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    # scales are float32
    torch.testing.assert_close(without_quantisation(new)(IMAGES), net(IMAGES), rtol=1e-6, atol=1e-6)
    ranges = collect_scales(without_quantisation(new), ["a.2", "b.1", "c.1"], IMAGES, "max", True)
    plain = collect_scales(net, ["a.2", "b.1", "c.1"], IMAGES, "max", True)
    highest = {}
    for name in plain:
        net.get_submodule(name).register_forward_hook(
            lambda module, args, out, name=name: highest.update({name: out.amax((0, 2, 3))})
        )
    net(IMAGES)
    for name, clip in ((name, new.get_submodule(name).clip) for name in ranges):
        # channels below a tenth of the layer's mean keep some of their difference
        common = (plain[name] >= 0.1 * plain[name].mean()) & (highest[name] > 0)
        torch.testing.assert_close(ranges[name][common], clip.detach().expand(int(common.sum())))


def test_the_spiking_network_settles_to_it() -> None:
    quant = prepare(Net(3).double().eval(), LEVELS, IMAGES, scale="mse", equalise=True).eval()
    snn = convert(quant)
    assert isinstance(snn.pool, SpikeMaxPool) and snn.conversion_report.pools == ["pool"]
    with torch.no_grad():
        want = quant(IMAGES)
    torch.testing.assert_close(simulate(snn, IMAGES, LEVELS, flush=30).final, want)


def test_the_mse_clip_is_the_best_of_a_fine_grid() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU(), nn.Conv2d(3, 1, 1)).double()
    with torch.no_grad():
        values = net[:2](IMAGES)
        clip = prepare(net, LEVELS, IMAGES, scale="mse")[1].clip.item()

        def error(c: float) -> float:
            return float((values - quant_relu(values, c, LEVELS)).square().mean())

        grid = torch.linspace(0.02, 1, 500) * values.max()
        best = min(error(float(c)) for c in grid)
    assert clip < float(values.max()) and error(clip) <= 1.1 * best


def test_refusals() -> None:
    net = Net(0).double().eval()
    with pytest.raises(InputError, match="are for a network that is not prepared yet"):
        prepare(prepare(net, LEVELS, IMAGES), LEVELS, IMAGES, equalise=True)
    with pytest.raises(InputError, match="instead of per_channel"):
        prepare(net, LEVELS, IMAGES, equalise=True, per_channel=True)
    net.a[1] = nn.BatchNorm2d(6, affine=False).double().eval()
    with pytest.raises(ConversionError, match=r"'a.1' has no weight that could take up"):
        prepare(net, LEVELS, IMAGES, equalise=True)


def test_tiny_yolo_is_converted_with_its_own_pools() -> None:
    net = tiny_yolov3(num_classes=2, width=0.25, input_size=64)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    relu = replace_layers(net, images, only_activations=True)
    assert set(relu.replaced.values()) == {"LeakyReLU -> ReLU"} and len(relu.replaced) == 11
    quant = prepare(relu, LEVELS, images, scale="mse", equalise=True).double().eval()
    snn = convert(quant)
    assert sum(isinstance(module, SpikeMaxPool) for module in snn.modules()) == 6
    with torch.no_grad():
        want = quant(images.double())
    for got, exact in zip(simulate(snn, images, LEVELS, flush=60).final, want, strict=True):
        torch.testing.assert_close(got, exact)


@pytest.mark.parametrize("neuron", ["signed", "residual-fix"])
def test_finer_levels_are_bursts(neuron: str) -> None:
    net = Net(5).double().eval()
    finer = {"a.2": 4, "c.1": 2}
    quant = prepare(net, LEVELS, IMAGES, scale="mse", equalise=True, finer=finer).eval()
    assert [quant.a[2].levels, quant.b[1].levels, quant.c[1].levels] == [16, 4, 8] and quant.levels == LEVELS
    snn = convert(quant, neuron=neuron)
    assert [snn.a[2].burst, snn.b[1].burst, snn.c[1].burst] == [4, 1, 2]
    assert [row.neuron.partition(" ")[2] for row in snn.conversion_report.layers] == ["x4", "", "x2", ""]
    with torch.no_grad():
        want = quant(IMAGES)
        first = quant.a(IMAGES)
    counts = []
    snn.a[2].register_forward_hook(lambda module, args, out: counts.append(out))
    result = simulate(snn, IMAGES, LEVELS, flush=30, chunk=1)
    spikes = torch.stack(counts)
    assert float(spikes.max()) <= 4
    # a constant current: the first layer is exact as soon as the input ends
    torch.testing.assert_close(spikes[:LEVELS].sum(0) * quant.a[2].clip.double() / 16, first)
    if neuron == "signed":
        torch.testing.assert_close(result.final, want)
    assert snn.a[2].burst == 4
    again = prepare(quant, 2 * LEVELS)
    assert [again.a[2].levels, again.b[1].levels, again.c[1].levels] == [32, 8, 16]


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    headroom=st.integers(1, 5),
    factor=st.integers(1, 3),
    scale=st.sampled_from(["mse", "90%"]),
    equalise=st.booleans(),
)
def test_headroom_keeps_the_size_of_a_level(
    seed: int, headroom: int, factor: int, scale: str, equalise: bool
) -> None:
    net = Net(seed % 7).double().eval()
    images = torch.rand(
        4, *IMAGES.shape[1:], dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    options: dict[str, Any] = {"scale": scale, "equalise": equalise, "finer": {"a.2": factor}}
    tight, wide = (prepare(net, LEVELS, images, headroom=room, **options).eval() for room in (1, headroom))
    pairs = [(tight.get_submodule(name), wide.get_submodule(name)) for name in ("a.2", "b.1", "c.1")]
    for old, new in pairs:
        assert new.levels == headroom * old.levels
        torch.testing.assert_close(new.clip, headroom * old.clip)
    with torch.no_grad():
        z = net.a[:2](images) if not equalise else tight.a[:2](images)
        old, new = pairs[0]
        torch.testing.assert_close(
            new(z).clamp(max=old.clip.double()), old(z)
        )  # below the old clip: the same
        want = wide(images)
    snn = convert(wide)
    assert wide.levels == snn.levels == LEVELS
    assert [snn.get_submodule(name).burst for name in ("a.2", "b.1")] == [factor, 1]
    assert [snn.get_submodule(name).headroom for name in ("a.2", "b.1")] == [headroom] * 2
    result = simulate(snn, images, LEVELS, flush=60)
    torch.testing.assert_close(result.final, want)
    torch.testing.assert_close(simulate(snn, images, LEVELS, mode="counts").final, want)


def test_headroom_of_a_prepared_network_or_of_nothing() -> None:
    net = Net(0).double().eval()
    with pytest.raises(InputError, match="headroom is 0, it must be a whole number of at least 1"):
        prepare(net, LEVELS, IMAGES, headroom=0)
    quant = prepare(net, LEVELS, IMAGES, headroom=3)
    with pytest.raises(InputError, match="not prepared yet"):
        prepare(quant, LEVELS, headroom=2)
    assert prepare(quant, 2 * LEVELS).get_submodule("a.2").levels == 6 * LEVELS


@pytest.mark.parametrize(
    ("finer", "message"),
    [({"nowhere": 2}, "'nowhere', which is no activation here: there are a.2"), ({"a.2": 0}, "the factor 0")],
)
def test_bad_factors(finer: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare(Net(0).double().eval(), LEVELS, IMAGES, finer=finer)


def test_finer_levels_survive_a_checkpoint(tmp_path: Path) -> None:
    net = tiny_yolov3(num_classes=2, width=0.125, input_size=64)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    relu = replace_layers(net, images, only_activations=True)
    quant = prepare(relu, LEVELS, images, equalise=True, finer={"layers.0.act": 4}).eval()
    for model in (quant, convert(quant)):
        back = checkpoint.load(checkpoint.save(model, tmp_path / type(model).__name__))
        ours, theirs = model.state_dict(), back.state_dict()
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
        first = back.layers[0].act
        assert getattr(first, "levels", 16) == 16 and getattr(first, "burst", 4) == 4


@pytest.mark.parametrize(
    ("own", "burst"), [(LEVELS, 1), (2 * LEVELS, 2), (2 * LEVELS + 1, 1), (LEVELS - 1, 1)]
)
def test_only_whole_multiples_of_the_levels_fire_bursts(own: int, burst: int) -> None:
    prepared = prepare(Net(0).double().eval(), LEVELS, calibration=IMAGES)
    act = prepared.get_submodule("a.2")
    assert isinstance(act, QuantReLU)
    act.levels = own
    node = convert(prepared, example=IMAGES[:1]).get_submodule("a.2")
    assert isinstance(node, SignedIFNode) and node.burst == burst
    again = prepare(prepared, LEVELS * 2, example=IMAGES[:1]).get_submodule("a.2")
    assert isinstance(again, QuantReLU) and again.levels == LEVELS * 2 * burst


def test_a_relu6_is_left_alone() -> None:
    """It is cut at 6, so that f(s x) is not s f(x)."""
    net = Net(0).double().eval()
    for block in (net.a, net.b, net.c):
        block[-1] = nn.ReLU6()
        block[0].weight.data.mul_(3)
    equalised = prepare(net, LEVELS, IMAGES, equalise=True).eval()
    for block in (equalised.a, equalised.b, equalised.c):
        block[len(block) - 1] = nn.ReLU6()
    with torch.no_grad():
        assert bool((net.a(IMAGES) == 6).any())
        torch.testing.assert_close(equalised(IMAGES), net(IMAGES), rtol=1e-9, atol=1e-9)
