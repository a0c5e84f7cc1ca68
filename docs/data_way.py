"""Draws the way of the data through the house: which part each verb enters, as measured while it runs.

The documentation's build runs every verb once on a tiny detector and two generated scenes, notes the parts of
``sj_lowlat`` in the order in which they are first entered, and draws them on the floors of ``setup.cfg``.
"""

from __future__ import annotations

import configparser
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from matplotlib.figure import Figure

import sj_lowlat
from sj_lowlat.data import TrafficDataset, batches
from sj_lowlat.models import tiny_yolov3

PACKAGE = Path(sj_lowlat.__file__).parent
# they serve every part, and the data does not go through them
SERVANTS = {"errors", "version", "record", "files", "progress", "class_names", "distributed"}


def floors() -> dict[str, int]:
    """Part -> floor, the lowest 0, as the import rules have it."""
    parser = configparser.ConfigParser()
    parser.read(PACKAGE.parent / "setup.cfg", encoding="utf-8")
    lines = parser["importlinter:contract:floors"]["layers"].split("\n")
    rows = [line.split("|") for line in reversed([line for line in lines if line.strip()])]
    return {name.strip(): height for height, row in enumerate(rows) for name in row}


def entered(work: Callable[[], Any]) -> list[str]:
    """Parts in the order in which their functions are first called."""
    found: dict[str, None] = {}

    def note(frame: FrameType, event: str, argument: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and PACKAGE in path.parents and not frame.f_code.co_name.startswith("<"):
            part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
            if part not in SERVANTS and not part.startswith("__"):
                found.setdefault(part)

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return list(found)


def ways() -> dict[str, list[str]]:
    """Verb -> the parts that it enters."""
    scenes = TrafficDataset(2, 64)
    images = next(iter(batches(scenes, 2, 64))).images
    torch.manual_seed(0)
    made: dict[str, Any] = {"ann": tiny_yolov3(4, width=0.125, class_names=scenes.class_names, input_size=64)}
    verbs: dict[str, Callable[[], Any]] = {
        "prepare": lambda: made.update(quant=sj_lowlat.prepare(made["ann"].eval(), 4, images)),
        "convert": lambda: made.update(snn=sj_lowlat.convert(made["quant"])),
        "simulate": lambda: sj_lowlat.simulate(made["snn"], images),
        "evaluate": lambda: sj_lowlat.evaluate(made["snn"], scenes, "4+2"),
    }
    return {name: entered(work) for name, work in verbs.items()}


def draw(path: Path) -> None:
    """Draw the ways, one verb beside the other, each from left to right.

    :param path: the picture
    """
    height = floors()
    figure = Figure(figsize=(13, 6.5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    colours = ("#0072B2", "#009E73", "#D55E00", "#CC79A7")
    start, labels = 0, []
    for (verb, parts), colour in zip(ways().items(), colours, strict=True):
        places = range(start, start + len(parts))
        axes.plot(places, [height[part] for part in parts], "-", color=colour, linewidth=1.2, alpha=0.5)
        for place, part in zip(places, parts, strict=True):
            box = {"boxstyle": "round", "facecolor": "white", "edgecolor": colour}
            axes.text(place, height[part], part, ha="center", va="center", fontsize=7, bbox=box)
        labels.append((start + (len(parts) - 1) / 2, verb, colour))
        start += len(parts) + 1
    top = max(height.values()) + 0.8
    for place, verb, colour in labels:
        axes.text(place, top, verb, ha="center", color=colour, fontsize=11, weight="bold")
    axes.set_ylim(-0.8, top + 0.7)
    axes.set_yticks(sorted(set(height.values())))
    axes.set_ylabel("floor (imports go down only)")
    axes.set_xticks([])
    axes.set_xlabel("order in which a verb first enters a part")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path)


def setup(app: Any) -> None:
    """As an extension of Sphinx: draw before the pages are read."""
    app.connect("builder-inited", lambda app: draw(Path(app.srcdir) / "generated" / "data_way.png"))
