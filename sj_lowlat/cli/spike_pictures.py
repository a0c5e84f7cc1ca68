"""Drawings of what happens in one picture, for ``sj-lowlat monitor --picture``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from sj_lowlat.data import read_image, spaced
from sj_lowlat.errors import printable
from sj_lowlat.plots import plot_images
from sj_lowlat.report import watch_picture
from sj_lowlat.schedule import Schedule

_MAP_STEPS = 6  # rows of counts.png


def spike_pictures(
    snn: nn.Module, picture: str, schedule: Schedule, layer: str | None, **run: Any
) -> dict[str, Any]:
    """File names -> figures: layers over time, neurons and channels of one layer, boxes at some steps.

    :param layer: name of neurons; by default those in the middle
    :param run: encoder and seed
    """
    watched = watch_picture(snn, read_image(picture), schedule, name=Path(picture).name, **run)
    layers = watched.spikes.layers()
    chosen = watched.spikes[layer] if layer else layers[len(layers) // 2]
    boxes = watched.drawn()
    titles = [f"step {step}" for step, _ in boxes]
    read = [reading.step for reading in watched.readings]
    rows = tuple(read[place] for place in spaced(len(read), _MAP_STEPS))
    activity = watched.spikes.plot()
    activity.axes[0].set_title(printable(watched.name), loc="left", fontsize="small")
    return {
        "boxes.png": plot_images([image for _, image in boxes], titles),
        "activity.png": activity,
        "neurons.png": chosen.plot(),
        "counts.png": chosen.plot_maps(steps=rows),
    }
