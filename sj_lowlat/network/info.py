"""What is known of a network beside its layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from sj_lowlat.detect import HeadSpec
from sj_lowlat.errors import InputError
from sj_lowlat.network.report import ConversionReport
from sj_lowlat.schedule import Schedule


@dataclass(frozen=True)
class NetworkInfo:
    """What is known of a network beside its layers; a field is ``None`` or empty where it is not known.

    :param heads: what each output map means, in the order of ``forward``'s outputs
    :param class_names: one name per class
    :param input_shape: ``(C, H, W)`` of the images that it is meant for
    :param stride: sides of images must be multiples of this, in pixels
    :param levels: L of a quantised network, and of the spiking network that it became
    :param schedule: how a spiking network is meant to be run
    :param precision: of a spiking network's inner weights
    :param report: what the conversion did
    :param replaced: module name -> what it was and what ``replace_layers`` put in its place
    :param card: of a network that ships: its origin
    """

    heads: tuple[HeadSpec, ...] = ()
    class_names: tuple[str, ...] = ()
    input_shape: tuple[int, ...] | None = None
    stride: int = 1
    levels: int | None = None
    schedule: Schedule | None = None
    precision: str = "fp32"
    report: ConversionReport | None = None
    replaced: Mapping[str, str] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int | None:
        """Side of the square images that it is meant for, in pixels."""
        return None if self.input_shape is None else self.input_shape[-1]

    def with_(self, **changes: Any) -> NetworkInfo:
        """A copy with other values."""
        return replace(self, **changes)


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside ``DistributedDataParallel``, ``DataParallel`` and ``torch.compile``.

    :param model: a network, wrapped or not
    """
    while True:
        inner = getattr(model, "_orig_mod", None)  # torch.compile
        if inner is None and isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def info_of(model: nn.Module) -> NetworkInfo:
    """What is known of a network: its ``info``, or of a network of one's own what stands in its attributes
    ``head_specs``, ``class_names``, ``input_shape`` and ``stride``.

    :param model: a network, wrapped or not; a container of one such network and other layers (a normalisation
        in front of a detector) has what is known of the network
    :raises InputError: if a container holds several networks, which may differ
    """
    model = unwrapped(model)
    if _has_info(model):
        return model.info  # type: ignore[return-value]
    if not hasattr(model, "head_specs"):
        inside = [m for m in model.modules() if _has_info(m) or hasattr(m, "head_specs")]
        if len(inside) > 1:
            raise InputError(
                f"{type(model).__name__} holds {len(inside)} networks, whose heads, levels and "
                "schedules may differ: give one of them"
            )
        if inside:
            return info_of(inside[0])
    shape, stride = getattr(model, "input_shape", None), getattr(model, "stride", 1)
    return NetworkInfo(
        heads=tuple(getattr(model, "head_specs", None) or ()),
        class_names=tuple(getattr(model, "class_names", None) or ()),
        input_shape=None if shape is None else tuple(shape),
        stride=stride if isinstance(stride, int) else 1,  # a convolution's is a pair
        levels=getattr(model, "levels", None),
        schedule=getattr(model, "schedule", None),
        precision=getattr(model, "precision", "fp32"),
    )


def _has_info(module: nn.Module) -> bool:
    return isinstance(getattr(module, "info", None), NetworkInfo)


def heads_of(model: nn.Module) -> tuple[HeadSpec, ...]:
    """What the output maps of a detector mean.

    :param model: a detector
    :raises InputError: if that is not known
    """
    heads = info_of(model).heads
    if not heads:
        raise InputError(
            f"{type(model).__name__} has no head_specs, so its maps cannot be decoded: "
            "set model.head_specs to a tuple of sj_lowlat.detect.HeadSpec, one per map"
        )
    return heads


def schedule_for(
    model: nn.Module, schedule: Schedule | str | int | None = None, **changes: int | None
) -> Schedule:
    """How to run a spiking network.

    :param model: a spiking network
    :param schedule: a schedule, its written form, or time steps alone; by default the network's own, else as
        many steps as levels
    :param changes: fields of the schedule with other values; ``None`` for no change. With ``time_steps`` and
        no schedule the others have the defaults of :class:`~sj_lowlat.schedule.Schedule`
    :return: the schedule, its charge known: by default the network's levels, else its time steps
    :raises InputError: if there can be no such run
    """
    info = info_of(model)
    changes = {name: value for name, value in changes.items() if value is not None}
    if "levels" in changes:  # the name of version 0.1
        changes["charge"] = changes.pop("levels")
    unknown = sorted(changes.keys() - set(Schedule.__dataclass_fields__))
    if unknown:
        raise TypeError(
            f"unexpected argument {unknown[0]!r}; a schedule has {', '.join(Schedule.__dataclass_fields__)}"
        )
    if isinstance(schedule, str):
        schedule = Schedule.parse(schedule)
    elif schedule is not None and not isinstance(schedule, Schedule):
        schedule = Schedule(schedule)
    elif schedule is None and "time_steps" in changes:
        schedule = Schedule(changes["time_steps"])  # type: ignore[arg-type]
    elif schedule is None:
        schedule = info.schedule or (Schedule(info.levels) if info.levels else None)
    if schedule is None:
        raise InputError("the network does not know its levels: give time_steps, for instance 16")
    schedule = replace(schedule, **changes)  # type: ignore[arg-type]
    return schedule if schedule.charge else replace(schedule, charge=info.levels or schedule.time_steps)
