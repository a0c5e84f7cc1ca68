"""Each method against its own closed form: a constant current, or the network that it stands for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sj_lowlat import checkpoint
from sj_lowlat.cli.convert import run as convert_verb
from sj_lowlat.conversion import METHODS, Method, convert, prepare, register_method
from sj_lowlat.errors import InputError
from sj_lowlat.layers import (
    DifferentialIFNode,
    LowLatencyIFNode,
    MultiThresholdIFNode,
    QuantReLU,
    RateGatedMaxPool,
    RateNorm,
    SpikeMaxPool,
)
from sj_lowlat.schedule import Schedule
from sj_lowlat.simulation import simulate

DOUBLE = torch.float64
# random, so that none but the largest, 1, lies on a border between levels
VALUES = torch.rand(141, dtype=DOUBLE, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.4
VALUES[-1] = 1.0
VALUES = VALUES.view(1, 1, 1, -1)


def identity(slope: float = 0.0, bias: float = 0.0) -> nn.Sequential:
    """One neuron for each pixel, whose current is the pixel's value; the head passes it on."""
    first, head = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        first.weight.fill_(1.0)
        first.bias.fill_(bias)  # type: ignore[union-attr]
        head.weight.fill_(1.0)
        head.bias.zero_()  # type: ignore[union-attr]
    act = nn.LeakyReLU(slope) if slope else nn.ReLU()
    return nn.Sequential(first, act, head).double().eval()


def counts(
    method: str, steps: int, slope: float = 0.0, levels: int | None = None, **options: Any
) -> np.ndarray:
    """Spikes of each pixel's neuron after so many steps of the whole current, in units of the scale."""
    ann: nn.Module = identity(slope)
    if levels is not None:
        ann = prepare(ann, levels, VALUES, scale="max")
    snn = convert(ann, method=method, calibration=VALUES, **options)
    rate = simulate(snn, VALUES, Schedule(steps, charge=steps)).final
    return (rate * steps).flatten().numpy()


def random_network(seed: int, pool: type[nn.Module] = nn.MaxPool2d) -> nn.Sequential:
    """Three layers of neurons, with a batch norm and a pool."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), pool(2), nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(), nn.Conv2d(8, 6, 1), nn.ReLU(), nn.Conv2d(6, 4, 1),
    ).double()  # fmt: skip
    norm: Any = net[1]
    norm.running_mean.uniform_(-0.2, 0.2)
    norm.running_var.uniform_(0.05, 0.3)
    return net.eval()


def images(seed: int, count: int = 3) -> torch.Tensor:
    return torch.rand(count, 3, 12, 12, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def neurons(snn: nn.Module) -> dict[str, LowLatencyIFNode]:
    return {name: node for name, node in snn.named_modules() if isinstance(node, LowLatencyIFNode)}


Z = VALUES.flatten().numpy()
STEPS = pytest.mark.parametrize("steps", [1, 2, 5, 16, 33])


def floor(x: np.ndarray) -> np.ndarray:
    """Of numbers that binary fractions miss by a last bit."""
    return np.floor(x + 1e-9)


@pytest.mark.parametrize("name", ["signed", "residual-fix", "if", "imbalanced"])
def test_the_four_kinds_are_as_before(name: str) -> None:
    """A method of that name and a kind of neurons of that name give one network."""
    quant = prepare(random_network(0), 8, images(0))
    old, new = convert(quant, neuron=name), convert(quant, method=name)
    assert old.state_dict().keys() == new.state_dict().keys()
    assert all(torch.equal(value, new.state_dict()[key]) for key, value in old.state_dict().items())
    reads = [simulate(snn, images(1), Schedule(8)).final for snn in (old, new)]
    assert torch.equal(*reads) and new.conversion_report.method == name


@STEPS
@pytest.mark.parametrize("name", ["cao", "diehl"])
def test_hard_reset_loses_what_is_above_the_threshold(name: str, steps: int) -> None:
    """It needs ceil(1 / z) steps for every spike; the largest activation fires in each."""
    period = np.array([math.ceil(1 / z - 1e-9) if z > 1e-9 else 10**9 for z in Z])
    np.testing.assert_allclose(counts(name, steps), steps // period, atol=1e-9)


def test_cao_has_no_biases_and_no_max_pools() -> None:
    form = prepare(random_network(1), calibration=images(1), method="cao")
    layers = [layer for layer in form.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.bias is None for layer in layers] == [True, True, True, False]
    kinds = {type(layer) for layer in form.modules()}
    assert nn.AvgPool2d in kinds and not kinds & {nn.MaxPool2d, nn.BatchNorm2d}
    want = random_network(1, nn.AvgPool2d)
    norm: Any = want[1]
    gain = norm.weight / (norm.running_var + norm.eps).sqrt()
    with torch.no_grad():  # a batch norm that only scales
        norm.bias.copy_((norm.running_mean - want[0].bias) * gain)
        want[4].bias.zero_()
        want[6].bias.zero_()
        torch.testing.assert_close(form(images(2)), want(images(2)), rtol=0, atol=1e-12)


@STEPS
def test_rueckauer_counts_the_floor(steps: int) -> None:
    np.testing.assert_allclose(
        counts("rueckauer", steps, scale="max"), floor(np.clip(Z, 0, 1) * steps), atol=1e-9
    )


def test_rueckauer_takes_the_percentile_and_gates_its_pools() -> None:
    snn = convert(random_network(2), method="rueckauer", calibration=images(2, 8))
    assert any(isinstance(module, RateGatedMaxPool) for module in snn.modules())
    assert not any(isinstance(module, SpikeMaxPool) for module in snn.modules())
    scales = convert(random_network(2), method="if", scale="99.9%", calibration=images(2, 8))
    assert torch.equal(snn.get_submodule("0").weight, scales.get_submodule("0").weight)


def test_spike_norm_balances_the_currents() -> None:
    """With the layers before at their thresholds, no current is above 1 in any step, and one is 1."""
    snn = convert(random_network(3), method="spike-norm", calibration=images(3), time_steps=20)
    highest: dict[str, float] = dict.fromkeys(neurons(snn), -math.inf)
    for name, node in neurons(snn).items():

        def watch(_: nn.Module, inputs: Any, name: str = name) -> None:
            highest[name] = max(highest[name], float(inputs[0].amax()))

        node.register_forward_pre_hook(watch)
    simulate(snn, images(3), Schedule(20, charge=20))
    assert list(highest.values()) == pytest.approx([1.0] * 3, abs=1e-6)


class Residual(nn.Module):
    """A block whose input is added to the currents of its second layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(n, 6, 3, padding=1) for n in (3, 6, 6))
        self.acts = nn.ModuleList(nn.ReLU() for _ in range(3))
        self.head = nn.Conv2d(6, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.acts[0](self.first(x))
        z = self.acts[1](self.second(y))
        return self.head(self.acts[2](self.third(z) + y))  # type: ignore[no-any-return]


def test_spike_norm_balances_residual_layers() -> None:
    """The current of a sum holds the spikes of both branches."""
    torch.manual_seed(11)
    snn = convert(Residual().double().eval(), method="spike-norm", calibration=images(11), time_steps=20)
    highest: dict[str, list[float]] = {name: [] for name in neurons(snn)}
    for name, node in neurons(snn).items():
        node.register_forward_pre_hook(lambda _, x, name=name: highest[name].append(float(x[0].amax())))
    simulate(snn, images(11), Schedule(20, charge=20))
    assert [max(values) for values in highest.values()] == pytest.approx([1.0] * 3, abs=1e-6)


@STEPS
def test_spiking_yolo_has_a_lower_threshold_for_negative_spikes(steps: int) -> None:
    """-1 at V <= -1 / slope: slope z T spikes, each of which is worth -1 of the scale."""
    want = np.where(Z > 0, floor(np.clip(Z, 0, 1) * steps), -floor(-Z * steps * 0.25))
    found = counts("spiking-yolo", steps, slope=0.25, scale="max", per_channel=False)
    np.testing.assert_allclose(found, want, atol=1e-9)
    snn = convert(identity(0.25), method="spiking-yolo", calibration=VALUES)
    assert (
        snn.conversion_report.layers[0].neuron == "ImbalancedIFNode" and METHODS["spiking-yolo"].per_channel
    )


def test_rate_norm_follows_its_clip() -> None:
    form: Any = prepare(identity(), calibration=VALUES, method="rate-norm")
    layer = next(module for module in form.modules() if isinstance(module, RateNorm))
    assert float(layer.clip.detach()) == pytest.approx(0.95)
    with torch.no_grad():
        np.testing.assert_allclose(form(VALUES).flatten(), np.clip(Z, 0, float(layer.clip)), atol=1e-12)
    rate = simulate(convert(form, method="rate-norm"), VALUES, Schedule(1000, charge=1000)).final
    np.testing.assert_allclose(rate.flatten(), np.clip(Z, 0, float(layer.clip)), atol=0.5e-3)


def test_rate_norm_trains_the_share_and_follows_the_maximum() -> None:
    layer = RateNorm(2.0, 0.5)
    x = torch.tensor([-1.0, 0.5, 0.9, 3.0], requires_grad=True)
    layer.eval()(x).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0, 1, 1, 0]  # above the clip of 1 nothing passes
    slope = 2.0 * 0.25  # d(p r)/d(raw), for one value above
    assert layer.share_raw.grad is not None and float(layer.share_raw.grad) == pytest.approx(slope)
    layer.train()(torch.full((2, 3), 4.0))
    assert float(layer.highest) == pytest.approx(2.2)  # a tenth of the way from 2 to 4
    for highest, share in ((0.0, 0.5), (math.nan, 0.5), (1.0, 0.0), (1.0, 1.0)):
        with pytest.raises(InputError):
            RateNorm(highest, share)


def channel_errors(snn: nn.Module, ann: nn.Module, scales: dict[str, torch.Tensor], steps: int) -> float:
    """Largest mean error of a channel of the last layer of neurons."""
    found, want = [], []
    last = list(neurons(snn))[-1]
    node = snn.get_submodule(last)
    handles = [
        node.register_forward_hook(lambda m, i, out: found.append(out.unflatten(0, (-1, 8)))),
        ann.get_submodule(last).register_forward_hook(lambda m, i, out: want.append(out)),
    ]
    simulate(snn, images(5, 8), Schedule(steps, charge=steps), chunk=1)
    with torch.no_grad():
        ann(images(5, 8))
    for handle in handles:
        handle.remove()
    rate, scale = torch.cat(found).sum(0) / steps, scales[last]
    scale = scale.view(-1, 1, 1) if scale.dim() else scale
    return float((rate - want[0] / scale).mean((0, 2, 3)).abs().amax())


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("name", ["calibration-light", "calibration-advanced"])
def test_calibration_moves_means_to_those_of_the_ann(name: str, per_channel: bool) -> None:
    ann, steps = random_network(4), 6
    options: dict[str, Any] = {"calibration": images(5, 8), "time_steps": steps, "per_channel": per_channel}
    bare = convert(ann, neuron="residual-fix", scale="mse", **options)
    snn = convert(ann, method=name, **options)
    quant = prepare(ann, steps, images(5, 8), scale="mse", per_channel=per_channel)
    scales = {name: m.clip.detach() for name, m in quant.named_modules() if isinstance(m, QuantReLU)}
    before, after = (channel_errors(network, ann, scales, steps) for network in (bare, snn))
    assert after < 0.5 * before

    def error(network: nn.Module) -> float:
        with torch.no_grad():
            want = ann(images(5, 8))
        return float((simulate(network, images(5, 8), Schedule(steps, charge=steps)).final - want).norm())

    assert error(snn) < error(bare)


@pytest.mark.parametrize("name", ["qcfs", "residual-fix", "fast-snn"])
@pytest.mark.parametrize("levels", [2, 5, 16])
def test_methods_of_trained_clips_are_exact_for_constant_currents(name: str, levels: int) -> None:
    """T = L: N / T is the quantised ReLU."""
    want = floor(np.clip(Z, 0, 1) * levels + 0.5)
    np.testing.assert_allclose(counts(name, levels, levels=levels), want, atol=1e-6)


@STEPS
def test_bursts_keep_up_with_large_currents(steps: int) -> None:
    """A scale of a third: up to three thresholds a step come, and up to five spikes go."""
    snn = convert(identity(), method="burst", scale={"1": torch.tensor(1 / 3, dtype=DOUBLE)}, example=VALUES)
    rate = simulate(snn, VALUES, METHODS["burst"].schedule(steps, None, 1)).final
    np.testing.assert_allclose((rate * 3 * steps).flatten(), floor(3 * np.clip(Z, 0, 1) * steps), atol=1e-9)


@STEPS
def test_group_neurons_have_finer_levels(steps: int) -> None:
    """Four members: levels of a quarter of a threshold, up to four spikes a step."""
    want = floor(np.clip(Z, 0, 1) * 4 * steps + 0.5) / 4
    np.testing.assert_allclose(counts("group", steps, levels=16), want, atol=1e-6)


@pytest.mark.parametrize("name", ["wait", "bit-serial"])
def test_waiting_is_exact_and_takes_depth_times_steps(name: str) -> None:
    quant = prepare(random_network(6), 12, images(6))
    snn = convert(quant, method=name)
    run = METHODS[name].run(snn, 999)
    assert run["schedule"].total == 3 * (12 if name == "wait" else 4)  # 12 takes four bits
    read = simulate(snn, images(7), run["schedule"], mode=run["mode"])
    with torch.no_grad():
        torch.testing.assert_close(read.final, quant(images(7)), rtol=0, atol=1e-9)
    assert read.steps == (run["schedule"].total,)


@pytest.mark.parametrize(("name", "total"), [("graded", 12), ("powers-of-two", 16), ("single-spike", 40)])
def test_own_methods_settle_to_the_quantised_network(name: str, total: int) -> None:
    quant = prepare(random_network(8), 16, images(8))
    snn = convert(quant, method=name)
    schedule = METHODS[name].run(snn, total)["schedule"]
    assert schedule.total == total and (schedule.burst == 1) == (name == "single-spike")
    with torch.no_grad():
        torch.testing.assert_close(
            simulate(snn, images(9), schedule).final, quant(images(9)), rtol=0, atol=1e-9
        )


def nearest(above: float, sent: float, most: int) -> float:
    """The rule of multi-threshold neurons, in plain Python."""
    for k in reversed(range(most.bit_length())):
        if above >= 0.75 * 2**k:
            return 2.0**k
        if above <= -0.75 * 2**k and sent >= 2**k:
            return -(2.0**k)
    return 0.0


@settings(deadline=None, max_examples=60)
@given(
    currents=st.lists(st.floats(-9, 9), min_size=1, max_size=12), burst=st.sampled_from([1, 3, 8]),
    threshold=st.sampled_from([0.5, 1.0, 3.0]),
)  # fmt: skip
def test_neurons_of_many_thresholds_follow_their_equations(
    currents: list[float], burst: int, threshold: float
) -> None:
    x = torch.tensor(currents, dtype=DOUBLE).view(-1, 1, 1)
    for kind in (MultiThresholdIFNode, DifferentialIFNode):
        node = kind(v_threshold=threshold, ratio=0.0, burst=burst, step_mode="m").double()
        v = total = mean_in = mean_out = 0.0
        want = []
        for t, current in enumerate(currents, 1):
            if kind is DifferentialIFNode:
                v += t * current + mean_in - mean_out
                total += mean_out / threshold
                mean_in += current
            else:
                v += current
            spike = nearest(v / threshold, total, burst)
            v -= spike * threshold
            total += spike
            mean_out += spike * threshold / t
            want.append(spike / t if kind is DifferentialIFNode else spike)
        torch.testing.assert_close(node(x).flatten(), torch.tensor(want, dtype=DOUBLE), rtol=0, atol=1e-12)
        torch.testing.assert_close(node.v.flatten(), torch.tensor([v], dtype=DOUBLE), rtol=0, atol=1e-9)


def test_multi_threshold_sums_to_the_charge() -> None:
    """Within the smallest threshold of it, some steps after all has come."""
    snn = convert(identity(), method="multi-threshold", scale="max", per_channel=False, calibration=VALUES)
    rate = simulate(snn, VALUES, Schedule(40, flush=8, charge=40)).final
    np.testing.assert_allclose(rate.flatten() * 40, np.clip(Z, 0, 1) * 40, atol=0.75 / 64)


def test_differential_neurons_fall_silent_at_the_mean() -> None:
    snn = convert(identity(), method="differential", scale="max", per_channel=False, calibration=VALUES)
    schedule = METHODS["differential"].schedule(60, None, 1)
    rates = simulate(snn, VALUES, schedule, readout=[1, 10, 60]).outputs
    errors = [float((rate.flatten() - VALUES.flatten().clamp(min=0)).abs().max()) for rate in rates]
    assert errors[0] > 4 * errors[1] > 0 and errors[2] < 0.01
    (node,) = neurons(snn).values()
    before = node.mean_out.clone()
    read = simulate(snn, VALUES, METHODS["differential"].schedule(61, None, 1)).final
    assert float((node.mean_out - before).abs().max()) <= 64 / 61 and torch.isfinite(read).all()
    with pytest.raises(InputError, match="fp32"):
        node.spike_dtype = torch.bfloat16
        simulate(snn, VALUES, schedule)


def test_a_method_is_saved_with_its_network(tmp_path: Any) -> None:
    for name in METHODS:
        method = METHODS[name]
        form = prepare(random_network(9).float(), 8 if method.form == "quantised" else None,
                       images(9).float(), method=name)  # fmt: skip
        snn = convert(form, method=name, calibration=images(9).float(), time_steps=4)
        checkpoint.save(snn, tmp_path / name)
        again = checkpoint.load(tmp_path / name)
        run = method.run(snn, 6)
        reads = [simulate(network, images(10).float(), run["schedule"], mode=run["mode"]).final
                 for network in (snn, again)]  # fmt: skip
        assert torch.equal(*reads), name
        assert again.info.report is not None and again.info.report.method == name
        assert again.info.schedule == snn.info.schedule


def test_options_that_contradict_a_method() -> None:
    net, x = random_network(0), images(0)
    bad: list[tuple[Callable[[], object], str]] = [
        (lambda: convert(net, method="cao2"), "method is 'cao2', it must be one of signed, "),
        (lambda: convert(net, method="cao", neuron="if", calibration=x), "has its own neurons: give one"),
        (lambda: convert(net, method="diehl", example=x), "needs calibration images"),
        (lambda: convert(net, method="qcfs", example=x), "call prepare first"),
        (
            lambda: convert(net, scale={"2": torch.ones(())}, example=x),
            "give one for each activation",
        ),
        (
            lambda: convert(net, scale=dict.fromkeys("257", torch.zeros(())), example=x),
            "a positive tensor",
        ),
        (lambda: prepare(net, 8, x, method="cao"), "levels is 8, and method='cao' has none"),
        (lambda: prepare(net, method="rate-norm", example=x), "needs calibration images"),
        (lambda: Method("x", "", "if", form="fine"), "form is 'fine'"),
        (lambda: register_method(METHODS["cao"]), "there is a method 'cao' already"),
    ]
    for call, words in bad:
        with pytest.raises(InputError, match=words):
            call()


def test_the_command_line_names_every_method() -> None:
    doc = " ".join((convert_verb.__doc__ or "").split())
    listed = doc.split("start, corrections and schedule: ")[1].split(" :param")[0]
    assert set(listed.split(", ")) == set(METHODS)
