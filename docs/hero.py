"""Draws ``images/hero.png``: what the detector that ships finds in a photo, step by step, and its spikes.

``python docs/hero.py``; the documentation's build does not run it.
"""

from __future__ import annotations

from pathlib import Path

from torch.nn.functional import interpolate

import sj_lowlat
from sj_lowlat.data import letterbox, read_image
from sj_lowlat.detect import draw
from sj_lowlat.plots.style import new_figure
from sj_lowlat.report import watch_picture

IMAGES = Path(__file__).parent / "images"
STEPS = (1, 2, 3, 6)
LAYER = "layers.4.act"
SCHEDULE = sj_lowlat.Schedule.parse("2+4b8")


if __name__ == "__main__":
    detector, photo = sj_lowlat.load("snn-tiny-yolov3-coco"), read_image(IMAGES / "street.jpg")
    watched = watch_picture(detector, photo, SCHEDULE, steps=STEPS)
    _, box = letterbox(photo, 416)
    counts = watched.spikes[LAYER].counts().abs().sum(1)  # [T, h, w]
    figure = new_figure(width=12.8, height=4.1)
    for column, step in enumerate(STEPS):
        found = watched.readings[column].detections
        picture = draw(photo, found, detector.class_names, min_score=0.25)
        upper = figure.add_subplot(2, len(STEPS), column + 1)
        upper.imshow(picture.permute(1, 2, 0).numpy())
        upper.set_title(f"{step} step{'s' if step > 1 else ''}", fontsize=12)
        lower = figure.add_subplot(2, len(STEPS), len(STEPS) + column + 1)
        map_ = interpolate(counts[step - 1][None, None], (416, 416), mode="nearest")[0, 0]
        map_ = map_[box.pad_y : 416 - box.pad_y, box.pad_x : 416 - box.pad_x]
        lower.imshow(map_, cmap="inferno", vmin=0, vmax=float(counts[-1].quantile(0.99)))
        lower.set_title(f"{watched.readings[column].spikes / 1e6:.1f} million spikes", fontsize=10)
        for axes in (upper, lower):
            axes.set_axis_off()
    figure.savefig(IMAGES / "hero.png")
