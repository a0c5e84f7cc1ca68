"""One row per layer: scale, rates, remainders, operations, energy."""

from __future__ import annotations

from dataclasses import dataclass

from sj_lowlat.evaluation.energy import AC_PJ, MAC_PJ
from sj_lowlat.monitors import FiringRateMonitor, RemainderMonitor, SynOpMonitor
from sj_lowlat.network import ConversionReport, LayerReport


@dataclass(frozen=True)
class Row:
    """A layer with weights and the neurons that it drives; ``None`` where a part is missing.

    :param layer: name of the layer with weights, or of neurons that no such layer drives alone
    :param fires_as: type of the neurons
    :param scale: what one spike a step stands for: one number, or smallest and largest of the channels'
    :param neurons: per picture
    :param rate: spikes per neuron and step
    :param remainder: mean of \\|Re\\|, in thresholds
    :param exact: share of neurons that fired as often as their quantised ReLU wants; ``over`` and ``under``:
        more and less often
    :param acs: accumulates of the layer with weights per picture
    :param macs: its multiply-accumulates per picture
    :param microjoules: their energy
    """

    layer: str
    fires_as: str
    scale: tuple[float, ...]
    neurons: int | None = None
    rate: float | None = None
    remainder: float | None = None
    exact: float | None = None
    over: float | None = None
    under: float | None = None
    acs: float | None = None
    macs: float | None = None
    microjoules: float | None = None


def layer_rows(
    conversion: ConversionReport | None,
    rates: FiringRateMonitor,
    remainders: RemainderMonitor,
    operations: SynOpMonitor,
) -> list[Row]:
    """Join what a conversion said and what monitors of one run counted, in the order of the network.

    :param conversion: tells which neurons belong to which layer; without it, each has a row of its own
    """
    told = {row.layer: row for row in conversion.layers} if conversion else {}
    fired = {layer.name: layer for layer in rates.layers()}
    left = {layer.name: layer for layer in remainders.layers()}
    images = max(operations.images, 1)
    rows, placed = [], set()

    def row(
        name: str, report: LayerReport | None, neurons: str | None, acs: float | None, macs: float
    ) -> Row:
        rate, rest = fired.get(neurons or ""), left.get(neurons or "")
        return Row(
            layer=name,
            fires_as=report.neuron if report else "",
            scale=tuple(dict.fromkeys(report.scale)) if report else (),
            neurons=rate.neurons if rate else None,
            rate=rate.rate if rate else None,
            remainder=rest.mean_abs_re if rest else None,
            exact=rest.exact if rest else None,
            over=rest.over_fired if rest else None,
            under=rest.under_fired if rest else None,
            acs=acs,
            macs=None if acs is None else macs,
            microjoules=None if acs is None else (acs * AC_PJ + macs * MAC_PJ) / 1e6,
        )

    for ops in operations.layers():
        report = told.get(ops.name)
        neurons = report.activation if report else None
        placed.add(neurons)
        rows.append(row(ops.name, report, neurons, ops.synops / images, ops.macs / images))
    return rows + [row(name, None, name, None, 0.0) for name in fired if name not in placed]
