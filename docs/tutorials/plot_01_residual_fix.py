"""
The residual fix: half a threshold to start with
================================================

An integrate-and-fire (IF) neuron with soft reset that gets the same input :math:`z` at each of :math:`T`
steps (in units of its threshold) fires

.. math:: N(T) = \\mathrm{clip}(\\lfloor z T + v_0 \\rfloor, 0, T), \\qquad v_0 = V(0) / V_\\mathrm{th}

times. With :math:`v_0 = 0` the rate :math:`N/T` rounds :math:`z` down; with :math:`v_0 = 1/2`, the residual
fix, it rounds to the nearest step, as Quant-ReLU with :math:`L = T` levels does. This page draws all three
(Figure 3 of the paper) and measures the errors.
"""

import matplotlib.pyplot as plt
import torch

from sj_lowlat.layers import QuantReLU, ResidualFixIFNode

# %%
# The neuron takes ``[T, N, *]``; ``ratio`` is :math:`v_0`. The inputs are the midpoints of an even grid on
# [0, 1].

INPUTS = 4001
z = (torch.arange(INPUTS, dtype=torch.float64) + 0.5) / INPUTS


def firing_rate(z: torch.Tensor, time_steps: int, ratio: float) -> torch.Tensor:
    neuron = ResidualFixIFNode(v_threshold=1.0, ratio=ratio, step_mode="m").double()
    with torch.no_grad():
        spikes = neuron(z.expand(time_steps, 1, -1))  # [T, 1, inputs]
    return spikes.mean(dim=0).squeeze(0)


def quantised(z: torch.Tensor, levels: int) -> torch.Tensor:
    with torch.no_grad():
        return QuantReLU(levels=levels, clip=1.0).double()(z)


# %%
# Figure 3: a staircase below the line, and one around it.

T = 4
figure, axes = plt.subplots(figsize=(5.5, 4.5), layout="constrained")
axes.plot(z, z, color="tab:blue", label="ReLU")
axes.plot(z, firing_rate(z, T, ratio=0.0), color="tab:red", label="IF, V(0) = 0")
axes.plot(z, firing_rate(z, T, ratio=0.5), color="tab:green", label="IF, V(0) = 0.5 (residual fix)")
axes.plot(z, quantised(z, T), color="black", linestyle=":", linewidth=2.5, label=f"Quant-ReLU, L = {T}")
axes.set(xlabel="input per step, in thresholds", ylabel="firing rate", title=f"T = {T}")
axes.legend()

# %%
# The mean absolute error over the inputs is :math:`1/(2T)` without the fix and :math:`1/(4T)` with it: two
# to one, as the paper says. With the fix, rate and Quant-ReLU agree for every input.

print(" T   V(0) = 0  1/(2T)    V(0) = 0.5  1/(4T)    inputs where the fix and Quant-ReLU differ")
for time_steps in (2, 4, 8, 16, 32):
    plain, fixed = (firing_rate(z, time_steps, ratio) for ratio in (0.0, 0.5))
    errors = [(rate - z).abs().mean().item() for rate in (plain, fixed)]
    differ = int((~torch.isclose(fixed, quantised(z, time_steps))).sum())
    print(
        f"{time_steps:2d}   {errors[0]:.5f}   {1 / (2 * time_steps):.5f}   {errors[1]:.5f}     "
        f"{1 / (4 * time_steps):.5f}   {differ} of {INPUTS}"
    )

# %%
# In mean squared error the fix wins four to one, :math:`1/(3T^2)` against :math:`1/(12T^2)`. All of this
# holds for inputs that arrive evenly, as behind the first convolution; deeper layers are what the signed
# neuron is for.
