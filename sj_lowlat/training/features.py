"""Feature distillation: correlation with the inner maps of a teacher, channel by channel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sj_lowlat.errors import InputError
from sj_lowlat.network import unwrapped
from sj_lowlat.training.distil import check_same_shapes

_POSITIONS = 52


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
    modules = [unwrapped(network).get_submodule(name) for name in names]
    handles = [m.register_forward_hook(lambda module, args, out: outputs.append(out)) for m in modules]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def feature_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> dict[str, Tensor]:
    r"""Distance of the student's channels from the teacher's: ``distil_features``, the mean of
    :math:`1 - \mathrm{corr}` over channels and layers; 0 where each is the teacher's up to scale and offset.

    Scale and offset do not count, because equalising channels changes them without changing the function.
    Maps of more than 104 positions a side are left out, if there are smaller ones; those above 52 are
    compared at every second position, because neighbours in large maps are nearly equal.

    :param student: maps ``[N, C, H, W]``
    :param teacher: the same shapes; no gradient flows into them
    :raises InputError: if shapes differ
    """
    check_same_shapes(student, teacher, "the student's maps", "give the same layers")
    pairs = list(zip(student, teacher, strict=True))
    pairs = [(s, t) for s, t in pairs if max(s.shape[2:], default=1) <= 2 * _POSITIONS] or pairs
    distances = [1 - _correlation(s, t.detach()).mean() for s, t in pairs]
    return {"distil_features": torch.stack(distances).mean()}


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Of each channel, ``[C]``; 0 where one of the two does not vary."""
    stride = max(1, max(a.shape[2:], default=1) // _POSITIONS)
    rows = []
    for maps in (a, b):
        picked = maps[..., ::stride, ::stride] if maps.dim() == 4 else maps
        row = picked.transpose(0, 1).flatten(1).float()  # [C, N * positions]
        rows.append(row - row.mean(1, keepdim=True))
    covariance = (rows[0] * rows[1]).sum(1)
    return covariance / (rows[0].square().sum(1) * rows[1].square().sum(1)).clamp_min(1e-12).sqrt()
