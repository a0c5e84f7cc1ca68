"""Draws the pictures of ``docs/spikes.rst`` from the network of ``sj-lowlat demo`` and a generated scene.

After ``make docs`` also the documentation's first page.

``python docs/report_figures.py FOLDER_OF_DEMO`` needs Chromium. The documentation's build does not run it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from sj_lowlat.cli import main
from sj_lowlat.data import TrafficDataset

IMAGES = Path(__file__).parent / "images"
LANDING = Path(__file__).parent / "_build" / "html" / "index.html"


def run(*words: object) -> None:
    if main([str(word) for word in words]):
        sys.exit(f"{words[0]} failed")


def screenshot(page: Path, picture: Path, size: str, dark: bool) -> None:
    """The upper part of a page, in the colours of the system."""
    browser = shutil.which("chromium") or sys.exit("no chromium: on Debian, apt-get install chromium")
    colours = ["--blink-settings=preferredColorScheme=0"] if dark else []
    options = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={size}", *colours]
    subprocess.run(
        [browser, *options, f"--screenshot={picture}", page.as_uri()], check=True, stderr=subprocess.DEVNULL
    )


def smaller(source: Path, name: str) -> None:
    """At most 900 pixels wide, with 128 colours: a page of the documentation should load fast."""
    picture = Image.open(source).convert("RGB")
    picture.thumbnail((900, 1300))
    picture.quantize(128).save(IMAGES / name, optimize=True)


if __name__ == "__main__":
    snn = Path(sys.argv[1]) / "snn"
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        TrafficDataset(6, size=320, seed=8).write_coco(folder)
        scene, scores, page = folder / "images" / "000005.png", folder / "scores.json", folder / "report.html"
        common = ("--model", snn, "--schedule", "8+4")
        run(
            "evaluate",
            *common,
            "--data",
            "traffic:100:1",
            "--readout",
            "1,2,3,4,5,6,8,10,12",
            "--output",
            scores,
        )
        run("report", scene, *common, "--evaluation", scores, "--output", page)
        run("monitor", *common, "--picture", scene, "--layer", "layers.2.act", "--output", folder / "watched")
        for name, size, dark in (("report.png", "1100,1240", False), ("report_dark.png", "420,1240", True)):
            screenshot(page, folder / name, size, dark)
            smaller(folder / name, name)
        screenshot(LANDING, folder / "landing.png", "1300,1240", False)
        smaller(folder / "landing.png", "landing.png")
        for name in ("boxes", "neurons", "counts"):
            smaller(folder / "watched" / f"{name}.png", f"spikes_{name}.png")
