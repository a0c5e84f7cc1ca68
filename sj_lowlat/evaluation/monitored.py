"""Monitors for the first images of an evaluation."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Self

from torch import nn

from sj_lowlat.evaluation.energy import EnergyReport, energy
from sj_lowlat.monitors import FiringRateMonitor, SynOpMonitor


class FirstImages:
    """Firing rates and operations of the first images, after which the hooks are removed."""

    def __init__(self, model: nn.Module, images: int) -> None:
        self.left = images
        self.energy: EnergyReport | None = None
        self.rates: dict[str, Any] | None = None
        self.stack = ExitStack()
        if images:
            self.firing = self.stack.enter_context(FiringRateMonitor(model))
            self.synops = self.stack.enter_context(SynOpMonitor(model))

    def __enter__(self) -> Self:
        return self

    def seen(self, images: int) -> None:
        """Count images; read and close the monitors after the last image that they watch."""
        if self.left > 0:
            self.left -= images
            if self.left <= 0:
                self._read()

    def _read(self) -> None:
        self.stack.close()
        self.energy, self.rates = energy(self.synops, self.firing), self.firing.to_json()
        self.left = 0

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self.left > 0 and kind is None:
            self._read()  # fewer images than were to be monitored
        self.stack.close()
