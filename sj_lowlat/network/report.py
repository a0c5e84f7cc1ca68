"""What a conversion did, layer by layer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from sj_lowlat.errors import printable
from sj_lowlat.record import table


@dataclass
class LayerReport:
    """One weighted layer.

    :param layer: its name
    :param kind: its type
    :param folded: name of the batch norm that was folded into it, or ``None``
    :param activation: name of the activation that became neurons, or ``None`` for a read-out
    :param neuron: type of the neurons (x4: up to 4 spikes a step), or what else became of it
    :param scale: what one spike a step stands for, which is its activation's scale (lambda) over the spikes a
        step: one number, or smallest and largest of the channels'
    :param scale_in: smallest and largest scale of its input channels
    """

    layer: str
    kind: str
    folded: str | None
    activation: str | None
    neuron: str
    scale: tuple[float, ...]
    scale_in: tuple[float, ...]


@dataclass(repr=False)
class ConversionReport:
    """What was replaced, folded and converted, with each layer's scale.

    A network is converted whole or not at all: what cannot be converted is in the ``refused`` of the
    :class:`~sj_lowlat.errors.ConversionError`.

    :param layers: one entry per weighted layer, in the order of the forward pass
    :param replaced: module name -> what it was and what it became
    :param pools: max-pools that compare counts of spikes
    :param sums: sums of branches
    :param method: name of the method, or the kind of its neurons
    """

    layers: list[LayerReport] = field(default_factory=list)
    replaced: dict[str, str] = field(default_factory=dict)
    pools: list[str] = field(default_factory=list)
    sums: list[str] = field(default_factory=list)
    method: str = ""

    def to_json(self) -> dict[str, Any]:
        """The report as plain lists and dictionaries."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> ConversionReport:
        """The report that :meth:`to_json` gave, as JSON keeps it."""
        spans = ("scale", "scale_in")
        rows = [LayerReport(**{**row, **{key: tuple(row[key]) for key in spans}}) for row in record["layers"]]
        more = record.get("pools", []), record.get("sums", []), str(record.get("method", ""))
        return cls(rows, record["replaced"], *more)

    def table(self) -> str:
        """An aligned text table."""

        def span(values: tuple[float, ...]) -> str:
            return " .. ".join(f"{v:.3g}" for v in dict.fromkeys(values))

        rows = [
            (r.layer, r.kind, r.folded or "-", r.neuron, span(r.scale), span(r.scale_in)) for r in self.layers
        ]
        lines = [table(("layer", "type", "folded", "fires as", "lambda", "lambda in"), rows, left=6)]
        if self.replaced:
            lines += [
                "",
                "replaced:",
                *(printable(f"  {name}: {what}") for name, what in self.replaced.items()),
            ]
        if self.pools:
            lines += ["", printable(f"max-pools that count spikes: {', '.join(self.pools)}")]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"ConversionReport({self.method!r}, {len(self.layers)} layers, {len(self.replaced)} replaced)"

    __str__ = table
