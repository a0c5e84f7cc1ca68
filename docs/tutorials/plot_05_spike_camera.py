r"""
A spike camera: from photons to boxes
=====================================

Each pixel of a spike camera adds up light and fires when a threshold is reached, tens of thousands of times a
second. A network for pictures needs a picture first; a spiking network can read the spikes as they come. Here
a generated street is recorded, rebuilt, and searched for objects while the stream is running.
"""

import torch

import sj_lowlat
from sj_lowlat import models
from sj_lowlat.data import moving_sequence
from sj_lowlat.detect import draw
from sj_lowlat.encoders import SpikePlanes
from sj_lowlat.plots import plot_images
from sj_lowlat.spike_camera import (
    SpikeStream,
    adaptive,
    encode_frames,
    sequence_frames,
    tfi,
    tfp,
    tfstp,
    to_image,
)
from sj_lowlat.streaming import detect_stream

# %%
# Record
# ------
# A pixel is an integrate-and-fire neuron with soft reset: it fires at the rate of its grey value times
# ``rate_at_white``. Real recordings come from files: ``open_stream("clip.dat", height=250, width=400)``.

sequence = moving_sequence(seed=1, frames=4, size=320)
light = sequence_frames(sequence, steps_per_frame=48)  # [192, 320, 320] in [0, 1]
planes = encode_frames(light, rate_at_white=0.6, seed=0)
stream = SpikeStream.from_planes(planes, frame_rate=20_000)
print(stream, f"{1000 * len(stream) / stream.frame_rate:.1f} ms")

# %%
# Rebuild
# -------
# Counting spikes over a window (TFP) smears what moves; intervals between spikes (TFI) are quick and coarse.
# Short-term plasticity (TFSTP) puts a synapse behind each pixel, whose state remembers the last intervals:
# less coarse and still quick. The adaptive mix takes long windows where the picture rests and short ones
# where it does not. (Here a drawn frame stands for 48 steps, so most of the time everything rests.)

centre = 96
views = {
    "one frame": planes[centre].astype("float32"),
    "TFP, 31 frames": tfp(planes, centre, 31) / 0.6,
    "TFI": tfi(planes, centre) / 0.6,
    "TFSTP": tfstp(planes, centre) / 0.6,
    "adaptive": adaptive(planes, centre) / 0.6,
}
pictures = [torch.from_numpy(to_image(view, 1.0)) for view in views.values()]
figure = plot_images(pictures, list(views), columns=3)

true = light[centre]
for name, view in views.items():
    print(f"{name:15s} mean absolute error {abs(view.clip(0, 1) - true).mean():.3f}")
figure

# %%
# Read the spikes themselves
# --------------------------
# The detector that ships was made for colour photos. ``grey_input`` adds up the weights of its three colours,
# so it reads one channel; ``convert`` makes it spiking. Fed with 32 frames, one a step, it settles to what
# its quantised network computes from their mean: no picture has to be rebuilt for it. The schedule ``32+24``
# has 32 steps with input and 24 of flush; they carry the charge of the network's own 16 levels.

quant = models.grey_input(sj_lowlat.load_pretrained("snn-tiny-yolov3-coco", spiking=False))
snn = sj_lowlat.convert(quant)
window = stream.window(centre, 32)
mean = torch.from_numpy(window.mean_rate())[None, None] / 0.6
out = sj_lowlat.simulate(
    snn,
    torch.zeros_like(mean),
    "32+24",
    readout=(32, 36, 40, 56),
    encoder=SpikePlanes([window]),
)
with torch.no_grad():
    wanted = quant(mean)
for step, maps in zip(out.steps, out.outputs, strict=True):
    error = max(float((a - b).norm() / b.norm()) for a, b in zip(maps, wanted, strict=True))
    print(f"{step} steps: relative error of the head maps {error:.1e}")

# %%
# Along the stream
# ----------------
# ``detect_stream`` never resets the network: each step adds a frame and subtracts the one that leaves the
# window, and signed neurons follow in both directions. Detections are available at every step; here they are
# read every 32 frames, which is 1.6 ms of camera time. A network takes one stream at a time: use a copy
# (``copy.deepcopy``) for a second camera. On the command line: ``sj-lowlat detect clip.dat``.

for answer in detect_stream(snn, stream, window=64, every=32, rate_at_white=0.6, score_threshold=0.3):
    found = answer.detections
    words = [
        f"{quant.class_names[k]} {s:.2f}" for k, s in zip(found.labels, found.scores.tolist(), strict=True)
    ]
    print(f"{answer.milliseconds:4.1f} ms: {', '.join(words) or 'nothing'}")

last = torch.from_numpy(to_image(adaptive(planes, len(planes) - 31) / 0.6, 1.0))
figure = plot_images([draw(last, found, quant.class_names, 0.3)], ["the last answer"])
figure
