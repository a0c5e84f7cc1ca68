r"""
Video: pay only for what changes
================================

A signed neuron keeps its charge and its count from one frame to the next. The input of a frame is what
changed since the one before, so a spiking detector on a fixed camera answers every frame in two steps, with
few spikes.
"""

from itertools import count

import torch

import sj_lowlat
from sj_lowlat.data import moving_sequence
from sj_lowlat.detect import draw
from sj_lowlat.plots import plot_images
from sj_lowlat.plots.style import new_figure
from sj_lowlat.video import DeadZone, detect_video

# %%
# A street
# --------
# Generated traffic, seen by a fixed camera whose sensor adds noise. Frames of files come from
# ``open_frames("clip.mp4")``, those of a camera from ``open_frames(0)``.

sequence = moving_sequence(seed=1, frames=6, size=416)
random = torch.Generator().manual_seed(0)
noise = 2 * torch.randn(sequence.frames.shape, generator=random)
frames = list((sequence.frames + noise).round().clamp(0, 255).to(torch.uint8))

# %%
# Detect
# ------
# With a reset each frame pays for all of the picture. With the state carried over only the first one does. A
# dead zone lets changes below a grey value of 0.02 wait, in blocks of 4 x 4 pixels: noise is no longer sent.

snn = sj_lowlat.load_pretrained("snn-tiny-yolov3-coco")
ways = {
    "reset": {"carry": False, "steps_per_frame": 3},
    "carried over": {},
    "carried over, dead zone": {"dead_zone": DeadZone(0.02, block=4)},
}
runs = {name: list(detect_video(snn, frames, **options)) for name, options in ways.items()}
names = sj_lowlat.info_of(snn).class_names
last = runs["carried over, dead zone"][-1]
figure = plot_images(
    [frames[0], draw(frames[-1], last.detections, names)], ["first frame", "last frame"], columns=2
)
figure

# %%
# Spikes and energy
# -----------------
# Spikes per neuron, and the energy of the arithmetic as a share of the ANN's.

figure = new_figure(9, 3)
axes = figure.subplots(1, 2)
for name, answers in runs.items():
    axes[0].plot([answer.spikes for answer in answers], marker="o", label=name)
    axes[1].plot([100 * answer.energy for answer in answers], marker="o", label=name)
axes[0].set(xlabel="frame", ylabel="spikes per neuron", ylim=(0, None))
axes[1].set(xlabel="frame", ylabel="energy, % of the ANN", ylim=(0, None))
axes[1].legend()
figure

# %%
# The sums behind it are exact: after some steps without a new frame the network is where a run on the last
# frame alone would be, and it sends nothing any more.

still = detect_video(snn, frames[:2] + [frames[1]] * 20)
for number, answer in zip(count(), still, strict=False):
    if number in (0, 1, 2, 20):
        print(f"frame {answer.frame:2d}: {answer.spikes:.4f} spikes a neuron")
