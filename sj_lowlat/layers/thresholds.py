"""Thresholds and initial potentials of a neuron: one number, or one per channel."""

from __future__ import annotations

from typing import Any

import torch
from spikingjelly.activation_based.neuron import IFNode
from torch import Tensor

from sj_lowlat.errors import InputError


class Thresholds(IFNode):
    """Part of a neuron: the buffers ``threshold`` and ``ratio``, scalar or ``[C]``.

    A state dict holds them where they are one per channel. One that has none (an ``IFNode``'s) leaves them as
    they are.
    """

    threshold: Tensor
    ratio: Tensor

    @property
    def v_threshold(self) -> float | Tensor:
        """A number, as SpikingJelly's, or one per channel ``[C]``; writing to it checks it."""
        return self.threshold if self.threshold.dim() else float(self.threshold)

    @v_threshold.setter
    def v_threshold(self, value: float | Tensor) -> None:
        threshold = _checked("v_threshold", value)
        if bool((threshold <= 0).any()):
            raise InputError(f"v_threshold must be positive, got {value!r}")
        self._keep("threshold", threshold)

    def set_ratio(self, value: float | Tensor, what: str = "ratio") -> None:
        """Set V(0) in units of the threshold."""
        ratio = _checked(what, value)
        if ratio.dim() and self.threshold.dim() and ratio.shape != self.threshold.shape:
            raise InputError(f"{len(ratio)} ratios came for {len(self.threshold)} thresholds; give one each")
        self._keep("ratio", ratio)

    def _keep(self, name: str, value: Tensor) -> None:
        before = self._buffers.get(name)
        value = value if before is None else value.to(before)
        self.register_buffer(name, value, persistent=bool(value.dim()))

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, metadata: Any, strict: bool, missing: Any,
        unexpected: Any, errors: list[str],
    ) -> None:  # fmt: skip
        for name in ("threshold", "ratio"):
            own, key = self._buffers[name], prefix + name
            assert own is not None
            # until version 0.1 the buffer was called v_threshold
            value = state_dict.pop(key, state_dict.pop(f"{prefix}v_{name}", own))
            if value.shape != own.shape:
                errors.append(f"{key} has the shape {[*value.shape]}, the neuron's is {[*own.shape]}")
            elif not bool(value.isfinite().all()) or (name == "threshold" and bool((value <= 0).any())):
                errors.append(f"{key} is {value.tolist()}: give finite numbers, thresholds above 0")
            elif name in self._non_persistent_buffers_set:
                own.copy_(value)
            else:
                state_dict[key] = value
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing, unexpected, errors)

    @property
    def v_initial(self) -> Tensor:
        """V(0), scalar or ``[C]``."""
        return self.ratio * self.threshold

    @staticmethod
    def _per_channel(value: Tensor, x: Tensor) -> Tensor:
        return value.view(-1, *[1] * (x.dim() - 2)) if value.dim() else value


def _checked(name: str, value: float | Tensor) -> Tensor:
    tensor = torch.as_tensor(value, dtype=torch.float32).detach().clone()
    if tensor.dim() > 1 or not bool(torch.isfinite(tensor).all()):
        raise InputError(f"{name} must be a finite number or one per channel [C], got {value!r}")
    return tensor
