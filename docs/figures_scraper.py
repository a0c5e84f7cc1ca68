"""Lets sphinx-gallery show pictures, and figures of ``sj_lowlat.plots``, which no pyplot state knows."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from PIL import Image
from sphinx_gallery.scrapers import figure_rst


def scrape(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Save what a code block made: variables that hold a picture, or a figure that pyplot does not know."""
    paths = []
    for value in block_vars["example_globals"].values():
        if isinstance(value, Figure) and not hasattr(value, "number") and not hasattr(value, "was_scraped"):
            path = next(block_vars["image_path_iterator"])
            value.savefig(path)
            value.was_scraped = True  # type: ignore[attr-defined]
            paths.append(path)
        elif isinstance(value, Image.Image) and not value.info.get("was_scraped"):
            path = next(block_vars["image_path_iterator"])
            value.save(path)
            value.info["was_scraped"] = True
            paths.append(path)
    return figure_rst(paths, gallery_conf["src_dir"])
