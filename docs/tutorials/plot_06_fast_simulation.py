r"""
Simulating fast
===============

A spiking network runs its layers once a step, so evaluating one is slow. Four things make it faster: the
kernel of the neurons, rounded weights, the settled network in one pass, and runs that stop when the
detections no longer change.
"""

import statistics
import time

import matplotlib.pyplot as plt
import torch

import sj_lowlat
from sj_lowlat import Schedule, kernels
from sj_lowlat.data import moving_sequence
from sj_lowlat.layers import LowLatencyIFNode

torch.manual_seed(0)
snn = sj_lowlat.load_pretrained("snn-tiny-yolov3-coco")
image = moving_sequence(seed=1, frames=1, size=416).frames / 255  # [1, 3, 416, 416]

# %%
# Kernels
# -------
# One function, several implementations. Without another argument ``simulate`` runs the network's own
# schedule, here ``4+2b4``: 4 steps with input, 2 of flush, bursts of up to 4 spikes. On a CPU ``"auto"``
# takes ``"cpp"``, which the machine's C++ compiler builds at the first use; without a compiler it is
# ``"reference"``, plain PyTorch. On a GPU it is ``"cupy"`` where CuPy is installed. All give the same spikes,
# bit by bit.

print("known:", *kernels.KERNELS, "| on this machine:", kernels.choose(torch.device("cpu")))


def set_kernel(network, name):
    for module in network.modules():
        if isinstance(module, LowLatencyIFNode):
            module.kernel = name


answers = {}
for name in ("reference", "auto"):
    set_kernel(snn, name)
    answers[name] = sj_lowlat.simulate(snn, image).final
print("equal:", all(torch.equal(a, b) for a, b in zip(*answers.values(), strict=True)))

# %%
# Weights of 16 and 8 bits
# ------------------------
# Spikes are small whole numbers, so rounding touches weights only (and, with bf16, the currents). Layers that
# read the image, heads and potentials stay float32.

networks = {
    "fp32": snn,
    "bf16": sj_lowlat.set_precision(snn, "bf16"),
    "int8": sj_lowlat.set_precision(snn, "int8"),
}


def milliseconds_a_step(network):
    schedule, times = Schedule(8, burst=2), []
    for _ in range(4):  # the first one warms up
        start = time.perf_counter()
        sj_lowlat.simulate(network, image, schedule)
        times.append(1000 * (time.perf_counter() - start) / schedule.total)
    return statistics.median(times[1:])


set_kernel(snn, "reference")
speeds = {"fp32, reference": milliseconds_a_step(snn)}
set_kernel(snn, "auto")
speeds |= {name: milliseconds_a_step(network) for name, network in networks.items()}
figure, axes = plt.subplots(figsize=(7, 2.2), layout="constrained")
bars = axes.barh(list(speeds), list(speeds.values()), color="tab:blue", height=0.6)
axes.bar_label(bars, fmt="%.0f", padding=3)
axes.invert_yaxis()
axes.set_xlabel("milliseconds a step, one image of 416 px")
axes.spines[["top", "right"]].set_visible(False)

# %%
# How much accuracy that costs on real photos is in the benchmarks: nothing that 798 photos would show.
#
# The settled network in one pass
# -------------------------------
# Signed neurons settle to the counts of the quantised network once there is enough flush. ``mode="counts"``
# computes these counts directly: each layer's convolution runs once, on its net spike counts. That gives the
# accuracy that more steps approach, for the price of one.

counts = sj_lowlat.simulate(snn, image, mode="counts").final
flushed = sj_lowlat.simulate(snn, image, "16+48").final
for one_pass, steps in zip(counts, flushed, strict=True):
    print(f"typical difference to 64 steps: {(one_pass - steps).abs().median():.1e}")

# %%
# Stop when nothing changes
# -------------------------
# With ``stop="stable"`` a run ends once the detections have been the same in several read-outs. An image
# without detections runs to the end.

run = sj_lowlat.simulate(snn, image, "16+16", stop="stable", stop_reads=3)
print("stopped after", run.stopped[0], "of 32 steps")
