"""The conversion as a recipe of SpikingJelly's ``ann2snn``."""

from __future__ import annotations

from typing import Any

from spikingjelly.activation_based.ann2snn.recipes import ModuleConversionRecipe
from torch import nn

from sj_lowlat.conversion.methods import find_method
from sj_lowlat.conversion.pipeline import convert
from sj_lowlat.conversion.spike import activation_types


class LowLatencyRecipe(ModuleConversionRecipe):
    """:func:`convert` for SpikingJelly: ``ann2snn.ModuleConverter(LowLatencyRecipe(...)).convert(ann)``.

    :param options: the keyword arguments of :func:`convert`
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def validate(self, converter: Any) -> None:
        """Check the method, or the kind of neuron, before any work."""
        method = self.options.get("method")
        activation_types(
            self.options.get("neuron") or "signed" if method is None else find_method(method).neuron
        )

    def convert_module(self, converter: Any, ann: nn.Module) -> nn.Module:
        """Convert ``ann``, which is left untouched."""
        return convert(ann, **self.options)
