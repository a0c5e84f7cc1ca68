"""Simulation: read-outs, chunks, encoders, flush, and a network that is left as it was."""

from __future__ import annotations

import copy
import gc
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import functional, monitor
from torch import nn

from sj_lowlat import allocator
from sj_lowlat.conversion import convert, prepare
from sj_lowlat.detect import detections_from_maps, same_detections
from sj_lowlat.detect.stable import SCORE
from sj_lowlat.errors import InputError
from sj_lowlat.kernels import choose
from sj_lowlat.layers import LowLatencyIFNode, MergedTime, Pass, RateReadout, SignedIFNode
from sj_lowlat.models import snn_tiny_yolov3
from sj_lowlat.schedule import Schedule
from sj_lowlat.simulation import Readout, check_readout, plan, simulate, simulate_steps


class Net(nn.Module):
    """Two layers that read the image (one after preprocessing), a concat, two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.other = nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU())
        self.down = nn.Sequential(nn.Conv2d(7, 6, 3, 2, 1), nn.ReLU())
        self.up = nn.Sequential(nn.ConvTranspose2d(6, 4, 2, 2), nn.ReLU())
        self.coarse, self.fine = nn.Conv2d(6, 2, 1), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        first = self.first(x)
        down = self.down(torch.cat([first, self.other((x - 0.5) / 0.2)], 1))
        return {"coarse": self.coarse(down), "fine": self.fine(torch.cat([self.up(down), first], 1))}


IMAGES = torch.rand(3, 2, 6, 6, generator=torch.Generator().manual_seed(1))
T = 7


@pytest.fixture(scope="module")
def quant() -> nn.Module:
    torch.manual_seed(3)
    return prepare(Net().eval(), T, IMAGES, scale="97%").eval()


@pytest.fixture(params=["signed", "residual-fix"])
def snn(request: pytest.FixtureRequest, quant: nn.Module) -> nn.Module:
    return convert(quant, neuron=request.param)


@pytest.fixture
def signed(quant: nn.Module) -> nn.Module:
    return convert(quant)


def close(a: Any, b: Any) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("encoder", ["constant", "poisson"])
def test_one_pass_gives_every_readout(snn: nn.Module, encoder: str) -> None:
    steps = (1, 2, 5, T, T + 1, T + 4)
    result = simulate(snn, IMAGES, T, flush=4, readout=steps, encoder=encoder)
    assert result.steps == steps and result.final is result.outputs[-1]
    for step, outputs in zip(steps, result.outputs, strict=True):
        assert outputs["coarse"].shape == (3, 2, 3, 3) and outputs["fine"].shape == (3, 3, 6, 6)
        # T stays T, as it is the limit of counts: the run of its own only stops earlier
        alone = simulate(snn, IMAGES, T, flush=4, readout=(step,), encoder=encoder)
        assert alone.steps == (step,)
        close(alone.final, outputs)


def test_an_early_readout_is_the_last_of_a_shorter_run(snn: nn.Module) -> None:
    result = simulate(snn, IMAGES, T, readout=range(1, T + 1))
    for step, outputs in zip(result.steps, result.outputs, strict=True):
        close(simulate(snn, IMAGES, step, charge=step).final, outputs)


@settings(max_examples=12)
@given(
    chunk=st.integers(1, 14),
    encoder=st.sampled_from(["constant", "poisson"]),
    readout=st.lists(st.integers(1, T + 5), min_size=1, max_size=5),
    seed=st.integers(0, 9),
)
def test_chunks_change_nothing(
    quant: nn.Module, chunk: int, encoder: str, readout: list[int], seed: int
) -> None:
    snn = convert(quant)

    def run(size: int) -> tuple[Any, dict[str, torch.Tensor]]:
        with monitor.OutputMonitor(snn, instance=LowLatencyIFNode) as spikes:
            result = simulate(
                snn, IMAGES, T, flush=5, readout=readout, encoder=encoder, chunk=size, seed=seed
            )
        return result, {name: torch.cat(spikes[name]) for name in spikes.monitored_layers}

    (result, spikes), (single, single_spikes) = run(chunk), run(1)
    assert result.steps == single.steps == tuple(sorted(set(readout)))
    assert len(spikes) == 4
    for name, train in spikes.items():
        assert torch.equal(train, single_spikes[name]), name
    close(result.outputs, single.outputs)


def test_step_by_step_as_in_spikingjelly(snn: nn.Module) -> None:
    result = simulate(snn, IMAGES, T, readout=range(1, T + 1))
    functional.reset_net(snn)
    for outputs in result.outputs:
        with torch.no_grad():
            close(snn(IMAGES), outputs)
    functional.reset_net(snn)
    with torch.no_grad():
        close(snn(IMAGES), result.outputs[0])


def test_flush_settles_to_the_quantised_network(quant: nn.Module) -> None:
    """The preprocessing would make a current of a black image; the flush must not see it."""
    quant, images = copy.deepcopy(quant).double(), IMAGES.double()
    signed = convert(quant)
    with torch.no_grad():
        want = quant(images)
    result = simulate(signed, images, T, flush=40, readout=(T, T + 40))
    torch.testing.assert_close(result.final, want, rtol=1e-9, atol=1e-12)
    assert float((result.outputs[0]["coarse"] - want["coarse"]).abs().max()) > 1e-3  # there was work to do
    long = simulate(signed, images, T, flush=80)
    assert torch.equal(long.final["fine"], result.final["fine"])


def test_poisson_approaches_the_constant_current(signed: nn.Module) -> None:
    constant = simulate(signed, IMAGES, 400).final["fine"]
    errors = [
        float((simulate(signed, IMAGES, steps, encoder="poisson").final["fine"] - constant).norm())
        for steps in (4, 400)
    ]
    assert errors[1] < errors[0] / 4


def test_first_layers_are_computed_once(signed: nn.Module) -> None:
    calls: dict[str, int] = {}
    inside = {"first.0": signed.first[0], "other.0": signed.other[0], "down.0": signed.down[0]}
    for name, layer in inside.items():

        def count(
            x: torch.Tensor, weight: torch.Tensor, bias: Any, name: str = name, layer: Any = layer
        ) -> torch.Tensor:
            calls[name] = calls.get(name, 0) + 1
            return type(layer)._conv_forward(layer, x, weight, bias)

        layer._conv_forward = count
    want = simulate(signed, IMAGES, T, chunk=1)
    assert calls == {"first.0": 1, "other.0": 1, "down.0": T}
    calls.clear()
    simulate(signed, IMAGES, T, flush=3, chunk=1)
    assert 0 < calls.pop("down.0") <= T + 3
    times = 1 if choose(IMAGES.device) == "cpp" else 2  # of nothing at all there is nothing to compute
    assert calls == {"first.0": times, "other.0": times}
    calls.clear()
    simulate(signed, IMAGES, T, encoder="poisson", chunk=1)
    assert calls == {"first.0": T, "other.0": T, "down.0": T}
    # the next images are not the last ones'
    close(simulate(signed, IMAGES.flip(0), T).final["fine"], want.final["fine"].flip(0))


def test_heads_are_computed_at_readouts_only(signed: nn.Module) -> None:
    batches: list[int] = []
    signed.fine.layer.register_forward_pre_hook(lambda layer, args: batches.append(len(args[0])))
    simulate(signed, IMAGES, T, readout=(2, 3, 6), chunk=2)
    assert batches == [3, 3, 3]
    batches.clear()
    simulate(signed, IMAGES, T, readout=(6,), chunk=2)
    assert sum(batches) == 3


def state(snn: nn.Module) -> list[Any]:
    """Everything on a network but the potentials and counts of a run."""
    found: list[Any] = []
    for name, module in snn.named_modules():
        for key, value in vars(module).items():
            if key not in ("steps", "_memories", "_memories_rv"):
                found.append(
                    (name, key, [*map(id, value.values())] if isinstance(value, dict) else id(value))
                )
        if isinstance(module, MergedTime):
            found.append((name, module.clock.now == Pass(), module.step_mode))
    return found + [(name, value.tolist()) for name, value in snn.state_dict().items()]


@pytest.mark.parametrize("flushing", [False, True])
@pytest.mark.parametrize(
    "end", ["normal", "callback raises", "network raises", "closed", "dropped", "stopped"]
)
def test_network_is_left_as_it_was(signed: nn.Module, end: str, flushing: bool) -> None:
    next(m for m in signed.modules() if isinstance(m, SignedIFNode)).max_count = 5
    functional.reset_net(signed)  # which keeps a list of modules on the network
    before = state(signed)
    readout = (T + 1, T + 2) if flushing else (1, 2)
    options: dict[str, Any] = {"flush": 4, "readout": readout, "chunk": 1}
    if end in ("normal", "stopped"):
        stop = end == "stopped"
        result = simulate(signed, IMAGES, T, callback=lambda read: stop, **options)
        assert result.steps == (readout[:1] if stop else readout)
    elif end == "callback raises":

        def fail(read: Readout) -> bool:
            raise ZeroDivisionError

        try:
            simulate(signed, IMAGES, T, callback=fail, **options)
        except ZeroDivisionError:
            assert state(signed) == before  # while the traceback is still held
        else:
            pytest.fail("no error")
    elif end == "network raises":
        done: list[int] = []

        def fail_late(module: nn.Module, args: Any) -> None:
            done.append(1)
            if len(done) == readout[0]:
                raise ZeroDivisionError

        handle = signed.down[0].register_forward_pre_hook(fail_late)
        with pytest.raises(ZeroDivisionError):
            simulate(signed, IMAGES, T, **options)
        handle.remove()
    else:
        run = simulate_steps(signed, IMAGES, T, **options)
        assert next(run).step == readout[0]
        assert state(signed) == before  # also while the run is under way
        if end == "closed":
            run.close()
        else:
            del run
            gc.collect()
    assert state(signed) == before
    fresh = simulate(signed, IMAGES, T).final
    close(simulate(signed, IMAGES, T).final, fresh)


def test_generator_gives_readouts_as_they_come(signed: nn.Module) -> None:
    passes: list[int] = []
    signed.register_forward_pre_hook(lambda net, args: passes.append(1))
    run = simulate_steps(signed, IMAGES, 1000, readout=(1, 2, 1000), chunk=1)
    assert passes == []
    assert (next(run).step, len(passes)) == (1, 1)
    assert (next(run).step, len(passes)) == (2, 2)
    run.close()
    assert len(passes) == 2 and list(run) == []


def test_callback_sees_every_readout_and_may_stop(signed: nn.Module) -> None:
    seen: list[int] = []

    def watch(read: Readout) -> bool:
        seen.append(read.step)
        return read.step >= 3

    result = simulate(signed, IMAGES, T, readout=(1, 3, 5), callback=watch)
    assert seen == [1, 3] and result.steps == (1, 3) and len(result.outputs) == 2
    seen.clear()
    assert simulate(signed, IMAGES, T, readout=(5, 1, 1), callback=lambda r: seen.append(r.step)).steps == (
        1,
        5,
    )
    assert seen == [1, 5]


def test_memory_does_not_grow_with_time(signed: nn.Module) -> None:
    """No tensor that lives between chunks, or enters a layer, is larger at T = 256 than at T = 64."""

    def largest(steps: int) -> int:
        sizes: list[int] = []
        handles = [
            module.register_forward_hook(lambda m, args, out: sizes.append(out.numel()))
            for module in signed.modules()
            if isinstance(module, (LowLatencyIFNode, nn.Conv2d, nn.ConvTranspose2d, RateReadout))
        ]
        simulate(signed, IMAGES, steps)
        for handle in handles:
            handle.remove()
        held = [
            t.numel()
            for m in signed.modules()
            if isinstance(m, MergedTime)
            for t in m.memories()
            if isinstance(t, torch.Tensor)
        ]
        return max(sizes + held)

    assert largest(64) == largest(256)


def test_signed_counts_stop_at_the_number_of_steps(signed: nn.Module) -> None:
    node = signed.first[2]
    with torch.no_grad():
        signed.first[0].bias.fill_(10.0)
    simulate(signed, IMAGES, T, flush=10)
    assert node.max_count is None and torch.equal(node.count, torch.full_like(node.count, T))
    node.max_count = 3
    simulate(signed, IMAGES, T, flush=10)
    assert torch.equal(node.count, torch.full_like(node.count, 3))


def test_gradients_are_off_and_dtype_is_the_networks(signed: nn.Module) -> None:
    out = simulate(signed, IMAGES.double(), T).final["fine"]
    assert out.dtype == torch.float32 and not out.requires_grad


def test_head_that_reads_the_image() -> None:
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act, self.head = nn.Conv2d(2, 3, 1), nn.ReLU(), nn.Conv2d(3, 2, 1)
            self.direct = nn.Conv2d(2, 2, 1)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            x = x + 1
            return self.direct(x), self.head(self.act(self.conv(x)))

    quant = prepare(Skip().eval(), T, IMAGES).eval()
    snn = convert(quant)
    assert set(snn.input_layers) == {"conv", "direct"}
    for readout in ((3, T), (T + 2, T + 9)):
        result = simulate(snn, IMAGES, T, flush=9, readout=readout, chunk=2)
        with torch.no_grad():
            want = quant(IMAGES)
        for outputs in result.outputs:
            close(outputs[0], want[0])
        close(result.final[1], want[1])


class Half:
    """An encoder of one's own: the image at even steps only."""

    def __call__(self, images: torch.Tensor, start: int, steps: int) -> torch.Tensor:
        return torch.cat([images * (step % 2 == 0) for step in range(start, start + steps)])


def test_encoder_of_ones_own(signed: nn.Module) -> None:
    results = [simulate(signed, IMAGES, 8, encoder=Half(), chunk=chunk).final for chunk in (1, 3)]
    close(results[0], results[1])
    assert not torch.equal(results[0]["fine"], simulate(signed, IMAGES, 8).final["fine"])


@pytest.mark.parametrize("images", [IMAGES - 0.5, IMAGES + 0.5])
def test_poisson_needs_probabilities(signed: nn.Module, images: torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"probabilities of spikes they must lie in \[0, 1\]"):
        simulate(signed, images, T, encoder="poisson")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time_steps": 0}, "time_steps is 0, it must be a whole number of at least 1"),
        ({"time_steps": -3}, "time_steps is -3"),
        ({"time_steps": 2.0}, "time_steps is 2.0"),
        ({"time_steps": True}, "time_steps is True"),
        ({"flush": -1}, "flush is -1, it must be a whole number of at least 0"),
        ({"chunk": 0}, "chunk is 0"),
        ({"chunk": 1.5}, "chunk is 1.5"),
        ({"readout": ()}, r"readout is \(\), it must be a sequence of steps from 1 to 7"),
        ({"readout": (0, 3)}, "must be a sequence of steps from 1 to 7"),
        ({"readout": (8,)}, "must be a sequence of steps from 1 to 7"),
        ({"readout": (12,), "flush": 4}, "must be a sequence of steps from 1 to 11"),
        ({"readout": (2.0,)}, "must be a sequence of steps"),
        ({"readout": (1, "2")}, "must be a sequence of steps"),
        ({"readout": 5}, "readout is 5, it must be a sequence of steps"),
        ({"encoder": "spikes"}, "encoder is 'spikes'"),
        ({"images": IMAGES * torch.nan}, "NaN or infinite"),
        ({"images": IMAGES / 0}, "NaN or infinite"),
        ({"images": IMAGES[:0]}, r"images are \(0, 2, 6, 6\) of torch.float32"),
        ({"images": (IMAGES * 255).to(torch.uint8)}, "of torch.uint8; they must be a floating-point tensor"),
        ({"images": torch.tensor(1.0)}, r"images are \(\) of"),
        ({"images": IMAGES.numpy()}, "images are ndarray"),
    ],
)
def test_bad_input(signed: nn.Module, change: dict[str, Any], message: str) -> None:
    given_ = {"images": IMAGES, "time_steps": T, **change}
    before = state(signed)
    with pytest.raises(InputError, match=message):
        simulate(signed, given_.pop("images"), given_.pop("time_steps"), **given_)
    assert state(signed) == before


def test_a_network_that_does_not_spike_is_refused(quant: nn.Module) -> None:
    for net in (quant, nn.Conv2d(2, 1, 1), nn.Sequential(RateReadout(nn.Conv2d(2, 1, 1)))):
        with pytest.raises(InputError, match="no spiking neurons of sj_lowlat; call sj_lowlat.convert first"):
            simulate_steps(net, IMAGES, T)  # at once, before the first step


def test_steps_are_checked_and_sorted() -> None:
    assert check_readout(Schedule(16, 4), None) == (20,)
    assert check_readout(Schedule(16, 4), [20, 3, 3]) == (3, 20)
    assert check_readout(Schedule(4), (step for step in (2, 1))) == (1, 2)  # type: ignore[arg-type]


def test_forward_that_moves_dimension_0_is_told(signed: nn.Module) -> None:
    def halve(node: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (args[0][:2],)

    signed.down[1].register_forward_pre_hook(halve)
    with pytest.raises(InputError, match="SignedIFNode got a batch of 2, it expects 1 steps x 3 images"):
        simulate(signed, IMAGES, T, chunk=1)


def test_results_do_not_depend_on_the_batch(signed: nn.Module) -> None:
    whole = simulate(signed, IMAGES, T, flush=2).final
    for i in range(len(IMAGES)):
        alone = simulate(signed, IMAGES[i : i + 1], T, flush=2).final
        close(alone["fine"], whole["fine"][i : i + 1])


@pytest.mark.parametrize(("time_steps", "burst"), [(1, 1), (2, 1), (3, 2), (T, 1), (2 * T, 1), (1, T)])
def test_the_same_charge_settles_to_the_same_output(quant: nn.Module, time_steps: int, burst: int) -> None:
    exact = copy.deepcopy(quant).double()
    snn = convert(exact)
    before = {name: value.clone() for name, value in snn.state_dict().items()}
    with torch.no_grad():
        want = exact(IMAGES.double())
    result = simulate(snn, IMAGES, time_steps, flush=60, levels=T, burst=burst)
    close(result.final, want)
    assert all(torch.equal(before[name], value) for name, value in snn.state_dict().items())
    nodes = [module for module in snn.modules() if isinstance(module, SignedIFNode)]
    assert all(node.burst == 1 and node.max_count is None for node in nodes)


def test_a_burst_of_all_levels_is_the_quantised_network_in_one_step(quant: nn.Module) -> None:
    exact = copy.deepcopy(quant).double()
    with torch.no_grad():
        want = exact(IMAGES.double())
    close(simulate(convert(exact), IMAGES, 1, levels=T, burst=T).final, want)


@pytest.mark.parametrize("bad", [0, -1, 2.0, True])
def test_bad_levels_and_bursts(signed: nn.Module, bad: Any) -> None:
    with pytest.raises(InputError, match="charge is .*at least 1"):
        simulate(signed, IMAGES, T, levels=bad)
    with pytest.raises(InputError, match="burst is .*at least 1"):
        simulate(signed, IMAGES, T, burst=bad)


def test_counts_are_what_the_run_in_steps_settles_to(quant: nn.Module) -> None:
    exact = copy.deepcopy(quant).double()  # in float32 a sum on a border may be rounded to either side
    snn = convert(exact)
    images = IMAGES.double()
    counts = simulate(snn, images, T, mode="counts")
    nodes = [module for module in snn.modules() if isinstance(module, SignedIFNode)]
    settled = [node.count.clone() for node in nodes]
    assert counts.steps == (T,) and any(bool((count > 1).any()) for count in settled)
    flushed = simulate(snn, images, T, flush=64)
    assert all(torch.equal(count, node.count) for count, node in zip(settled, nodes, strict=True))
    with torch.no_grad():
        want = exact(images)
    for name in ("coarse", "fine"):
        torch.testing.assert_close(counts.final[name], flushed.final[name], rtol=0, atol=1e-12)
        torch.testing.assert_close(counts.final[name], want[name], rtol=0, atol=1e-6)
    # the charge decides, and not how it would be spread over steps
    spread = simulate(snn, images, 3, flush=2, levels=T, burst=2, mode="counts")
    assert spread.steps == (5,)
    torch.testing.assert_close(spread.final, counts.final, rtol=0, atol=0)


def test_counts_need_one_convolution_a_layer(signed: nn.Module) -> None:
    calls: list[nn.Module] = []
    handles = [
        module.register_forward_hook(lambda m, args, out: calls.append(m))
        for module in signed.modules()
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))
    ]
    simulate(signed, IMAGES, T, mode="counts")
    assert len(calls) == len(set(calls)) == len(handles)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "count"}, "mode is 'count', it must be one of steps, counts"),
        ({"mode": "counts", "readout": (1,)}, "settled network only: leave readout out"),
        ({"mode": "counts", "encoder": "poisson"}, "needs the constant encoder"),
        ({"stop": "soon"}, "stop is 'soon', it must be 'stable'"),
        ({"stop": "stable"}, "has no head_specs"),
    ],
)
def test_modes_that_cannot_be(signed: nn.Module, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        simulate(signed, IMAGES, T, **options)


def test_counts_of_neurons_that_do_not_settle(quant: nn.Module) -> None:
    with pytest.raises(InputError, match="this network has ResidualFixIFNode"):
        simulate(convert(quant, neuron="residual-fix"), IMAGES, T, mode="counts")


def test_a_run_that_stops_early_reads_each_image_where_it_is_stable() -> None:
    torch.manual_seed(0)
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    snn: Any = convert(prepare(snn_tiny_yolov3(2, 0.25, input_size=64).eval(), 8, images))
    for head in (module for module in snn.modules() if isinstance(module, RateReadout)):
        # scores of a network that is sure of a few boxes
        weight, bias = (value.data.unflatten(0, (-1, 7)) for value in (head.layer.weight, head.layer.bias))
        weight[:, 4:] *= 60
        bias[:, 4] = -2
    whole = simulate(snn, images, 8, flush=24, readout=range(1, 33))
    run = simulate(snn, images, 8, flush=24, stop="stable")
    assert run.stopped is not None and max(run.stopped) < 32
    assert run.steps == tuple(range(1, max(run.stopped) + 1))
    for image, step in enumerate(run.stopped):
        seen = [
            detections_from_maps(whole.outputs[s - 1], snn.head_specs, SCORE)[image]
            for s in (step - 2, step - 1, step)
        ]
        assert len(seen[0]) and same_detections(*seen[:2]) and same_detections(*seen[1:])
        for ours, theirs in zip(run.final, whole.outputs[step - 1], strict=True):
            torch.testing.assert_close(ours[image], theirs[image], rtol=1e-4, atol=1e-4)


def test_chunks_fit_the_budget(signed: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int | None] = []
    node = next(module for module in signed.modules() if isinstance(module, SignedIFNode))
    node.register_forward_hook(lambda m, args, out: sizes.append(m.clock.now.steps))
    largest = IMAGES.shape[0] * 8 * 6 * 6 * 4  # of float32 spikes, those that the fine head reads
    monkeypatch.setattr(allocator, "_kept", False)  # another test of this process may have asked for it
    monkeypatch.setattr(plan, "_ON_A_CPU", 3 * largest)
    simulate(signed, IMAGES, T)
    assert sizes == [2, 3, 2]  # the first pass tells how large the layers are
    sizes.clear()
    simulate(signed, IMAGES[:1], T + 1)
    assert sizes == [8]


def test_a_network_in_train_mode_is_run_in_eval_mode() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(8 * 36, 5)]
    images = torch.rand(2, 3, 8, 8)
    snn = convert(prepare(nn.Sequential(*layers).eval(), 8, images))
    want = simulate(snn, images, 8, flush=8).final
    snn.train()
    assert torch.equal(simulate(snn, images, 8, flush=8).final, want)
    assert all(module.training for module in snn.modules())


def test_one_image_without_a_batch_is_refused() -> None:
    images = torch.rand(2, 3, 8, 8)
    snn = convert(prepare(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1)), 8, images))
    with pytest.raises(InputError, match=r"one image \[3, 8, 8\] came without a batch: give images\[None\]"):
        simulate(snn, images[0], 8)
    with pytest.raises(InputError, match=r"images have 2 channels, \[1, 2, 8, 8\]; the network takes 3"):
        simulate(snn, torch.rand(1, 2, 8, 8), 4)
