"""What all kinds of detection heads have in common, and heads whose decoder the user writes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from sj_lowlat.errors import InputError

#: boxes ``[N, M, 4]`` (x1, y1, x2, y2 in pixels of the network input) and scores ``[N, M, K]`` in [0, 1]
Decoded = tuple[Tensor, Tensor]


class Head(ABC):
    """What one or several output tensors of a detector mean. A kind of head is a frozen dataclass that
    derives from this; JSON can hold its fields.
    """

    #: name -> kind, for records in JSON
    kinds: ClassVar[dict[str, type[Head]]] = {}
    num_classes: int

    def __init_subclass__(cls) -> None:
        Head.kinds[cls.__name__] = cls

    @property
    def outputs(self) -> int:
        """How many of the network's output tensors it reads."""
        return 1

    @abstractmethod
    def decode(self, outputs: Sequence[Tensor]) -> Decoded:
        """Boxes and scores.

        :param outputs: :attr:`outputs` tensors ``[N, *]``, of the network
        :raises InputError: for tensors of another shape
        """

    def candidates(self, outputs: Sequence[Tensor], score_threshold: float) -> list[Decoded]:
        """For each image boxes ``[M, 4]`` and scores ``[M, K]``, at least of every box that scores more than
        ``score_threshold``."""
        return list(zip(*self.decode(outputs), strict=True))

    def to_json(self) -> dict[str, Any]:
        """The fields as plain types."""
        return {"type": type(self).__name__, **asdict(self)}  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Head:
        """The head that :meth:`to_json` described.

        :raises KeyError, TypeError, InputError: for anything else
        """
        fields = dict(record)
        kind = Head.kinds[fields.pop("type", "HeadSpec")]  # version 0.1 had one kind
        return kind.of_fields({name: as_tuples(value) for name, value in fields.items()})

    @classmethod
    def of_fields(cls, fields: Mapping[str, Any]) -> Self:
        """The head with these values, lists being tuples."""
        return cls(**fields)


def as_tuples(value: Any) -> Any:
    """A value of JSON, its lists being tuples."""
    return tuple(map(as_tuples, value)) if isinstance(value, list) else value


#: name -> function of a head's output tensors, see :func:`register_decode`
_DECODERS: dict[str, Callable[..., Decoded]] = {}


def register_decode(name: str, decode: Callable[..., Decoded]) -> None:
    """Register a decoder of your own for :class:`CustomHead`.

    :param name: under which saved networks know it; a program that loads one registers it as well
    :param decode: takes the head's output tensors ``[N, *]`` one by one, returns boxes ``[N, M, 4]`` (x1, y1,
        x2, y2 in pixels of the network input) and scores ``[N, M, K]`` in [0, 1]
    :raises InputError: for a name that is no string, or something that cannot be called
    """
    if not isinstance(name, str) or not name or not callable(decode):
        raise InputError(f"register_decode takes a name and a function; got {name!r} and {decode!r}")
    _DECODERS[name] = decode


@dataclass(frozen=True)
class CustomHead(Head):
    """A head whose decoder the user wrote: see :func:`register_decode`.

    :param name: of the decoder
    :param reads: how many output tensors it takes
    :raises InputError: if ``num_classes`` or ``reads`` is below 1
    """

    name: str
    num_classes: int
    reads: int = 1

    def __post_init__(self) -> None:
        if min(self.num_classes, self.reads) < 1:
            raise InputError(f"num_classes and reads must be 1 or more; got {self}")

    @property
    def outputs(self) -> int:
        return self.reads

    def decode(self, outputs: Sequence[Tensor]) -> Decoded:
        if self.name not in _DECODERS:
            raise InputError(
                f"the network's head needs the decoder {self.name!r}, which this program has not registered: "
                f"call sj_lowlat.detect.register_decode({self.name!r}, function) first"
            )
        boxes, scores = _DECODERS[self.name](*outputs)
        n = len(outputs[0])
        wrong = boxes.shape[:2] != scores.shape[:2] or boxes.shape[2:] != (4,) or len(boxes) != n
        if wrong or scores.shape[2:] != (self.num_classes,):
            raise InputError(
                f"the decoder {self.name!r} returned {list(boxes.shape)} and {list(scores.shape)}; it must "
                f"return boxes [{n}, M, 4] and scores [{n}, M, {self.num_classes}]"
            )
        return boxes.float(), scores.float()


def shared_out(outputs: Any, heads: Sequence[Head]) -> list[tuple[Head, list[Tensor]]]:
    """The output tensors of a network, each with the head that reads them, in order.

    :param outputs: what the network returned: a tensor, or tensors in tuples, lists and dictionaries
    :raises InputError: if their number, their batch or their values cannot be right
    """
    tensors = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]
    wanted = sum(head.outputs for head in heads)
    if not heads or len(tensors) != wanted:
        raise InputError(
            f"decode needs one HeadSpec per head map: the {len(heads)} heads read {wanted} maps, and "
            f"{len(tensors)} came"
        )
    if len({head.num_classes for head in heads}) > 1:
        raise InputError(f"all heads must have the same classes; got {[head.num_classes for head in heads]}")
    for index, tensor in enumerate(tensors):
        if not tensor.dim() or not tensor.is_floating_point():
            raise InputError(
                f"head map {index} is {tensor.dtype} {list(tensor.shape)}; it needs floating point [N, *]"
            )
        if not all_finite(tensor):
            found = "NaN" if torch.isnan(tensor).any() else "infinity"
            raise InputError(f"head map {index} holds {found}: look for it in the images and in the weights")
    if len(set(map(len, tensors))) > 1:
        raise InputError(f"head maps have different batch sizes: {list(map(len, tensors))}")
    rest = iter(tensors)
    return [(head, [next(rest) for _ in range(head.outputs)]) for head in heads]


def all_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite; a sum tells it fastest, unless it overflows."""
    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())


def cells_of(grids: Iterable[tuple[int, int]], device: torch.device) -> list[Tensor]:
    """Column and row of every cell of each grid, ``[rows * columns, 2]``, row by row."""
    return [
        torch.stack(
            torch.meshgrid(
                torch.arange(columns, dtype=torch.float32, device=device),
                torch.arange(rows, dtype=torch.float32, device=device),
                indexing="xy",
            ),
            -1,
        ).flatten(0, 1)
        for rows, columns in grids
    ]
