"""What a neuron does with its potential, as data that every kernel reads."""

from __future__ import annotations

from dataclasses import dataclass

from sj_lowlat.errors import InputError

KINDS = ("if", "signed", "imbalanced")


@dataclass(frozen=True)
class FireRule:
    """When an integrate-and-fire neuron fires.

    :param kind: ``"if"`` (:func:`~sj_lowlat.functional.soft_reset_step`), ``"signed"``
        (:func:`~sj_lowlat.functional.signed_step`) or ``"imbalanced"``
        (:func:`~sj_lowlat.functional.imbalanced_step`)
    :param max_count: limit of the net spike count of a signed neuron, or ``None``
    :param slope: negative slope of the leaky ReLU that the neuron stands for, in (0, 1] for an imbalanced
        one, in [0, 0.5) for a signed one; 0 for a ReLU
    :param burst: most spikes of a neuron in one step (``"if"`` and ``"signed"``)
    """

    kind: str = "if"
    max_count: int | None = None
    slope: float = 0.0
    burst: int = 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"kind is {self.kind!r}, it must be one of {', '.join(KINDS)}")
        if self.max_count is not None and self.max_count < 1:
            raise InputError(f"max_count is {self.max_count}, it must be at least 1, or None for no limit")
        if self.burst < 1 or (self.burst > 1 and self.kind == "imbalanced"):
            raise InputError(f"burst is {self.burst}, it must be at least 1 (1 for an imbalanced neuron)")
        if self.kind == "if" and self.slope:
            raise InputError(f"slope is {self.slope}; a neuron without negative spikes has none: leave it 0")
        if self.kind == "imbalanced" and not 0 < self.slope <= 1:
            raise InputError(f"slope is {self.slope}, it must lie in (0, 1], as that of a leaky ReLU")
        if self.kind == "signed" and not 0 <= self.slope < 0.5:
            raise InputError(f"slope is {self.slope}, it must lie in [0, 0.5); 0 for a ReLU")
