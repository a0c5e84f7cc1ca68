"""The training objective: a weighted sum of the losses that model, data and teacher allow."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from sj_lowlat import distributed
from sj_lowlat.data.augment import AugmentedDataset
from sj_lowlat.data.sample import DetectionDataset
from sj_lowlat.detect import HeadSpec
from sj_lowlat.errors import InputError
from sj_lowlat.network import info_of
from sj_lowlat.schedule import Schedule
from sj_lowlat.training.batches import Batch
from sj_lowlat.training.config import FinetuneConfig
from sj_lowlat.training.distil import distillation_loss, feature_loss, output_distance, shared_layers, watch
from sj_lowlat.training.losses import Targets, detection_loss
from sj_lowlat.training.rates import SpikingRates
from sj_lowlat.training.spikes import SpikePenalty, spike_loss
from sj_lowlat.training.whole_batch import WholeBatch


class Objective:
    """Loss terms of a batch, already multiplied by the weights of the config.

    Detection is used where the data has classes and the model YOLO heads; distillation where there is a
    teacher: by YOLO head maps where the model has them, else as mean squared error of the outputs;
    with ``feature_weight`` also by the outputs of the batch norms that both networks share. ``spike_weight``
    adds what spikes cost. With a ``schedule`` the model's forward is that of its spiking network.

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
        heads = info_of(model).heads
        specs = tuple(head for head in heads if isinstance(head, HeadSpec))
        specs = specs if len(specs) == len(heads) else ()
        labelled = bool(data.class_names)
        self.model, self.config, self.specs = model, config, specs
        self.detection = config.detection_weight > 0 and labelled and bool(specs)
        self.teacher = teacher if config.distillation_weight > 0 else None
        self.features: list[str] = []
        self.spikes: SpikePenalty | None = None
        self.rates: SpikingRates | None = None
        if self.teacher is not None and config.feature_weight > 0:
            self.features = shared_layers(model, self.teacher)
        if self.detection or self.teacher is not None:
            if config.spike_weight > 0:
                shape = info_of(model).input_shape or (3, 32, 32)
                like = next(model.parameters())
                self.spikes = SpikePenalty(model, like.new_zeros(1, *shape))
            if config.schedule is not None:
                schedule = Schedule.parse(config.schedule)
                self.rates = SpikingRates(model, schedule, config.neuron, config.precision)
            return
        if teacher is not None:
            reason = "config.distillation_weight is 0 and the data has no labels, or the model no YOLO heads"
        elif not labelled:
            reason = "the data has no labels (no class_names): give a teacher, or labelled data"
        elif not specs:
            reason = "the detection loss is for YOLO heads, which the model has not: give a teacher"
        else:
            reason = "config.detection_weight is 0: give a teacher, or a detection_weight above 0"
        raise InputError(f"nothing to learn from: {reason}")

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Run the networks on a batch on their device and return the weighted terms, scalars; where several
        processes share a batch, their sum over the processes is the batch's.
        """
        config, parts = self.config, []
        if self.teacher is not None:
            with torch.no_grad():
                theirs, their_features = self._run(self.teacher, batch.images)
        counted: list[Tensor] = []
        with ExitStack() as stack:
            if self.rates is not None:
                stack.enter_context(self.rates.standing_in(batch.images))
            if self.spikes is not None:  # counts what stands in
                counted = stack.enter_context(self.spikes.counted())
            ours, our_features = self._run(self.model, batch.images)
        if self.detection:
            targets = Targets(*batch[1:])
            parts.append((config.detection_weight, detection_loss(ours, self.specs, targets)))
        if self.teacher is not None:
            heads = self.specs
            near = distillation_loss(ours, theirs, heads) if heads else output_distance(ours, theirs)
            parts.append((config.distillation_weight, near))
        if counted:
            parts.append((config.spike_weight, spike_loss(counted, len(batch.images))))
        if self.features:
            parts.append((config.feature_weight, feature_loss(our_features, their_features)))
        return {name: weight * value for weight, losses in parts for name, value in losses.items()}

    def _run(self, network: nn.Module, images: Tensor) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        """Outputs and features. An autocast region each: weights cast under no_grad must not be reused."""
        config, images = self.config, images.to(next(network.parameters(), images).dtype)
        autocast = torch.autocast(images.device.type, torch.bfloat16, config.precision == "bf16")
        whole = WholeBatch(config.batch_size) if distributed.processes() > 1 else nullcontext()
        with autocast, whole, watch(network, self.features) as features:
            outputs = network(images)
        return tuple(tree_leaves(outputs)), features
