"""
Add a conversion method
=======================

A published method in one file: RMP-SNN [Han et al., CVPR 2020], which is SpikeNorm with soft reset and
thresholds of a part of the largest current, compared with its relatives on one network.
"""

# %%
# A method is a record. What it needs beyond the options of others is a function: here the scales, from the
# case that is under way (its layers, calibration images and time steps).
import torch
from torch import nn

import sj_lowlat
from sj_lowlat.conversion import METHODS, Case, Method, register_method
from sj_lowlat.conversion.methods.spike_norm import largest_currents


def scaled_currents(case: Case) -> dict[str, torch.Tensor]:
    """0.8 of the largest current that the layers before bring in a step."""
    return {name: 0.8 * scale for name, scale in largest_currents(case).items()}


register_method(
    Method(
        "rmp",
        "B. Han et al., RMP-SNN: residual membrane potential neuron, CVPR 2020",
        neuron="if",
        start=0.0,
        scale=scaled_currents,
    )
)

# %%
# From now on ``convert`` knows its name.
torch.manual_seed(0)
ann = nn.Sequential(
    nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
    nn.Conv2d(16, 4, 1),
).eval()  # fmt: skip
images = torch.rand(8, 3, 32, 32)
with torch.no_grad():
    wanted = ann(images)

for name in ("diehl", "spike-norm", "rueckauer", "rmp"):
    snn = sj_lowlat.convert(ann, method=name, calibration=images)
    read = sj_lowlat.simulate(snn, images, **METHODS[name].run(snn, 128), readout=[8, 32, 128])
    errors = [float((maps - wanted).norm() / wanted.norm()) for maps in read.outputs]
    print(f"{name:10s} error after 8, 32, 128 steps:", *(f"{error:.3f}" for error in errors))
