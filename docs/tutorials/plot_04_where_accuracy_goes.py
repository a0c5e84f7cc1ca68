r"""
Where accuracy goes: the remainder as a certificate
===================================================

A converted network does not always compute what its quantised network computes. This page shows how to find,
layer by layer, which neurons fired too often or too seldom, from the potential left in their membranes alone.
The weights are random: the question here is only how well the spiking network computes what its Quant ANN
computes.
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
PLAIN, FIXED, SIGNED = PALETTE[:3]

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
    """Net count after 0, 1, ... steps, and what is left in the membrane."""
    counts = neuron(current.view(T1, 1, 1)).cumsum(0).flatten().tolist()
    return [0.0, *counts], neuron.v.item()


wanted = [0.5, *(0.5 + current.cumsum(0)).tolist()]  # V(0) + S(t), never below 0 here
fixed, v_fixed = run_neuron(sj_lowlat.ResidualFixIFNode(step_mode="m"))
signed, v_signed = run_neuron(sj_lowlat.SignedIFNode(step_mode="m"))
print(f"wanted:       {int(wanted[-1])}")
print(f"residual fix: {fixed[-1]:.0f} spikes, V(T) = {v_fixed:+.1f}")
print(f"signed:       {signed[-1]:.0f} net spikes, V(T) = {v_signed:+.1f}")

steps = range(T1 + 1)
figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
axes.plot(steps, wanted, color="0.5", marker=".", label="V(0) + S(t)")
axes.step(steps, fixed, where="post", color=FIXED, linewidth=2, label="spikes N(t), residual fix")
axes.step(steps, signed, "--", where="post", color=SIGNED, linewidth=2, label="net spikes N(t), signed")
axes.set(xlabel="time step", ylabel="spikes", yticks=range(5))
axes.legend(frameon=False, loc="upper left")
axes.spines[["top", "right"]].set_visible(False)

# %%
# The remainder tells
# -------------------
# Subtract what is wanted from what was fired, and only the membrane is left: while no count is clipped,
#
# .. math:: N(T) - \lfloor V(0) + S(T) \rfloor = -\lfloor V(T) / V_\mathrm{th} \rfloor.
#
# :math:`V(T) < 0` says over-fired, :math:`V(T) \ge V_\mathrm{th}` under-fired, anything between: exact. The
# paper calls :math:`Re = V(T)/T` the remainder (section 4.2). So ``RemainderMonitor`` sees each layer's
# own error, without running the ANN as well. Check it on many neurons with random input:

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
# precision, because a quantised network amplifies rounding errors: a tiny one may move a value over the
# border of a level.

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
# Each kind of neuron runs with a ``RemainderMonitor``, for several lengths of the flush (steps without input
# or bias that follow the T steps with input). Plain neurons have no limit of counts, and a Quant-ReLU
# counts to T at most, so the monitor gets this limit as ``max_count``.

FLUSHES = (0, 1, 2, 3, 4, 6, 8, 12)
kinds = {"plain IF": ("if", PLAIN), "residual fix": ("residual-fix", FIXED), "signed": ("signed", SIGNED)}
monitors: dict[tuple[str, int], sj_lowlat.RemainderMonitor] = {}
errors: dict[tuple[str, int], float] = {}
for label, (kind, _) in kinds.items():
    snn = sj_lowlat.convert(quant, neuron=kind, example=images[:1])
    for flush in FLUSHES:
        with sj_lowlat.RemainderMonitor(snn, max_count=T) as remainders:
            output = sj_lowlat.simulate(snn, images, T, flush=flush).final
        monitors[label, flush] = remainders
        errors[label, flush] = ((output - target).norm() / target.norm()).item()

# %%
# One monitor's table, for the residual fix. The first layer sees a constant image and is exact; errors arise
# from the second layer on.

print(monitors["residual fix", 0].table())

# %%
# The same as bars, for four ways to run. Each layer is judged by the input that it got itself, so these are
# the places where errors arise, and not errors that came from before.


def inexact(monitor: sj_lowlat.RemainderMonitor) -> int:
    """How many neurons, in all layers and images, fired too often or too seldom."""
    return sum(round((r.over_fired + r.under_fired) * r.neurons * r.images) for r in monitor.layers())


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
    if not inexact(monitors[key]):
        axes.text(5.5, 8, "every neuron exact", ha="center", color="0.4")
    axes.set_title(f"{title}: {errors[key]:.1%} error at the output", loc="left", fontsize=10)
for axes in grid.flat[1:]:
    axes.get_legend().remove()

# %%
# Plain IF is compared with its own :math:`\lfloor S(T) \rfloor`, which rounds down where Quant-ReLU rounds
# to the nearest: part of its error does not show in its remainders. The residual fix cures that part; but
# starting halfway up, a neuron reaches its threshold more easily, and over-fires more often. Signed neurons
# take such spikes back; those that are still wrong have not had the time. Neurons, output and time in one
# table:

neurons = sum(r.neurons * r.images for r in monitors["signed", 0].layers())
print(f"{'':<14}steps   neurons not exact (of {neurons:,})   error at the output")
for (label, flush), monitor in monitors.items():
    if flush in (0, 2, 4, 8, FLUSH):
        print(f"{label:<14}{T + flush:>5}{inexact(monitor):>20,}{100 * errors[label, flush]:>27.2f} %")

# %%
# A flush does not settle neurons that cannot take spikes back. With signed neurons both curves fall
# together. Where the remainders certify that every neuron is exact, so is the output: the first layer reads
# the image and counts what the Quant ANN's counts, hence so does the second, and so on up to the head.

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
latencies = [T + flush for flush in FLUSHES]
for label, (_, colour) in kinds.items():
    style = {"color": colour, "marker": "o", "markersize": 4, "label": label}
    shares = [100 * inexact(monitors[label, flush]) / neurons for flush in FLUSHES]
    left.plot(latencies, shares, **style)
    right.plot(latencies, [100 * errors[label, flush] for flush in FLUSHES], **style)
left.set(ylabel="neurons not exact (%)")
right.set(ylabel="error at the output (%)")
right.legend(frameon=False, loc="center right")
for axes in (left, right):
    axes.set(xlabel="latency in steps (flush included)", ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.9")

# %%
# Firing rates
# ------------
# Section 4.2 of the paper: the lower a layer's rate, the heavier its remainder weighs.
# ``FiringRateMonitor`` counts spikes in the same way. The table sets the mean of :math:`\lvert Re \rvert`
# against the rate, for the residual fix.

rates = {}
for label, (kind, _) in kinds.items():
    snn = sj_lowlat.convert(quant, neuron=kind, example=images[:1])
    with sj_lowlat.FiringRateMonitor(snn) as firing:
        sj_lowlat.simulate(snn, images, T)
    rates[label] = {record.name: record.net_rate for record in firing.layers()}

print("layer   spikes per neuron and step   mean |Re|   |Re| / rate")
for record in monitors["residual fix", 0].layers():
    rate = rates["residual fix"][record.name]
    print(f"{record.name:<6}{rate:>22.4f}{record.mean_abs_re:>18.4f}{record.mean_abs_re / rate:>12.2f}")

# %%
# Last, the rates against the activations of the Quant ANN, in units of their clips. Behind the first
# layer plain IF falls short, because every layer rounds down, and the residual fix runs ahead, because
# early spikes stay. Signed neurons are near, and a little late (spikes of -1 are subtracted here).

rates["Quant ANN"] = {}


def record_rate(name: str, act: sj_lowlat.QuantReLU) -> None:
    def hook(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        rates["Quant ANN"][name] = (output.mean() / act.clip).item()

    act.register_forward_hook(hook)


for name, module in quant.named_children():
    if isinstance(module, sj_lowlat.QuantReLU):
        record_rate(name, module)
with torch.no_grad():
    quant(images)
figure = plot_rates(rates, ylabel="net spikes per neuron and step")
figure.axes[0].legend(frameon=False, loc="upper center", ncols=4)
figure.axes[0].margins(y=0.15)
figure.set_size_inches(9, 3.8)
figure
