"""Learning from the outputs of a teacher, and from its inner maps; needs no labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sj_lowlat import distributed
from sj_lowlat.detect.heads import HeadSpec, check_specs, split_head
from sj_lowlat.errors import InputError
from sj_lowlat.network import unwrapped

LOGIT_GAIN = 0.05
"""Weight of the squared error of objectness logits: where sigmoids saturate, only it keeps maps close."""
_POSITIONS = 52


def distillation_loss(
    student: Sequence[Tensor], teacher: Sequence[Tensor], specs: Sequence[HeadSpec]
) -> dict[str, Tensor]:
    """Distance of the student's YOLO head maps from the teacher's; 0, with zero gradient, where they agree.

    With o = sigmoid(teacher's objectness logit) and S = max(sum of o, N) over a head of N pictures, the terms
    are means over heads of

    - ``distil_objectness``: sum KL(o || student's) / S, Bernoulli: BCE less the teacher's entropy
    - ``distil_classes``: sum o KL(class probabilities) / S, over classes too (softmax in ``region`` heads)
    - ``distil_box``: sum o (squared differences of sigmoid(xy) and of raw wh) / S
    - ``distil_logit``: :data:`LOGIT_GAIN` times the mean squared difference of objectness logits

    Where several processes share a batch, S and N are those of all: the losses sum up to the batch's.

    :param student: raw maps ``[N, A (5 + num_classes), H, W]``, one per spec
    :param teacher: the same shapes; no gradient flows into them
    :raises InputError: if shapes differ or do not fit the specs
    """
    check_same_shapes(student, teacher)
    check_specs(specs, student)
    names = ("distil_objectness", "distil_classes", "distil_box", "distil_logit")
    total = {name: torch.zeros((), device=student[0].device) for name in names}
    (pictures,) = distributed.totals(len(student[0]))
    part = len(student[0]) / pictures
    for student_map, teacher_map, spec in zip(student, teacher, specs, strict=True):
        s, t = split_head(student_map, spec), split_head(teacher_map.detach(), spec)
        weight = t.objectness.sigmoid()  # [N, A, H, W]
        scale = 1 / (distributed.total(weight.sum()).clamp(min=pictures) * len(specs))
        box = (s.xy.sigmoid() - t.xy.sigmoid()).square().sum(-1) + (s.wh - t.wh).square().sum(-1)
        total["distil_objectness"] += bernoulli_kl(s.objectness, t.objectness).sum() * scale
        total["distil_classes"] += (weight * _class_divergence(s.classes, t.classes, spec)).sum() * scale
        total["distil_box"] += (weight * box).sum() * scale
        total["distil_logit"] += LOGIT_GAIN * part * F.mse_loss(s.objectness, t.objectness) / len(specs)
    return total


def output_distance(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> dict[str, Tensor]:
    """Mean squared difference of the outputs of any two networks, averaged over outputs: ``distil_mse``.

    Where several processes share a batch, it is this process's part of the mean over all pictures.

    :raises InputError: if numbers or shapes of the outputs differ
    """
    check_same_shapes(student, teacher)
    distances = [F.mse_loss(_wide(s), _wide(t.detach())) for s, t in zip(student, teacher, strict=True)]
    (pictures,) = distributed.totals(len(student[0]))
    return {"distil_mse": torch.stack(distances).mean() * (len(student[0]) / pictures)}


def _wide(values: Tensor) -> Tensor:
    """In float32 at least."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def bernoulli_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(sigmoid(teacher) || sigmoid(student)) per element, from logits: BCE less its minimum."""
    p = teacher.sigmoid()
    cross = F.binary_cross_entropy_with_logits(student, p, reduction="none")
    return cross - F.binary_cross_entropy_with_logits(teacher, p, reduction="none")


def check_same_shapes(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    what: str = "the network's outputs",
    remedy: str = "take a teacher with the same heads",
) -> None:
    """:raises InputError: if numbers or shapes of the outputs differ"""
    ours, theirs = [tuple(m.shape) for m in student], [tuple(m.shape) for m in teacher]
    if ours != theirs:
        raise InputError(f"{what} are {ours}, the teacher's {theirs}: {remedy}")


def _class_divergence(student: Tensor, teacher: Tensor, spec: HeadSpec) -> Tensor:
    if spec.kind != "region":
        return bernoulli_kl(student, teacher).sum(-1)
    log_p = teacher.log_softmax(-1)
    return (log_p.exp() * (log_p - student.log_softmax(-1))).sum(-1)


def shared_layers(model: nn.Module, teacher: nn.Module) -> list[str]:
    """Names of the batch norms that both networks have with equal channels.

    :raises InputError: if there are none
    """
    ours, theirs = (
        {name: m.num_features for name, m in unwrapped(net).named_modules() if isinstance(m, _BatchNorm)}
        for net in (model, teacher)
    )
    names = [name for name, channels in ours.items() if theirs.get(name) == channels]
    if not names:
        raise InputError(
            "feature_weight is above 0, but no batch norm of the model has the name and the channels of one "
            "of the teacher's: set feature_weight to 0, or take the network that the model was made from"
        )
    return names


@contextmanager
def watch(network: nn.Module, names: Sequence[str]) -> Iterator[list[Tensor]]:
    """Context manager: collect the outputs of modules, in the order in which they run."""
    outputs: list[Tensor] = []
    with ExitStack() as hooks:
        for name in names:
            module = unwrapped(network).get_submodule(name)
            hooks.enter_context(module.register_forward_hook(lambda m, args, out: outputs.append(out)))
        yield outputs


def feature_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> dict[str, Tensor]:
    r"""Distance of the student's channels from the teacher's: ``distil_features``, the mean of
    :math:`1 - \mathrm{corr}` over channels and layers; 0 where each is the teacher's up to scale and offset.

    Scale and offset do not count, because equalising channels changes them without changing the function.
    Where several processes share a batch, correlations are over all pictures, and the loss is divided by the
    number of processes.
    Maps of more than 104 positions a side are left out, if there are smaller ones. Of maps of k times 52
    positions every k-th one is compared, because neighbours in large maps are nearly equal.

    :param student: maps ``[N, C, H, W]``
    :param teacher: the same shapes; no gradient flows into them
    :raises InputError: if shapes differ
    """
    check_same_shapes(student, teacher, "the student's maps", "give the same layers")
    pairs = list(zip(student, teacher, strict=True))
    pairs = [(s, t) for s, t in pairs if max(s.shape[2:], default=1) <= 2 * _POSITIONS] or pairs
    distances = [1 - _correlation(s, t.detach()).mean() for s, t in pairs]
    return {"distil_features": torch.stack(distances).mean() / distributed.processes()}


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Of each channel, ``[C]``; 0 where one of the two does not vary."""
    stride = max(1, max(a.shape[2:], default=1) // _POSITIONS)
    rows = []
    for maps in (a, b):
        picked = maps[..., ::stride, ::stride] if maps.dim() == 4 else maps
        row = _wide(picked.transpose(0, 1).flatten(1))  # [C, N * positions]
        part = row.shape[1] / distributed.totals(row.shape[1])[0]
        rows.append(row - distributed.total(row.mean(1, keepdim=True) * part))
    products = [(rows[i] * rows[j]).sum(1) for i, j in ((0, 1), (0, 0), (1, 1))]
    covariance, ours, theirs = distributed.total(torch.stack(products))
    return covariance / (ours * theirs).clamp_min(1e-12).sqrt()
