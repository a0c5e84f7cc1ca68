"""Low-latency spiking neural networks for object detection, on SpikingJelly.

``load`` opens a detector, whose ``detect`` finds objects in pictures. The other verbs are
``replace_layers``, ``prepare``, ``finetune``, ``convert``, ``simulate`` and ``evaluate``. Everything is
imported when it is first used, so ``import sj_lowlat`` costs next to nothing.
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

from sj_lowlat.version import __version__

if TYPE_CHECKING:
    from sj_lowlat import (
        conversion,
        data,
        detect,
        detector,
        evaluation,
        functional,
        graph,
        kernels,
        layers,
        models,
        monitors,
        network,
        plots,
        pretrained,
        report,
        simulation,
        training,
        zoo,
    )  # fmt: skip
    from sj_lowlat.checkpoint import save
    from sj_lowlat.conversion import LowLatencyRecipe, convert, prepare, replace_layers, set_precision
    from sj_lowlat.detect import Detections
    from sj_lowlat.detector import Detector, load
    from sj_lowlat.errors import ConversionError, InputError
    from sj_lowlat.evaluation import evaluate
    from sj_lowlat.layers import ImbalancedIFNode, QuantReLU, ResidualFixIFNode, SignedIFNode
    from sj_lowlat.monitors import FiringRateMonitor, RemainderMonitor, ResidualMonitor
    from sj_lowlat.network import ConversionReport, NetworkInfo, info_of
    from sj_lowlat.pretrained import load as load_pretrained
    from sj_lowlat.schedule import Schedule
    from sj_lowlat.simulation import simulate, simulate_steps
    from sj_lowlat.training import FinetuneConfig, finetune

# name -> module, and its name there where that differs
_HOME = {
    "ConversionError": "errors", "ConversionReport": "network", "Detections": "detect",
    "Detector": "detector", "FinetuneConfig": "training", "FiringRateMonitor": "monitors",
    "ImbalancedIFNode": "layers", "InputError": "errors", "LowLatencyRecipe": "conversion",
    "NetworkInfo": "network", "QuantReLU": "layers", "RemainderMonitor": "monitors",
    "ResidualFixIFNode": "layers", "ResidualMonitor": "monitors", "Schedule": "schedule",
    "SignedIFNode": "layers", "convert": "conversion", "evaluate": "evaluation", "finetune": "training",
    "info_of": "network", "load": "detector", "load_pretrained": "pretrained.load",
    "prepare": "conversion", "replace_layers": "conversion", "save": "checkpoint",
    "set_precision": "conversion", "simulate": "simulation", "simulate_steps": "simulation",
}  # fmt: skip
_MODULES = (
    "conversion", "data", "detect", "detector", "evaluation", "functional", "graph", "kernels", "layers",
    "models", "monitors", "network", "plots", "pretrained", "report", "simulation", "training", "zoo",
)  # fmt: skip

__all__ = ["__version__", *_HOME, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        home, _, inner = _HOME[name].partition(".")
        value = getattr(importlib.import_module(f"{__name__}.{home}"), inner or name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _models_load(name: str, *, spiking: bool = True) -> Any:
    """The name that :func:`load_pretrained` had in version 0.1."""
    warnings.warn("sj_lowlat.models.load is sj_lowlat.load_pretrained now", DeprecationWarning, stacklevel=2)
    return __getattr__("load_pretrained")(name, spiking=spiking)


def __dir__() -> list[str]:
    return sorted(__all__)
