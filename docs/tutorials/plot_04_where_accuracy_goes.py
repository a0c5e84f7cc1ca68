r"""
Where accuracy goes: the residual as a certificate
==================================================

A converted network is never quite the network that it came from. This page shows how to find, layer by
layer, which neurons fired too often or too seldom, from nothing but the potential that is left in their
membranes. The weights are random: the question here is only how well the spiking network computes what its
Quant ANN computes.
"""

from collections import OrderedDict

import matplotlib.pyplot as plt
import torch
from torch import nn

import sj_lowlat
from sj_lowlat.data import TrafficDataset, batches
from sj_lowlat.plots import plot_rates
from sj_lowlat.plots.style import PALETTE

torch.manual_seed(0)
BLUE, RED, GREEN = PALETTE[:3]

# %%
# One neuron, uneven input
# ------------------------
# A neuron with soft reset, Eq. (2) to (5) of the paper, keeps account of its input: with
# :math:`V_\mathrm{th} = 1`
#
# .. math:: V(T) = V(0) + S(T) - N(T), \qquad S(T) = \sum_{t=1}^{T} U(t),
#
# which is Eq. (7). Quant-ReLU wants :math:`\lfloor V(0) + S(T) \rfloor` spikes, within 0 and T. Behind the
# first layer input arrives unevenly, and a spike once fired cannot be taken back: an IF neuron fires
#
# .. math:: N(T) = \max(0, \lfloor V(0) + \max_{t \le T} S(t) \rfloor)
#
# times, while the signed neuron answers an early spike with one of -1. In this example the input comes
# first and is then taken away.

current = torch.tensor([0.8, 0.9, 0.7, 0.3, -0.6, -0.5, -0.4, 0.1])
T1 = len(current)


def run_neuron(neuron: nn.Module) -> tuple[list[float], float]:
    """Net count after each step, and what is left in the membrane."""
    counts = neuron(current.view(T1, 1, 1)).cumsum(0).flatten().tolist()
    return counts, neuron.v.item()


wanted = (0.5 + current.cumsum(0)).clamp(min=0)
fixed, v_fixed = run_neuron(sj_lowlat.ResidualFixIFNode(step_mode="m"))
signed, v_signed = run_neuron(sj_lowlat.SignedIFNode(step_mode="m"))
print(f"wanted:       {int(wanted[-1])}")
print(f"residual fix: {fixed[-1]:.0f} spikes, V(T) = {v_fixed:+.1f}")
print(f"signed:       {signed[-1]:.0f} net spikes, V(T) = {v_signed:+.1f}")

steps = range(1, T1 + 1)
figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
axes.plot(steps, wanted, color="0.5", marker=".", label="V(0) + S(t)")
axes.step(steps, fixed, where="post", color=GREEN, linewidth=2, label="spikes N(t), residual fix")
axes.step(steps, signed, "--", where="post", color=BLUE, linewidth=2, label="net spikes N(t), signed")
axes.set(xlabel="time step", ylabel="spikes", yticks=range(5))
axes.legend(frameon=False, loc="upper left")
axes.spines[["top", "right"]].set_visible(False)

# %%
# The residual tells
# ------------------
# Subtract what is wanted from what was fired, and only the membrane is left: while no count is clipped,
#
# .. math:: N(T) - \lfloor V(0) + S(T) \rfloor = -\lfloor V(T) / V_\mathrm{th} \rfloor.
#
# :math:`V(T) < 0` says over-fired, :math:`V(T) \ge V_\mathrm{th}` under-fired, anything between: exact. The
# paper calls :math:`Re = V(T)/T` the remainder (section 4.2). So a residual monitor sees each layer's own
# error, without running the ANN beside it. Check it on many neurons with random input:

random_input = 0.2 + 0.4 * torch.randn(8, 1, 20_000)  # [T, N, neurons]
neuron = sj_lowlat.ResidualFixIFNode(step_mode="m").double()
count = neuron(random_input.double()).sum(0)
surplus = count - (0.5 + random_input.double().sum(0)).floor()
print(f"equation holds for {(surplus == -neuron.v.floor()).float().mean():.2%} of {count.numel()} neurons")
print(f"{(surplus > 0).float().mean():.1%} of them have fired more often than the sum of their inputs allows")

# %%
# A network of twelve layers
# --------------------------
# Random weights that keep the size of the activations; ``prepare`` chooses the clips. All in double
# precision, because a quantised network multiplies small causes: rounding may move a value over the border
# of a level.

T = 16
images = next(iter(batches(TrafficDataset(6, size=48), 6, 48))).images.double()

layers: list[tuple[str, nn.Module]] = []
channels = 3
for number in range(1, 13):
    conv = nn.Conv2d(channels, 32, 3, stride=2 if number in (2, 4, 7) else 1, padding=1)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    layers += [(f"conv{number}", conv), (f"act{number}", nn.ReLU())]
    channels = 32
network = nn.Sequential(OrderedDict([*layers, ("head", nn.Conv2d(channels, 8, 1))])).double()
quant = sj_lowlat.prepare(network, levels=T, calibration=images)
with torch.no_grad():
    target = quant(images)

# %%
# Each kind of neuron runs with a ``ResidualMonitor``, for several lengths of the flush (steps without input
# or bias that follow the T steps with input). Plain neurons do not know that a Quant-ReLU counts to T at
# most, so the monitor is told.

FLUSHES = (0, 1, 2, 3, 4, 6, 8, 12)
kinds = {"plain IF": ("if", RED), "residual fix": ("residual-fix", GREEN), "signed": ("signed", BLUE)}
monitors: dict[tuple[str, int], sj_lowlat.ResidualMonitor] = {}
errors: dict[tuple[str, int], float] = {}
for label, (kind, _) in kinds.items():
    snn = sj_lowlat.convert(quant, neuron=kind, example=images[:1])
    for flush in FLUSHES:
        with sj_lowlat.ResidualMonitor(snn, max_count=T) as residuals:
            output = sj_lowlat.simulate(snn, images, T, flush=flush).final
        monitors[label, flush] = residuals
        errors[label, flush] = ((output - target).norm() / target.norm()).item()

# %%
# One monitor's table, for the residual fix. The first layer sees a constant image and is exact; then it
# starts.

print(monitors["residual fix", 0].table())

# %%
# The same as bars, for four ways to run. Each layer is judged by the input that it got itself, so these are
# the places where errors arise, and not errors that came from before.

FLUSH = FLUSHES[-1]
panels = {
    "plain IF": ("plain IF", 0),
    "residual fix": ("residual fix", 0),
    "signed": ("signed", 0),
    f"signed + flush of {FLUSH}": ("signed", FLUSH),
}
figure, grid = plt.subplots(2, 2, figsize=(9, 6), sharex=True, sharey=True, layout="constrained")
for axes, (title, key) in zip(grid.flat, panels.items(), strict=True):
    monitors[key].plot(axes)
    axes.set_title(f"{title}: {errors[key]:.1%} error at the output", loc="left", fontsize=10)
for axes in grid.flat[1:]:
    axes.get_legend().remove()

# %%
# Plain IF rounds down in every layer, and its errors are large whatever its residuals say: it is exact
# against :math:`\lfloor S(T) \rfloor`, but Quant-ReLU rounds to the nearest. That is the first thing the
# residual fix cures. What it leaves, over-firing, is what the signed neuron cures; what that leaves is a
# matter of time.


def inexact(monitor: sj_lowlat.ResidualMonitor) -> float:
    """Share of all neurons that fired too often or too seldom, in percent."""
    records = monitor.layers()
    wrong = sum((record.over_fired + record.under_fired) * record.neurons for record in records)
    return 100 * wrong / sum(record.neurons for record in records)


print(f"{'':<14}steps   neurons not exact   error at the output")
for (label, flush), monitor in monitors.items():
    if flush in (0, 2, 4, FLUSH):
        print(f"{label:<14}{T + flush:>5}{inexact(monitor):>17.2f} %{100 * errors[label, flush]:>18.2f} %")

# %%
# Flushing does nothing for neurons that cannot take spikes back. With signed neurons both curves fall
# together, and where the residuals certify that every neuron is exact, so is the output: by induction over
# the layers it is then the Quant ANN's, but for rounding in floating point.

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
latencies = [T + flush for flush in FLUSHES]
for label, (_, colour) in kinds.items():
    style = {"color": colour, "marker": "o", "markersize": 4, "label": label}
    left.plot(latencies, [inexact(monitors[label, flush]) for flush in FLUSHES], **style)
    right.plot(latencies, [100 * errors[label, flush] for flush in FLUSHES], **style)
left.set(xlabel="latency in steps (flush included)", ylabel="neurons not exact (%)", ylim=(0, None))
right.set(xlabel="latency in steps (flush included)", ylabel="error at the output (%)", ylim=(0, None))
right.legend(frameon=False)
for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.9")

# %%
# Firing rates beside it
# ----------------------
# Section 4.2 of the paper: the lower a layer's rate, the heavier its remainder weighs.
# ``FiringRateMonitor`` counts spikes the same way; here the mean |Re| is set against the net rate of each
# layer, for the residual fix.

rates = {}
for label, (kind, _) in kinds.items():
    snn = sj_lowlat.convert(quant, neuron=kind, example=images[:1])
    with sj_lowlat.FiringRateMonitor(snn) as firing:
        sj_lowlat.simulate(snn, images, T)
    rates[label] = firing
print("layer   spikes per neuron and step   mean |Re|   |Re| / rate")
for rate, residual in zip(rates["residual fix"].layers(), monitors["residual fix", 0].layers(), strict=True):
    ratio = residual.mean_abs_re / rate.net_rate
    print(f"{rate.name:<6}{rate.net_rate:>22.4f}{residual.mean_abs_re:>18.4f}{ratio:>12.2f}")

# %%
# Plain IF grows silent with depth, because every layer rounds down; the residual fix grows loud, because
# early spikes stay.

figure = plot_rates({label: {r.name: r.net_rate for r in firing.layers()} for label, firing in rates.items()})
