"""The package as a whole: every public name exists, and importing it costs next to nothing."""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest

import sj_lowlat

FOUND = [m for m in pkgutil.walk_packages(sj_lowlat.__path__, "sj_lowlat.") if m.name != "sj_lowlat.__main__"]
MODULES = ["sj_lowlat", *(module.name for module in FOUND)]
PACKAGES = ["sj_lowlat", *(module.name for module in FOUND if module.ispkg)]
# what `import sj_lowlat` may not load beyond what torch and spikingjelly load by themselves
HEAVY = ("matplotlib", "pycocotools", "jsonargparse", "torchvision", "tensorboard", "cupy", "tqdm")

_LEAN_IMPORT = """
import json, sys, time
import torch
import spikingjelly.activation_based.neuron
before = set(sys.modules)
start = time.perf_counter()
import sj_lowlat
seconds = time.perf_counter() - start
new = sorted(set(sys.modules) - before)
print(json.dumps({"seconds": seconds, "new": new, "cuda": torch.cuda.is_initialized()}))
"""


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_exists(name: str) -> None:
    module = importlib.import_module(name)
    public = getattr(module, "__all__", ())
    assert len(set(public)) == len(public)
    assert [item for item in public if not hasattr(module, item)] == []


@pytest.mark.parametrize("name", PACKAGES)
def test_packages_say_what_is_public(name: str) -> None:
    assert importlib.import_module(name).__all__


def test_import_is_light() -> None:
    result = subprocess.run([sys.executable, "-c", _LEAN_IMPORT], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    record = json.loads(result.stdout.splitlines()[-1])
    print(f"import sj_lowlat: {record['seconds']:.3f} s beyond torch and spikingjelly")
    assert "sj_lowlat" in record["new"]
    assert [name for name in record["new"] if name.split(".")[0] in HEAVY] == []
    assert record["cuda"] is False


def test_all_that_is_imported_is_declared() -> None:
    """What another package brings along today may be gone tomorrow."""
    config = ConfigParser()
    config.read(Path(__file__).parents[1] / "setup.cfg")
    extras = (
        value for name, value in config["options.extras_require"].items() if name not in ("dev", "docs")
    )
    lines = "\n".join([config["options"]["install_requires"], *extras]).splitlines()
    declared = {re.match(r"[\w-]*", line)[0] for line in lines}  # type: ignore[index]
    other_names = {"PIL": "pillow", "cupy": "cupy-cuda12x", "yaml": "pyyaml"}
    missing = {}
    for file in Path(sj_lowlat.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            for top in {name.split(".")[0] for name in names} - {"sj_lowlat", *sys.stdlib_module_names}:
                if other_names.get(top, top.replace("_", "-")) not in declared:
                    missing[top] = file.name
    assert not missing


def test_what_an_interpreter_prints_is_short() -> None:
    """A read-out alone has thousands of numbers."""
    scenes = sj_lowlat.data.TrafficDataset(2, size=64)
    names = scenes.class_names
    network = sj_lowlat.models.snn_tiny_yolov3(4, width=0.125, input_size=64, class_names=names)
    quant = sj_lowlat.prepare(network, 4, scenes[0].image[None] / 255)
    snn = sj_lowlat.convert(quant)
    with sj_lowlat.FiringRateMonitor(snn) as rates:
        result = sj_lowlat.simulate(snn, scenes[0].image[None] / 255, readout=(2, 4))
    assert repr(result) == f"SimulationResult(steps=(2, 4), each={_shapes(result.final)})"
    assert repr(rates) == f"FiringRateMonitor({len(rates.monitored_layers)} layers, images so far: 1)"
    score = sj_lowlat.evaluate(snn, scenes, monitored=0)
    assert repr(score) == f"Evaluation(2 images; mAP50 in % SNN, 4 steps: {100 * score.final.map50:.2f})"
    report = snn.conversion_report
    assert (
        repr(report)
        == f"ConversionReport('signed', {len(report.layers)} layers, {len(report.replaced)} replaced)"
    )
    assert {"Any", "importlib", "warnings"}.isdisjoint(dir(sj_lowlat)) and {*sj_lowlat.__all__} == {
        *dir(sj_lowlat)
    }


def _shapes(maps: Any) -> str:
    return str(type(maps)([*each.shape] for each in maps))
