"""Low-latency spiking neural networks for object detection, on SpikingJelly.

The public verbs are ``replace_layers``, ``prepare``, ``finetune``, ``convert``, ``simulate`` and
``evaluate``. Everything is imported when it is first used, so ``import sj_lowlat`` costs next to nothing.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sj_lowlat import data, detect, functional, kernels, layers, models, monitors, plots, pretrained
    from sj_lowlat.checkpoint import load, save
    from sj_lowlat.convert import (
        ConversionReport,
        LowLatencyRecipe,
        convert,
        prepare,
        replace_layers,
        set_precision,
    )
    from sj_lowlat.errors import ConversionError, InputError
    from sj_lowlat.evaluate import evaluate
    from sj_lowlat.finetune import FinetuneConfig, finetune
    from sj_lowlat.layers import ImbalancedIFNode, QuantReLU, ResidualFixIFNode, SignedIFNode
    from sj_lowlat.monitors import FiringRateMonitor, ResidualMonitor
    from sj_lowlat.simulate import simulate, simulate_steps

_HOME = {
    "ConversionError": "errors",
    "ConversionReport": "convert",
    "FinetuneConfig": "finetune",
    "FiringRateMonitor": "monitors",
    "ImbalancedIFNode": "layers",
    "InputError": "errors",
    "LowLatencyRecipe": "convert",
    "QuantReLU": "layers",
    "ResidualFixIFNode": "layers",
    "ResidualMonitor": "monitors",
    "SignedIFNode": "layers",
    "convert": "convert",
    "evaluate": "evaluate",
    "finetune": "finetune",
    "load": "checkpoint",
    "prepare": "convert",
    "replace_layers": "convert",
    "save": "checkpoint",
    "set_precision": "convert",
    "simulate": "simulate",
    "simulate_steps": "simulate",
}
_MODULES = ("data", "detect", "functional", "kernels", "layers", "models", "monitors", "plots", "pretrained")

__all__ = [
    "ConversionError",
    "ConversionReport",
    "FinetuneConfig",
    "FiringRateMonitor",
    "ImbalancedIFNode",
    "InputError",
    "LowLatencyRecipe",
    "QuantReLU",
    "ResidualFixIFNode",
    "ResidualMonitor",
    "SignedIFNode",
    "convert",
    "data",
    "detect",
    "evaluate",
    "finetune",
    "functional",
    "kernels",
    "layers",
    "load",
    "models",
    "monitors",
    "plots",
    "prepare",
    "pretrained",
    "replace_layers",
    "save",
    "set_precision",
    "simulate",
    "simulate_steps",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Some verbs have the name of the folder they live in; importing the folder must not hide the verb."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
