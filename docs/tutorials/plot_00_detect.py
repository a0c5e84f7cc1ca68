r"""
Detect in a photo
=================

The detector that ships needs no download, no training and no GPU. Three lines draw what it finds; the rest
of this page looks at how a spiking network comes to its answer.
"""

from pathlib import Path

import sj_lowlat
from sj_lowlat import Schedule
from sj_lowlat.data import read_image
from sj_lowlat.plots import plot_images
from sj_lowlat.report import watch_picture

# as seen from this page's folder, or from that of a clone
places = (Path("../images/street.jpg"), Path("docs/images/street.jpg"))
photo = next(place for place in places if place.exists())

# %%
# Detect
# ------
# ``detect`` takes a file, a folder, a PIL picture, an array or a tensor, or a list of them. The photo is a
# frame of a video of Udacity's (MIT licence).

detector = sj_lowlat.load("snn-tiny-yolov3-coco")
found = detector.detect(photo, count_spikes=True)
print(found)
print(f"{found.steps} steps, {found.spikes:,} spikes")
drawn = found.plot()
drawn

# %%
# Use what was found
# ------------------
# Detections are read like a list, and filtered by class or score.

for name, score, box, _ in found["car"]:
    print(name, round(score, 2), [round(value) for value in box])

# %%
# Step by step
# ------------
# A spiking network has an answer after every step, and the answer gets better. The schedule ``4+4b4`` shows
# the photo for 4 steps and then waits for 4 more, with at most 4 spikes of a neuron in a step;
# ``detector.schedule`` is the one that ``detect`` takes by itself.

print(detector.schedule)
watched = watch_picture(detector, read_image(photo), Schedule.parse("4+4b4"), steps=(1, 2, 3, 8))
steps, pictures = zip(*watched.drawn(), strict=True)
figure = plot_images(pictures, [f"step {step}" for step in steps], columns=2)
figure

# %%
# Where the spikes are
# --------------------
# A row for each layer, a column for each step: how many spikes a neuron sends on average.

activity = watched.spikes.plot()
activity

# %%
# ``sj-lowlat detect street.jpg``, ``sj-lowlat monitor --picture street.jpg`` and
# ``sj-lowlat report street.jpg`` are these from the command line; the last one writes a page in which a
# slider goes through the steps. :ref:`sphx_glr_gallery_plot_03_detector_end_to_end.py` trains and converts a
# network of one's own.
