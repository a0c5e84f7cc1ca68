"""What must work wherever the package can be installed: imports, conversion, simulation, a shipped network,
pictures and the command line. Prints versions as JSON.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import platform
import subprocess
import sys
from pathlib import Path

import numpy
import torch
from torch import nn

import sj_lowlat
from sj_lowlat.data import AugmentedDataset, TrafficDataset
from sj_lowlat.detect import save_image
from sj_lowlat.record import versions


def main() -> None:
    """Try all of it in the current folder, which should be empty."""
    for module in pkgutil.walk_packages(sj_lowlat.__path__, "sj_lowlat."):
        if module.name != "sj_lowlat.__main__":
            importlib.import_module(module.name)

    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.LeakyReLU(0.1), nn.MaxPool2d(2), nn.Conv2d(8, 4, 1)]
    images = torch.rand(2, 3, 16, 16)
    quantised = sj_lowlat.prepare(nn.Sequential(*layers).eval(), 8, images)
    spiking = sj_lowlat.convert(quantised)
    with torch.no_grad():
        settled = sj_lowlat.simulate(spiking, images, "8+24").final
        torch.testing.assert_close(settled, quantised(images), rtol=1e-4, atol=1e-4)

    sample = TrafficDataset(1)[0]
    AugmentedDataset(TrafficDataset(1), 64)[0]
    save_image("picture.png", sample.image)
    shipped = sj_lowlat.load_pretrained("snn-tiny-yolov3-coco")
    sj_lowlat.simulate(shipped, torch.rand(1, 3, 64, 64))
    words = ["detect", "picture.png", "--min-score", "0.01", "--output", "found"]
    subprocess.run([sys.executable, "-I", "-m", "sj_lowlat", *words], check=True, stdout=subprocess.DEVNULL)
    if not json.loads(Path("found", "detections.json").read_text()):
        raise SystemExit("detect wrote no detections")
    print(json.dumps({"python": platform.python_version(), "numpy": numpy.__version__, **versions()}))


if __name__ == "__main__":
    main()
