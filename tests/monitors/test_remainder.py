from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sj_lowlat.errors import InputError
from sj_lowlat.layers import HardResetIFNode, ImbalancedIFNode, ResidualFixIFNode, SignedIFNode
from sj_lowlat.monitors import RemainderMonitor

MODES = ["s", "m", "merged"]
Run = Callable[..., Tensor]


def dyadic(*shape: int, seed: int) -> Tensor:
    """Currents in eighths: their sums are exact in float32."""
    g = torch.Generator().manual_seed(seed)
    return torch.randint(-10, 14, shape, generator=g) / 8


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["residual-fix", "signed", "signed-capped", "signed-leaky", "imbalanced"]),
    mode=st.sampled_from(MODES),
    space=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    presentations=st.lists(st.tuples(st.integers(1, 8), st.integers(1, 3)), min_size=1, max_size=3),
    threshold=st.sampled_from([1.0, 0.5, "per channel"]),
    chunk=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_surplus_is_that_of_the_sum_of_the_inputs(
    kind: str,
    mode: str,
    space: list[int],
    presentations: list[tuple[int, int]],
    threshold: float | str,
    chunk: int,
    seed: int,
    run: Run,
) -> None:
    """Oracle: what a neuron should have fired follows from its summed input alone."""
    channels = space[0]
    v_th = (
        torch.tensor([1.0, 0.5, 2.0, 4.0])[:channels]
        if threshold == "per channel"
        else torch.tensor(threshold)
    )
    node = {
        "residual-fix": lambda: ResidualFixIFNode(v_threshold=v_th),
        "signed": lambda: SignedIFNode(v_threshold=v_th),
        "signed-capped": lambda: SignedIFNode(v_threshold=v_th, max_count=2),
        "signed-leaky": lambda: SignedIFNode(v_threshold=v_th, slope=0.25),
        "imbalanced": lambda: ImbalancedIFNode(v_threshold=v_th, slope=0.5),
    }[kind]()
    net = nn.Sequential(node)
    over = under = clipped = neurons = 0
    re = []
    with RemainderMonitor(net) as monitor:
        for index, (steps, batch) in enumerate(presentations):
            currents = dyadic(steps, batch, *space, seed=seed + index)
            spikes = run(net, currents, mode, chunk)
            per_channel = v_th.view(-1, *[1] * (len(space) - 1)) if v_th.dim() else v_th
            total = 0.5 + (currents / per_channel).sum(0)  # in thresholds, V(0) included
            count = spikes.sum(0)
            cap = 2 if kind == "signed-capped" else steps
            if kind == "imbalanced":
                wanted = torch.where(total < 0, (total * 0.5).ceil(), total.floor())
                lowest = -cap
                v = total - (spikes > 0).sum(0) + 2 * (spikes < 0).sum(0)
            elif kind == "signed-leaky":
                wanted = torch.where(total < 0, (total * 0.25 + 0.5).floor(), total.floor())
                lowest, v = -cap, total - torch.where(count < 0, 4 * count, count)
            else:
                wanted, lowest, v = total.floor(), 0, total - count
            held = wanted.clamp(lowest, cap)
            at_limit = (held == count) & (held != wanted)
            over += int((count > held).sum())
            under += int((count < held).sum())
            clipped += int(at_limit.sum())
            neurons += count.numel()
            re.append((v / steps)[~at_limit])
    record = monitor["0"]
    assert record.images == sum(batch for _, batch in presentations)
    assert record.over_fired == pytest.approx(over / neurons)
    assert record.under_fired == pytest.approx(under / neurons)
    assert record.exact == pytest.approx(1 - (over + under) / neurons)
    assert record.clipped == pytest.approx(clipped / neurons)
    values = torch.cat(re)
    assert record.mean_re == pytest.approx(float(values.mean()) if len(values) else 0.0, abs=1e-6)
    assert record.mean_abs_re == pytest.approx(float(values.abs().mean()) if len(values) else 0.0, abs=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_a_constant_input_leaves_the_residual_fix_neuron_exact(mode: str, run: Run) -> None:
    net = nn.Sequential(ResidualFixIFNode())
    with RemainderMonitor(net) as monitor:
        run(net, torch.linspace(-1, 2, 97).expand(8, 2, 97), mode)
    assert monitor[0].exact == 1.0
    assert 0 < monitor[0].clipped < 1  # below 0 and above one spike a step


@pytest.mark.parametrize("mode", MODES)
def test_a_spike_that_came_too_early_is_over_fired_unless_it_is_taken_back(mode: str, run: Run) -> None:
    currents = torch.tensor([1.0, -1.0]).view(2, 1, 1)  # V(0) = 0.5, sum 0: nothing should be fired
    late = torch.tensor([0.0, 2.0]).view(2, 1, 1)  # two spikes are due, one step is left
    for node, over in ((ResidualFixIFNode(), 1.0), (SignedIFNode(), 0.0)):
        net = nn.Sequential(node)
        with RemainderMonitor(net) as monitor:
            run(net, currents, mode)
            assert monitor[0].over_fired == over
            monitor.clear_recorded_data()
            run(net, late, mode)
            assert monitor[0].under_fired == 1.0
            # V(T) = 0.5 + 2 - 1, in 2 steps
            assert monitor[0].mean_re == pytest.approx(0.75)
            assert monitor[0].mean_re_per_channel == pytest.approx([0.75])


def test_a_hard_reset_is_refused(run: Run) -> None:
    net = nn.Sequential(HardResetIFNode())
    with RemainderMonitor(net), pytest.raises(InputError, match="layer '0' has a hard reset"):
        run(net, torch.ones(2, 1, 1), "merged")


def test_the_last_presentation_is_read_at_its_end_not_from_the_next_one(run: Run) -> None:
    net = nn.Sequential(SignedIFNode())
    with RemainderMonitor(net) as monitor:
        run(net, torch.tensor([0.0, 2.0]).view(2, 1, 1), "merged")
        run(net, torch.zeros(2, 1, 1), "merged")
    assert monitor[0].under_fired == 0.5
    assert monitor[0].mean_re == pytest.approx((0.75 + 0.25) / 2)


def test_a_flush_needs_the_count_at_which_the_input_ended(run: Run) -> None:
    net = nn.Sequential(ResidualFixIFNode())
    currents = torch.cat([torch.full((4, 1, 1), 2.0), torch.zeros(3, 1, 1)])  # 8 due, 4 allowed, 7 fired
    with RemainderMonitor(net) as without, RemainderMonitor(net, max_count=4) as capped:
        run(net, currents, "s")
    assert (without[0].exact, without[0].clipped) == (1.0, 1.0)
    assert capped[0].over_fired == 1.0


def test_a_neuron_without_count_cannot_be_met_half_way(run: Run) -> None:
    net = nn.Sequential(ResidualFixIFNode())
    run(net, torch.ones(2, 1, 1), "s")
    with RemainderMonitor(net), pytest.raises(InputError, match="reset the network"):
        run(net, torch.ones(1, 1, 1), "s", reset=False)
    signed = nn.Sequential(SignedIFNode())
    run(signed, torch.ones(2, 1, 1), "s")
    with RemainderMonitor(signed) as monitor:  # it keeps its own count
        run(signed, torch.ones(1, 1, 1), "s", reset=False)
    assert (monitor[0].steps, monitor[0].exact) == (3, 1.0)


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="max_count is 0"):
        RemainderMonitor(nn.Sequential(ResidualFixIFNode()), max_count=0)
    with pytest.raises(InputError, match="no spiking neuron"):
        RemainderMonitor(nn.ReLU())


def test_table_json_and_figure(run: Run) -> None:
    net = nn.Sequential(ResidualFixIFNode(), nn.Conv2d(3, 4, 1), ResidualFixIFNode())
    with torch.no_grad(), RemainderMonitor(net) as monitor:
        run(net, dyadic(6, 2, 3, 4, 4, seed=1), "s")
    record = json.loads(json.dumps(monitor.to_json()))
    assert [layer["name"] for layer in record["layers"]] == ["0", "2"]
    assert record["layers"][0]["over_fired"] == monitor["0"].over_fired > 0
    assert len({len(line) for line in monitor.table().splitlines()}) == 1
    bars = monitor.plot().axes[0].patches
    expected = [monitor[i].under_fired for i in (0, 1)] + [monitor[i].over_fired for i in (0, 1)]
    assert [bar.get_height() / 100 for bar in bars] == pytest.approx(expected)


def test_the_verdict_counts_neurons_and_names_the_worst_layer(run: Run) -> None:
    """V(0) = 0.5 and two steps: 1 then -1 leaves one spike too many in a neuron that takes none back."""
    net = nn.Sequential(SignedIFNode(), ResidualFixIFNode())
    early = torch.tensor([1.0, -1.0]).view(2, 1, 1)
    with RemainderMonitor(net) as monitor:
        run(net[0], torch.cat([early] * 3, 2), "s")
        run(net[1], torch.cat([early, early, 0 * early], 2), "s")
        figure = monitor.plot()
    assert monitor.verdict() == "66.66 % of 6 neurons exact; worst layer 1: 2 of 3 not"
    assert figure.axes[0].get_ylim()[1] > 60 and not figure.axes[0].texts
    with RemainderMonitor(net) as monitor:
        run(net[1], 0 * early, "s")
    assert monitor.verdict() == "all 1 neurons exact"
    axes = monitor.plot().axes[0]
    assert axes.get_ylim() == (0, 1) and axes.texts[0].get_text() == "every neuron exact"


def test_the_verdict_never_rounds_up_to_all(run: Run) -> None:
    net = nn.Sequential(ResidualFixIFNode())
    currents = torch.zeros(2, 1, 30_000)
    currents[0, 0, 0], currents[1, 0, 0] = 1.0, -1.0
    with RemainderMonitor(net) as monitor:
        run(net, currents, "s")
    assert monitor.verdict() == "99.99 % of 30,000 neurons exact; worst layer 0: 1 of 30,000 not"
