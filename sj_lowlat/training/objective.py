"""The training objective: a weighted sum of the losses that model, data and teacher allow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sj_lowlat.data.augment import AugmentedDataset
from sj_lowlat.data.sample import DetectionDataset
from sj_lowlat.errors import InputError
from sj_lowlat.network import info_of
from sj_lowlat.training.assign import Targets
from sj_lowlat.training.batches import Batch
from sj_lowlat.training.config import FinetuneConfig
from sj_lowlat.training.distil import distillation_loss, output_distance
from sj_lowlat.training.features import feature_loss, shared_layers, watch
from sj_lowlat.training.losses import detection_loss


class Objective:
    """Loss terms of a batch, already multiplied by the weights of the config.

    Detection is used where the data has classes and the model ``head_specs``; distillation where there is a
    teacher: by YOLO head maps where the model has ``head_specs``, else as mean squared error of the outputs;
    with ``feature_weight`` also by the outputs of the batch norms that both networks share.

    :param model: the network to train, wrapped or not
    :param data: its ``class_names`` say whether there are labels
    :param teacher: in eval mode, on the same device
    :raises InputError: if nothing is left to minimise
    """

    def __init__(
        self,
        model: nn.Module,
        data: DetectionDataset | AugmentedDataset,
        teacher: nn.Module | None,
        config: FinetuneConfig,
    ) -> None:
        specs = info_of(model).heads
        labelled = bool(data.class_names)
        self.model, self.config, self.specs = model, config, specs
        self.detection = config.detection_weight > 0 and labelled and bool(specs)
        self.teacher = teacher if config.distillation_weight > 0 else None
        self.features: list[str] = []
        if self.teacher is not None and config.feature_weight > 0:
            self.features = shared_layers(model, self.teacher)
        if self.detection or self.teacher is not None:
            return
        if teacher is not None:
            reason = "config.distillation_weight is 0 and the data has no labels, or the model no head_specs"
        elif not labelled:
            reason = "the data has no labels (no class_names): give a teacher, or labelled data"
        elif not specs:
            reason = "the model has no head_specs for a detection loss: give a teacher"
        else:
            reason = "config.detection_weight is 0: give a teacher, or a detection_weight above 0"
        raise InputError(f"nothing to learn from: {reason}")

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Run the networks on a batch on their device and return the weighted terms, float32 scalars."""
        device = batch.images.device
        theirs: tuple[Tensor, ...] = ()
        # two autocast regions: weights cast under no_grad in one must not be reused in the other
        their_features: list[Tensor] = []
        if self.teacher is not None:
            with (
                torch.no_grad(),
                self._autocast(device),
                watch(self.teacher, self.features) as their_features,
            ):
                theirs = as_tuple(self.teacher(batch.images))
        with self._autocast(device), watch(self.model, self.features) as our_features:
            ours = as_tuple(self.model(batch.images))
        terms: dict[str, Tensor] = {}
        if self.detection:
            found = detection_loss(ours, self.specs, Targets(batch.boxes, batch.labels, batch.image))
            terms |= {name: self.config.detection_weight * value for name, value in found.items()}
        if self.teacher is not None:
            near = (
                distillation_loss(ours, theirs, self.specs) if self.specs else output_distance(ours, theirs)
            )
            terms |= {name: self.config.distillation_weight * value for name, value in near.items()}
        if self.features:
            inside = feature_loss(our_features, their_features)
            terms |= {name: self.config.feature_weight * value for name, value in inside.items()}
        return terms

    def _autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=self.config.precision == "bf16")


def as_tuple(output: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    """One output or several, as a tuple."""
    return (output,) if isinstance(output, Tensor) else tuple(output)
