"""The conversion as a recipe of SpikingJelly's ``ann2snn``."""

from __future__ import annotations

from typing import Any

from spikingjelly.activation_based.ann2snn.recipes import ModuleConversionRecipe
from torch import nn

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
        """Check the kind of neuron before any work."""
        activation_types(self.options.get("neuron", "signed"))

    def convert_module(self, converter: Any, ann: nn.Module) -> nn.Module:
        """Convert ``ann``, which is left untouched."""
        return convert(ann, **self.options)
