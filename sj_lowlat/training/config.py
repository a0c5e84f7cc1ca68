"""Settings of fine-tuning, checked."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sj_lowlat.errors import InputError
from sj_lowlat.schedule import Schedule

RUN_FIELDS = ("workers", "checkpoint_every", "log_every")
"""Fields that change how a run goes, never what it computes: a resumed run may change them."""


@dataclass(frozen=True)
class FinetuneConfig:
    """Settings of :func:`~sj_lowlat.training.finetune`.

    :param iterations: optimiser steps; a finished run can be given more
    :param batch_size: images per step, in all processes together
    :param size: side of the square network input in pixels, a multiple of 32; if several, each step draws one
    :param lr: highest learning rate of the one-cycle schedule (AdamW)
    :param weight_decay: decoupled weight decay of weights; biases, norms and clips have none
    :param warmup: fraction of the steps in which the learning rate rises, in [0, 1)
    :param ema: decay of the exponential moving average of the weights, in [0, 1); 0: the last weights
    :param detection_weight: factor of the detection loss; needs boxes
    :param distillation_weight: factor of the distillation loss; used where there is a teacher. Where there is
        no other loss, dropout is off, as it is in the teacher
    :param feature_weight: factor of the distance from the teacher's inner maps, where there is a teacher of
        the same layers (:func:`~sj_lowlat.training.distil.feature_loss`); 0 leaves it out
    :param spike_weight: factor of the spikes that the network will send, in synaptic operations per
        multiplication of the ANN (:class:`~sj_lowlat.training.spikes.SpikePenalty`); 0 leaves it out
    :param schedule: train through the spiking network that the Quant ANN is converted to, at this schedule
        (:class:`~sj_lowlat.training.SpikingRates`), for schedules too short to settle; needs
        ``frozen_norms``. Each step takes a run of the spiking network longer
    :param neuron: of that spiking network (:func:`~sj_lowlat.conversion.convert`): ``"signed"``, or
        ``"residual-fix"`` for hardware without negative spikes
    :param mix: probability in [0, 1] that a picture is blended (mix-up) with another one of its batch, its
        own weight being 0.5 to 1; the objects of both count
    :param frozen_norms: batch norms keep the statistics that they have and use them, as in ``eval``; those of
        a network that saw more pictures than ``data`` has are better than those of a batch
    :param precision: ``"bf16"`` (autocast) or ``"fp32"``
    :param grad_clip: gradient clipping: largest norm of the gradient
    :param seed: of the order, the augmentation, the sizes and any dropout
    :param workers: processes that prepare batches ahead, for each that trains; 0: prepare them between steps
    :param augment_on_device: decode all pictures once onto the network's device and augment them there, for
        a GPU that waits for ``workers``; a picture takes ``3 (1.5 size)^2`` bytes, 1.2 MB at 416 px
    :param checkpoint_every: steps between checkpoints
    :param log_every: steps between lines of the log
    :raises InputError: naming the first bad value
    """

    iterations: int = 2000
    batch_size: int = 16
    size: int | tuple[int, ...] = 256
    lr: float = 1e-3
    weight_decay: float = 1e-4
    warmup: float = 0.1
    ema: float = 0.999
    detection_weight: float = 1.0
    distillation_weight: float = 1.0
    feature_weight: float = 0.0
    spike_weight: float = 0.0
    schedule: str | None = None
    neuron: str = "signed"
    mix: float = 0.0
    frozen_norms: bool = False
    precision: Literal["bf16", "fp32"] = "bf16"
    grad_clip: float = 10.0
    seed: int = 0
    workers: int = 0
    augment_on_device: bool = False
    checkpoint_every: int = 250
    log_every: int = 10

    def __post_init__(self) -> None:
        for name, lowest in _WHOLE.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
                raise InputError(f"{name} is {value!r}; give a whole number of at least {lowest}")
        for words, (allowed, names) in _REAL.items():
            for name in names:
                value = getattr(self, name)
                if not isinstance(value, int | float) or not math.isfinite(value) or not allowed(value):
                    raise InputError(f"{name} is {value!r}; give a number {words}")
        if self.precision not in ("bf16", "fp32"):
            raise InputError(f"precision is {self.precision!r}; give 'bf16' or 'fp32'")
        if self.detection_weight == self.distillation_weight == 0:
            raise InputError("detection_weight and distillation_weight are both 0: set at least one above 0")
        if self.schedule is None and self.neuron != "signed":
            raise InputError(f"neuron is {self.neuron!r} without a schedule to train through: give both")
        if self.schedule is not None:
            Schedule.parse(self.schedule)
            if not self.frozen_norms:
                raise InputError("schedule needs batch norms that keep their statistics: set frozen_norms")
        if not isinstance(self.size, int):
            object.__setattr__(self, "size", tuple(self.size))
        for size in self.sizes:
            if not isinstance(size, int) or size < 32 or size % 32:
                raise InputError(f"size has {size!r}; give multiples of 32 of at least 32")
        if not self.sizes:
            raise InputError("size is an empty tuple; give at least one multiple of 32")

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes to draw from."""
        return (self.size,) if isinstance(self.size, int) else self.size

    def to_json(self) -> dict[str, Any]:
        """The fields as plain types; ``size`` becomes a list where there are several."""
        return {**asdict(self), "size": self.size if isinstance(self.size, int) else list(self.size)}


_WHOLE = {"iterations": 1, "batch_size": 1, "seed": 0, "workers": 0, "checkpoint_every": 1, "log_every": 1}
_WEIGHTS = ("weight_decay", "detection_weight", "distillation_weight", "feature_weight", "spike_weight")
_REAL = {
    "above 0": (lambda v: v > 0, ("lr", "grad_clip")),
    "of at least 0": (lambda v: v >= 0, _WEIGHTS),
    "from 0 to below 1": (lambda v: 0 <= v < 1, ("warmup", "ema")),
    "from 0 to 1": (lambda v: 0 <= v <= 1, ("mix",)),
}
