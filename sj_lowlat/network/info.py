"""Metadata of a network: heads, classes, input, levels, schedule, report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from sj_lowlat.detect import Head
from sj_lowlat.errors import InputError
from sj_lowlat.network.report import ConversionReport
from sj_lowlat.schedule import Schedule


@dataclass(frozen=True)
class NetworkInfo:
    """Metadata of a network, immutable; a field is ``None`` or empty where it is not known.

    :param heads: what the output tensors mean, in the order of ``forward``'s outputs
    :param class_names: one name per class
    :param input_shape: ``(C, H, W)`` of the images that it is made for
    :param stride: sides of images must be multiples of this, in pixels
    :param levels: L of a quantised network, and of the spiking network that it became
    :param headroom: of a quantised network: activations have this times L levels, of the size of one of L
    :param schedule: how a spiking network is meant to be run
    :param precision: of a spiking network's inner weights: fp32, bf16 or int8
    :param report: what the conversion did
    :param replaced: module name -> what it was and what ``replace_layers`` put in its place
    :param card: of a network that ships: its origin
    """

    heads: tuple[Head, ...] = ()
    class_names: tuple[str, ...] = ()
    input_shape: tuple[int, ...] | None = None
    stride: int = 1
    levels: int | None = None
    headroom: int = 1
    schedule: Schedule | None = None
    precision: str = "fp32"
    report: ConversionReport | None = None
    replaced: Mapping[str, str] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int | None:
        """Side of the square images that it is meant for, in pixels."""
        return None if self.input_shape is None else self.input_shape[-1]

    def with_shape(self, shape: tuple[int, ...]) -> NetworkInfo:
        """A copy for images of another shape."""
        return replace(self, input_shape=shape)

    def to_json(self) -> dict[str, Any]:
        """The fields as plain types."""
        return {
            **asdict(self),
            "heads": [head.to_json() for head in self.heads],
            "schedule": None if self.schedule is None else str(self.schedule),
            "report": None if self.report is None else self.report.to_json(),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> NetworkInfo:
        """The record that :meth:`to_json` gave, as JSON keeps it.

        :raises KeyError, TypeError, ValueError, InputError: for anything else
        """
        heads = tuple(map(Head.from_json, record["heads"]))
        schedule, report, shape = record["schedule"], record["report"], record["input_shape"]
        names = tuple(record["class_names"])
        headroom = record.get("headroom", 1)  # files of before have none
        whole = [*(shape or ()), record["stride"], record["levels"] or 1, headroom]
        if not all(type(n) is int and n > 0 for n in whole) or not all(isinstance(n, str) for n in names):
            raise ValueError(f"input_shape {shape}, stride, levels, headroom or class_names cannot be so")
        return cls(
            heads=heads,
            class_names=names,
            input_shape=None if shape is None else tuple(shape),
            stride=record["stride"],
            levels=record["levels"],
            headroom=headroom,
            schedule=None if schedule is None else Schedule.parse(schedule),
            precision=str(record["precision"]),
            report=None if report is None else ConversionReport.from_json(report),
            replaced=dict(record["replaced"]),
            card=dict(record["card"]),
        )


def _field(name: str, doc: str) -> Any:
    """A property that reads and sets a field of ``info``."""

    def get(network: WithInfo) -> Any:
        return getattr(network.info, name)

    def put(network: WithInfo, value: Any) -> None:
        network.info = replace(network.info, **{name: value})

    return property(get, put, doc=doc)


class WithInfo:
    """Mixin of networks that carry a :class:`NetworkInfo`; its fields can be read and set as attributes."""

    info: NetworkInfo

    head_specs = _field("heads", "What each output map means.")
    class_names = _field("class_names", "One name per class.")
    input_shape = _field("input_shape", "``(C, H, W)`` of the images that it is meant for.")
    stride = _field("stride", "Sides of images must be multiples of this, in pixels.")
    levels = _field("levels", "L of a quantised network; ``None`` for another one.")
    schedule = _field("schedule", "How the spiking network is meant to be run.")
    precision = _field("precision", "Of the inner weights: fp32, bf16 or int8.")
    conversion_report = _field("report", "What the conversion did.")
    replaced = _field("replaced", "Module name -> what it was and what took its place.")
    card = _field("card", "Origin of a network that ships.")

    @property
    def input_size(self) -> int | None:
        """Side of the square images that it is meant for, in pixels."""
        return self.info.size

    def check_input(self, x: Tensor) -> None:
        """Refuse a batch that the layers cannot take.

        :param x: ``[N, C, H, W]``
        :raises InputError: if the number of axes, channels or a side is wrong
        """
        shape, stride = self.info.input_shape, self.info.stride
        if shape is None or len(shape) != 3 or stride == 1:
            return
        if x.ndim != 4 or x.shape[1] != shape[0] or x.shape[2] % stride or x.shape[3] % stride:
            raise InputError(
                f"the network takes images [N, {shape[0]}, H, W] with H and W multiples of {stride}; "
                f"got {list(x.shape)}: letterbox the images to input_size={self.input_size}"
            )


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside :class:`~sj_lowlat.detector.Detector`, ``DistributedDataParallel``, ``DataParallel``
    and ``torch.compile``.

    :param model: a network, wrapped or not
    """
    while True:
        inner = getattr(model, "_orig_mod", None)  # torch.compile
        if inner is None and isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            inner = model.module
        if inner is None:
            inner = getattr(model, "_wrapped_network", None)  # a Detector, which stands floors above
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def info_of(model: nn.Module) -> NetworkInfo:
    """Metadata of a network: its ``info``; for a network of your own, from its attributes ``head_specs``,
    ``class_names``, ``input_shape`` and ``stride``.

    :param model: a network, wrapped or not; a container of one such network and other layers (a normalisation
        in front of a detector) gives that network's
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
    )


def _has_info(module: nn.Module) -> bool:
    return isinstance(getattr(module, "info", None), NetworkInfo)


def heads_of(model: nn.Module) -> tuple[Head, ...]:
    """What the output maps of a detector mean.

    :param model: a detector
    :raises InputError: if that is not known
    """
    heads = info_of(model).heads
    if not heads:
        raise InputError(
            f"{type(model).__name__} has no head_specs, so its maps cannot be decoded: set model.head_specs "
            "to a tuple of heads of sj_lowlat.detect (HeadSpec for YOLO, YOLOXHead, AnchorHead, CustomHead)"
        )
    return heads


def schedule_for(
    model: nn.Module, schedule: Schedule | str | int | None = None, **changes: int | None
) -> Schedule:
    """The schedule of a run of a spiking network, complete.

    :param model: a spiking network
    :param schedule: a schedule, its written form, or time steps alone; by default the network's own, else as
        many steps as levels
    :param changes: fields of the schedule with other values; ``None`` for no change. With ``time_steps`` and
        no schedule the others have the defaults of :class:`~sj_lowlat.schedule.Schedule`
    :return: the schedule, its charge known: by default the network's levels, else its time steps
    :raises InputError: if a value is not possible, or the time steps are not known
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
